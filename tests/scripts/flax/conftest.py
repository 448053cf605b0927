"""Scripts as people write them for transformers 4, with other import lines, and something small for them to work on.

Where the package `transformers` is not installed, the stand-in of the TensorFlow scripts serves.
"""

import importlib.util
import json
import os
import runpy
from pathlib import Path

import numpy as np
import pytest

from vit_core import ViTConfig, ViTImageProcessor, parameters
from vit_core.checkpoint import save_checkpoint
from vit_core.stored_tensor import from_numpy

SCRIPTS = Path(__file__).parent
STAND_IN = SCRIPTS.parent / "tensorflow" / "stand_ins" / "transformers"

if importlib.util.find_spec("jax") and importlib.util.find_spec("flax") and importlib.util.find_spec("optax"):
    flags = "--xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0"  # tests run in parallel
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
else:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a script as its own process would: (script, arguments, with transformers' models or ours) -> its results."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if importlib.util.find_spec("transformers") is None:
        monkeypatch.syspath_prepend(STAND_IN)

    def run(script, *arguments, output, before=False):
        source = (SCRIPTS / script).read_text()
        if before:  # the script as it was, before its import lines were changed
            source = source.replace(
                "from vit_flax.modeling import", "from transformers.models.vit.modeling_flax_vit import"
            )
            source = source.replace("from vit_flax import", "from transformers import")
        copy = tmp_path / script
        copy.write_text(source)
        monkeypatch.setattr("sys.argv", [script, *map(str, arguments)])
        runpy.run_path(str(copy), run_name="__main__")
        return json.loads((Path(output) / "all_results.json").read_text())

    return run


@pytest.fixture(scope="session")
def pictures(draw_pictures):
    """A folder of pictures for training and one for validation, each with reddish and bluish ones."""
    return draw_pictures((32, 32), validation=4)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Saves a checkpoint with its image processor, the same wherever it is made: (task) -> its folder."""

    def saved(task="image-classification"):
        config = ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            image_size=32,
            patch_size=8,
            architectures=["ViTModel" if task == "model" else "ViTForImageClassification"],
        )
        folder, generator, weights = tmp_path_factory.mktemp("checkpoint"), np.random.default_rng(0), {}
        for row in parameters(config, task):
            drawn = generator.normal(0, 0.1, row.shape).astype(np.float32)
            weights[row.name] = from_numpy(drawn + (row.initializer == "ones"))
        save_checkpoint(folder, config, weights)
        ViTImageProcessor(size=32).save_pretrained(folder)
        return folder

    return saved
