"""What lies beside a lone file of weights and is not about it does no harm, whatever it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import conversion
from conversion import AutoImageProcessor
from conversion.checkpoint import open_for_loading
from vit_core.hub import locate

GIVEN: dict[str, Any] = {"num_attention_heads": 4, "layer_norm_eps": 1e-12, "hidden_act": "gelu", "num_labels": 10}

CONFIGS = {
    "a model of another type": '{"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 2}',
    "a relative of ViT": '{"model_type": "deit", "hidden_size": 32, "num_attention_heads": 2}',
    "a type that is no text": '{"model_type": ["vit"], "hidden_size": 32}',
    "timm's, with another pooling": '{"architecture": "vit_tiny_patch16_224", "global_pool": "avg"}',
    "timm's, with an activation that we lack": '{"architecture": "x", "model_args": {"act_layer": "hard_swish"}}',
    "timm's, with a broken pretrained_cfg": '{"architecture": "x", "pretrained_cfg": {"mean": "?"}, "model_args": 3}',
    "KerasHub's, with another pooling": '{"registered_name": "keras_hub>ViTBackbone", "config": 3}',
    "a ViT of other sizes": '{"model_type": "vit", "hidden_size": 48, "num_attention_heads": 2}',
    "broken": "{",
    "empty": "",
    "no text": "\x00\x01",
    "a list": "[1, 2]",
    "a number": "3",
    "null": "null",
    "nested without end": "[" * 100_000,
}


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def beside(request: pytest.FixtureRequest, fixture_folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies a fixture's weights by themselves, beside a config.json that is not about them."""

    def copied(name: str) -> Path:
        (tmp_path / "config.json").write_text(request.param)
        return Path(shutil.copy(fixture_folder / name, tmp_path))

    return copied


SOURCES = [
    "hf_vit_classifier/model.safetensors",
    "hf_vit_classifier/tf_model.h5",
    "google_jax/published.npz",
    "dino_vit/backbone.pth",
]


@pytest.mark.parametrize("name", SOURCES)
def test_a_config_of_something_else_beside_a_lone_file_is_ignored(
    beside: Any, fixture_folder: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "alone").mkdir()
    alone = conversion.load(shutil.copy(fixture_folder / name, tmp_path / "alone"), **GIVEN)
    file = beside(name)
    found = conversion.load(file, **GIVEN)
    assert (found.format, found.config, found.preprocessing) == (alone.format, alone.config, alone.preprocessing)
    opened = open_for_loading(locate(file), GIVEN)
    assert (
        opened.config["layer_norm_eps"] == conversion.load(alone.files[-1], num_attention_heads=4).config.layer_norm_eps
    )


def test_the_processor_of_a_lone_file_ignores_it_too(beside: Any) -> None:
    processor = AutoImageProcessor.from_pretrained(beside("google_jax/published.npz"))
    assert processor.size == {"height": 32, "width": 32}


PROCESSORS = ["{", "[]", "null", "\x00", '{"image_processor_type": "WhisperFeatureExtractor"}', "{}"]


@pytest.mark.parametrize("content", PROCESSORS, ids=str)
def test_a_broken_preprocessor_config_beside_a_lone_file_is_ignored(
    fixture_folder: Path, tmp_path: Path, content: str
) -> None:
    file = shutil.copy(fixture_folder / "google_jax/published.npz", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(content)
    assert AutoImageProcessor.from_pretrained(file).image_mean == [0.5, 0.5, 0.5]
    assert conversion.load(file).preprocessing["image_mean"] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("content", ["{", "[]", "null"])
def test_a_broken_one_beside_a_config_that_fits_is_ignored_too(
    fixture_folder: Path, tmp_path: Path, convert: Any, content: str
) -> None:
    folder = convert(fixture_folder / "google_jax/published.npz", "google", "folder")
    (folder / "preprocessor_config.json").write_text(content)
    assert AutoImageProcessor.from_pretrained(folder / "google.npz").image_mean == [0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match=r"preprocessor_config\.json"):  # in a folder it is about the weights
        AutoImageProcessor.from_pretrained(folder)


@pytest.mark.parametrize("config", [None, '{"model_type": "bert"}', "{"])
def test_a_lone_file_of_transformers_takes_the_processor_that_the_file_beside_it_names(
    fixture_folder: Path, tmp_path: Path, config: str | None
) -> None:
    """Nothing else says how it was trained, and a processor of images is about no model but this."""
    file = shutil.copy(fixture_folder / "hf_vit_classifier/model.safetensors", tmp_path)
    settings = json.loads((fixture_folder / "hf_vit_classifier/preprocessor_config.json").read_text())
    settings["image_mean"] = [0.1, 0.2, 0.3]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert AutoImageProcessor.from_pretrained(file).image_mean == [0.1, 0.2, 0.3]
    del settings["image_processor_type"]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"names no image_processor_type, and the model type is (None|'bert')"):
        AutoImageProcessor.from_pretrained(file)
