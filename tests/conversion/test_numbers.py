"""Checkpoints that other people's code wrote give the answers of that code in every framework that is installed."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conversion
from conversion.containers.weights_file import read_weights
from conversion.proof.frameworks import FRAMEWORKS

TOLERANCE = 1e-5
HEADS = {"num_attention_heads": 4}  # which most files do not tell

Arrays = dict[str, np.ndarray]
Runs = Callable[..., Any]

#: A file or folder, and what `from_pretrained` must be told of it.
CLASSIFIERS = [
    ("google_jax/published.npz", {}),
    ("google_jax/linen.npz", {}),
    ("google_jax_representation/published.npz", {}),
    ("google_jax_representation/linen.npz", {}),
    ("timm_vit", {}),
    ("torchvision_vit/vit.pth", HEADS),
    ("hf_vit_classifier/pytorch_model.bin", {}),
    ("hf_vit_classifier/tf_model.h5", {}),
    ("hf_vit_classifier/flax_model.msgpack", {}),
    ("keras_functional/classifier.h5", {}),
    ("keras_functional/classifier.keras", {}),
]
BASE_MODELS = ["hf_vit_model/pytorch_model.bin", "hf_vit_model/tf_model.h5", "hf_vit_model/flax_model.msgpack"]


@pytest.fixture(scope="module", params=FRAMEWORKS)
def run(request: pytest.FixtureRequest, fixture_folder: Path) -> Runs:
    """Loads a fixture in a framework and runs it; a framework that is not installed is skipped."""
    framework = FRAMEWORKS[request.param]
    if framework.missing:
        pytest.skip(f"{framework.missing} is not installed")
    package = framework.load_package()
    if request.param == "torch":
        importlib.import_module("torch").set_num_threads(1)  # tests run in parallel

    def load_and_run(source: str, architecture: str, pixels: np.ndarray, **options: Any) -> Any:
        model = getattr(package, architecture).from_pretrained(fixture_folder / source, **options)
        return framework.forward(model, {"pixel_values": pixels}, True, True)

    return load_and_run


def close(found: Any, expected: np.ndarray) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("source", "told"), CLASSIFIERS)
def test_a_foreign_classifier_gives_its_own_logits(run: Runs, expected: Any, source: str, told: Any) -> None:
    results = expected(source.split("/")[0])
    close(run(source, "ViTForImageClassification", results["pixel_values"], **told).logits, results["logits"])


@pytest.mark.parametrize("source", BASE_MODELS)
def test_a_foreign_base_model_gives_its_own_states(run: Runs, expected: Any, source: str) -> None:
    results = expected("hf_vit_model")
    output = run(source, "ViTModel", results["pixel_values"])
    close(output.last_hidden_state, results["last_hidden_state"])
    close(output.pooler_output, results["pooler_output"])


#: The models that read presets of KerasHub, and the sizes of images that there are answers for.
KERAS_HUB = {
    "dinov2": ("Dinov2WithRegistersModel", ("", "_large")),
    "dinov3": ("DINOv3ViTModel", ("", "_large")),
    "siglip": ("SiglipVisionModel", ("",)),
    "clip": ("CLIPVisionModelWithProjection", ("",)),
}


@pytest.mark.filterwarnings("ignore:.*the text tower, .* is left out")
@pytest.mark.parametrize("name", KERAS_HUB)
def test_a_preset_of_keras_hub_gives_its_own_answers(run: Runs, expected: Any, name: str) -> None:
    """The smaller images have another size than DINOv2's positions are for, and DINOv3's larger ones are no square."""
    results = expected(f"keras_hub/{name}")
    architecture, sizes = KERAS_HUB[name]
    for size in sizes:
        output = run(f"keras_hub/{name}", architecture, results[f"pixel_values{size}"])
        answers = {key.removesuffix(size): value for key, value in results.items() if key.endswith(size)}
        for key in ("last_hidden_state", "pooler_output", "image_embeds"):
            if key in answers:
                close(getattr(output, key), answers[key])


UNTOLD = {"num_attention_heads": 2, "layer_norm_eps": 1e-3, "hidden_act": "relu"}


@pytest.mark.parametrize(("file", "told"), [("model.h5", {}), ("weights.h5", UNTOLD), ("model.keras", {})])
def test_the_vit_in_a_functional_keras_model_gives_its_own_states(
    run: Runs, expected: Any, file: str, told: Any
) -> None:
    results = expected("keras_functional")
    output = run(f"keras_functional/{file}", "ViTModel", results["pixel_values"], **told)
    close(output.last_hidden_state, results["last_hidden_state"])


@pytest.mark.filterwarnings("ignore:.*this model has no such tensors")  # the classifier
def test_the_features_of_timm_are_the_last_hidden_state(run: Runs, expected: Any) -> None:
    results = expected("timm_vit")
    output = run("timm_vit", "ViTModel", results["pixel_values"], add_pooling_layer=False)
    close(output.last_hidden_state, results["features"])


@pytest.mark.filterwarnings("ignore:.* the one under 'teacher.backbone' is read")  # the student is there, too
@pytest.mark.parametrize("file", ["backbone.pth", "full_checkpoint.pth"])
def test_the_backbone_and_the_teacher_of_dino_give_its_class_token_and_its_attention(
    run: Runs, expected: Any, file: str
) -> None:
    results = expected("dino_vit")
    output = run(f"dino_vit/{file}", "ViTModel", results["pixel_values"], add_pooling_layer=False, **HEADS)
    close(np.asarray(output.last_hidden_state)[:, 0], results["cls"])
    close(output.attentions[-1], results["last_attention"])


def test_the_encoder_of_transformers_mae_gives_its_states_in_another_order(run: Runs, expected: Any) -> None:
    """Without masking it still sorts the patches by their noise, which changes nothing but their order."""
    results = expected("hf_vit_mae")
    found = np.asarray(
        run("hf_vit_mae", "ViTModel", results["pixel_values"], add_pooling_layer=False).last_hidden_state
    )
    order = np.argsort(results["encoder/noise"], axis=1)
    patches = np.take_along_axis(found[:, 1:], order[:, :, None], axis=1)
    close(np.concatenate([found[:, :1], patches], axis=1), results["encoder/last_hidden_state"])


# facebookresearch/mae returns only what its decoder makes of the patches that are not masked. What stands here is that
# model in numpy: it gives the published prediction from the tensors that conversion reads, and so its encoder, over all
# patches, is what a framework must give.


def test_numpy_reaches_the_prediction_of_mae(expected: Any, mae: NumpyMae) -> None:
    results = expected("mae_vit")
    order = np.argsort(results["noise"], axis=1)
    kept = int(order.shape[1] * (1 - float(results["mask_ratio"])))
    assert np.array_equal(results["mask"], np.argsort(order, axis=1) >= kept)  # the fixture's own mask: 1 is masked
    close(mae.decode(mae.encode(results["pixel_values"], order[:, :kept]), order), results["pred"])


def test_the_encoder_of_mae_over_all_patches(run: Runs, expected: Any, mae: NumpyMae) -> None:
    pixels = expected("mae_vit")["pixel_values"]
    options = {"add_pooling_layer": False, **HEADS}
    close(run("mae_vit/pretrain.pth", "ViTModel", pixels, **options).last_hidden_state, mae.encode(pixels))


class NumpyMae:
    """The encoder of models_mae.py from canonical tensors, and its decoder from the file's own."""

    def __init__(self, encoder: Arrays, decoder: Arrays) -> None:
        self.encoder, self.decoder = encoder, decoder

    def encode(self, pixels: np.ndarray, kept: np.ndarray | None = None) -> np.ndarray:
        positions = self.encoder["embeddings.position_embeddings"]
        kernel = self.encoder["embeddings.patch_embeddings.projection.weight"]
        size = kernel.shape[-1]
        images, channels, height, width = pixels.shape
        patches = pixels.reshape(images, channels, height // size, size, width // size, size)
        patches = patches.transpose(0, 2, 4, 1, 3, 5).reshape(images, -1, channels * size * size)
        tokens = patches @ kernel.reshape(len(kernel), -1).T
        tokens = tokens + self.encoder["embeddings.patch_embeddings.projection.bias"] + positions[:, 1:]
        if kept is not None:
            tokens = np.take_along_axis(tokens, kept[:, :, None], axis=1)
        first = np.broadcast_to(self.encoder["embeddings.cls_token"] + positions[:, :1], (images, 1, len(kernel)))
        tokens = np.concatenate([first, tokens], axis=1)
        for number in range(3):
            layer = f"encoder.layer.{number}."
            parts = {name.removeprefix(layer): value for name, value in self.encoder.items() if name.startswith(layer)}
            normed = norm(tokens, parts["layernorm_before.weight"], parts["layernorm_before.bias"])
            projected = [
                normed @ parts[f"attention.attention.{part}.weight"].T + parts[f"attention.attention.{part}.bias"]
                for part in ("query", "key", "value")
            ]
            seen = attention(*projected, heads=4)
            tokens = tokens + seen @ parts["attention.output.dense.weight"].T + parts["attention.output.dense.bias"]
            normed = norm(tokens, parts["layernorm_after.weight"], parts["layernorm_after.bias"])
            wide = gelu(normed @ parts["intermediate.dense.weight"].T + parts["intermediate.dense.bias"])
            tokens = tokens + wide @ parts["output.dense.weight"].T + parts["output.dense.bias"]
        return norm(tokens, self.encoder["layernorm.weight"], self.encoder["layernorm.bias"])

    def decode(self, tokens: np.ndarray, order: np.ndarray) -> np.ndarray:
        own = self.decoder
        tokens = tokens @ own["decoder_embed.weight"].T + own["decoder_embed.bias"]
        images, missing = len(tokens), order.shape[1] + 1 - tokens.shape[1]
        masked = np.broadcast_to(own["mask_token"], (images, missing, tokens.shape[2]))
        patches = np.concatenate([tokens[:, 1:], masked], axis=1)
        patches = np.take_along_axis(patches, np.argsort(order, axis=1)[:, :, None], axis=1)
        tokens = np.concatenate([tokens[:, :1], patches], axis=1) + own["decoder_pos_embed"]
        for number in range(2):
            block = f"decoder_blocks.{number}."
            parts = {name.removeprefix(block): value for name, value in own.items() if name.startswith(block)}
            normed = norm(tokens, parts["norm1.weight"], parts["norm1.bias"])
            joint = normed @ parts["attn.qkv.weight"].T + parts["attn.qkv.bias"]
            seen = attention(*np.split(joint, 3, axis=-1), heads=2)
            tokens = tokens + seen @ parts["attn.proj.weight"].T + parts["attn.proj.bias"]
            normed = norm(tokens, parts["norm2.weight"], parts["norm2.bias"])
            wide = gelu(normed @ parts["mlp.fc1.weight"].T + parts["mlp.fc1.bias"])
            tokens = tokens + wide @ parts["mlp.fc2.weight"].T + parts["mlp.fc2.bias"]
        tokens = norm(tokens, own["decoder_norm.weight"], own["decoder_norm.bias"])
        return (tokens @ own["decoder_pred.weight"].T + own["decoder_pred.bias"])[:, 1:]


def norm(tokens: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    centred = tokens - tokens.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6) * scale + shift


def gelu(values: np.ndarray) -> np.ndarray:
    return values * 0.5 * (1 + np.vectorize(math.erf)(values / math.sqrt(2)))


def attention(query: np.ndarray, key: np.ndarray, value: np.ndarray, heads: int) -> np.ndarray:
    images, tokens, width = query.shape
    split = [part.reshape(images, tokens, heads, -1).transpose(0, 2, 1, 3) for part in (query, key, value)]
    scores = split[0] @ split[1].transpose(0, 1, 3, 2) / math.sqrt(width // heads)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights @ split[2]).transpose(0, 2, 1, 3).reshape(images, tokens, width)


@pytest.fixture(scope="module")
def mae(fixture_folder: Path) -> NumpyMae:
    file = fixture_folder / "mae_vit/pretrain.pth"
    canonical = conversion.load(file, **HEADS, model_type="vit").tensors
    own = read_weights(file)
    return NumpyMae(
        {name: tensor.read().astype(np.float64) for name, tensor in canonical.items()},
        {name.removeprefix("model/"): tensor.read().astype(np.float64) for name, tensor in own.items()},
    )
