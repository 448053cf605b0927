"""What the tests of the Flax backend share; without JAX and Flax they are not collected."""

import importlib.util
import os

import numpy as np
import pytest

if importlib.util.find_spec("jax") and importlib.util.find_spec("flax"):
    flags = (
        "--xla_force_host_platform_device_count=8 "  # for meshes
        "--xla_cpu_multi_thread_eigen=false "  # tests run in parallel
        # Compile six times as fast; what runs is slower and has the same numbers.
        "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
        "--xla_cpu_parallel_codegen_split_count=1"
    )
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import vit_flax
    from vit_flax import ViTConfig
else:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def load(fixture_folder):
    """Load a reference checkpoint and the results that belong to it."""

    def load(name, **options):
        folder = fixture_folder / name
        architecture = ViTConfig.from_pretrained(folder).architectures[0]
        with np.load(folder / "expected.npz") as results:
            expected = dict(results)
        return getattr(vit_flax, architecture).from_pretrained(folder, **options), expected

    return load


@pytest.fixture
def tiny_config():
    """A small model with two layers, on 32 x 32 images of 4 x 4 patches."""
    return ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        encoder_stride=8,
        num_labels=5,
    )
