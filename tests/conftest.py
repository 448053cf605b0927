"""What tests of every part share."""

import gc
import json
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
from hub_server import HubServer
from hypothesis import HealthCheck, settings
from safetensors.numpy import save_file

from vit_core.auto import CONFIGS

# A busy machine is no reason to fail: speed is for benchmarks.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _known_types() -> Iterator[None]:
    """What a test registers with the Auto classes is known to that test alone."""
    before = dict(CONFIGS)
    yield
    CONFIGS.clear()
    CONFIGS.update(before)


@pytest.fixture(autouse=True, scope="module")
def _little_to_collect() -> Iterator[None]:
    """Have Python's collector look at the objects of this file's tests alone.

    Keras collects for each layer that it quantizes or loads, which takes seconds among the objects of a thousand tests.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def fixture_folder() -> Path:
    """Checkpoints and results written by other people's code; see the README there."""
    return Path(__file__).parent / "fixtures"


#: The modules of google-research/vision_transformer and the canonical names of theirs, outside and inside a layer.
GOOGLE_MODULES = {
    "embedding": "vit.embeddings.patch_embeddings.projection",
    "Transformer/encoder_norm": "vit.layernorm",
    "pre_logits": "vit.pooler.dense",
    "head": "classifier",
}
GOOGLE_LAYER_MODULES = {
    "LayerNorm_0": "layernorm_before",
    "LayerNorm_2": "layernorm_after",
    "MultiHeadDotProductAttention_1/query": "attention.attention.query",
    "MultiHeadDotProductAttention_1/key": "attention.attention.key",
    "MultiHeadDotProductAttention_1/value": "attention.attention.value",
    "MultiHeadDotProductAttention_1/out": "attention.output.dense",
    "MlpBlock_3/Dense_0": "intermediate.dense",
    "MlpBlock_3/Dense_1": "output.dense",
}


@pytest.fixture
def google_representation(fixture_folder: Path, tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Google's classifier on a representation layer as a checkpoint of this project, mapped here by hand.

    Returns:
        The folder, and Google's own `pixel_values` and `logits`.
    """
    source, folder = fixture_folder / "google_jax_representation", tmp_path / "google_representation"
    with np.load(source / "published.npz") as file:
        published = dict(file)
    weights = {
        "vit.embeddings.cls_token": published.pop("cls"),
        "vit.embeddings.position_embeddings": published.pop("Transformer/posembed_input/pos_embedding"),
    }
    for name, array in published.items():
        module, leaf = name.rsplit("/", 1)
        if module in GOOGLE_MODULES:
            module = GOOGLE_MODULES[module]
        else:
            _, block, inner = module.split("/", 2)
            number = block.removeprefix("encoderblock_")
            module = f"vit.encoder.layer.{number}.{GOOGLE_LAYER_MODULES[inner]}"
        weights[f"{module}.{'bias' if leaf == 'bias' else 'weight'}"] = _canonical(module, leaf, array)
    config = {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 56,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "image_size": 32,
        "patch_size": 8,
        "classifier_uses_pooler": True,
        "pooler_output_size": 24,
        "pooler_act": "tanh",
        "id2label": {str(number): f"class {number}" for number in range(10)},
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors")
    with np.load(source / "expected.npz") as file:
        return folder, dict(file)


def _canonical(module: str, leaf: str, array: np.ndarray) -> np.ndarray:
    """An array of Google's with canonical axes: heads side by side, and kernels with their output first."""
    if leaf != "kernel":
        return array.reshape(-1)
    if array.ndim == 4:  # (height, width, in, out)
        return np.ascontiguousarray(array.transpose(3, 2, 0, 1))
    is_output = module.endswith("attention.output.dense")  # (heads, head_dim, out); others are (in, ...)
    kernel = array.reshape(-1, array.shape[-1]) if is_output else array.reshape(array.shape[0], -1)
    return np.ascontiguousarray(kernel.T)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """An empty Hub; the client sees neither this machine's token nor its cache, and waits for nothing."""
    server = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", server.url())
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_OIDC_RESOURCE", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)  # older clients have no such thing
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "never"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(time, "sleep", lambda _: None)  # the client waits up to 8 s between its attempts
    yield server
    server.close()
    assert not (tmp_path / "never").exists()
