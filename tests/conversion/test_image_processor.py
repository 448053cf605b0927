"""Which preprocessing a checkpoint gets: its own, its format's, or what it says in the format's words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import conversion
from conversion import AutoImageProcessor
from conversion.containers.torch_file import write_torch_file
from conversion.containers.weights_file import read_weights
from vit_core import DeiTImageProcessor, ViTImageProcessor

Folder = Callable[..., Path]
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALF = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
BILINEAR, BICUBIC = 2, 3


@pytest.mark.parametrize(
    ("source", "statistics", "resample", "edge"),
    [
        # vit_jax/input_pipeline.py: the whole image, values from -1 to 1
        ("google_jax/published.npz", HALF, BILINEAR, None),
        ("google_jax/linen.npz", HALF, BILINEAR, None),
        # eval_linear.py of DINO, main_finetune.py of MAE: 256 pixels for a crop of 224, bicubic
        ("dino_vit/backbone.pth", IMAGENET, BICUBIC, 36),
        ("mae_vit/pretrain.pth", IMAGENET, BICUBIC, 36),
        # torchvision's ImageClassification for vit_b_16: 256 for 224, bilinear
        ("torchvision_vit/vit.pth", IMAGENET, BILINEAR, 36),
        # the fixture's pretrained_cfg: crop_pct 0.9
        ("timm_vit", HALF, BICUBIC, 35),
    ],
)
def test_a_format_says_how_its_images_were_prepared(
    fixture_folder: Path, source: str, statistics: Any, resample: int, edge: int | None
) -> None:
    """Without knowing the number of heads, which does not matter here."""
    processor = AutoImageProcessor.from_pretrained(fixture_folder / source)
    assert (processor.image_mean, processor.image_std) == statistics
    assert processor.resample == resample
    if edge is None:
        assert isinstance(processor, ViTImageProcessor)
        assert processor.size == {"height": 32, "width": 32}
    else:
        assert isinstance(processor, DeiTImageProcessor)
        assert processor.size == {"shortest_edge": edge}
        assert processor.crop_size == {"height": 32, "width": 32}
    image = Image.fromarray(np.zeros((50, 70, 3), np.uint8))
    assert processor(image, return_tensors="np")["pixel_values"].shape == (1, 3, 32, 32)


def test_its_own_file_comes_first(fixture_folder: Path) -> None:
    folder = fixture_folder / "hf_vit_classifier"
    own = json.loads((folder / "preprocessor_config.json").read_text())
    processor = AutoImageProcessor.from_pretrained(folder)
    assert {name: processor.to_dict()[name] for name in own if name != "image_processor_type"} == {
        name: value for name, value in own.items() if name != "image_processor_type"
    }


def test_settings_that_are_given_come_before_all(fixture_folder: Path) -> None:
    file = fixture_folder / "google_jax/published.npz"
    processor = AutoImageProcessor.from_pretrained(file, image_mean=[0.1, 0.2, 0.3])
    assert processor.image_mean == [0.1, 0.2, 0.3]
    assert processor.image_std == HALF[1]


def test_a_converted_checkpoint_prepares_images_as_its_source(fixture_folder: Path, convert: Any) -> None:
    source = fixture_folder / "dino_vit/backbone.pth"
    folder = convert(source, "transformers", num_attention_heads=4)
    assert AutoImageProcessor.from_pretrained(folder) == AutoImageProcessor.from_pretrained(source)


def test_images_of_one_channel_that_are_no_square(write_checkpoint: Folder, convert: Any, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", num_channels=1, image_size=(24, 16))
    (convert(folder, "timm") / "preprocessor_config.json").unlink()
    processor = AutoImageProcessor.from_pretrained(tmp_path / "as timm")
    assert processor.image_mean == [0.5]
    image = Image.fromarray(np.zeros((50, 70), np.uint8))
    assert processor(image, return_tensors="np")["pixel_values"].shape == (1, 1, 24, 16)


def test_pruned_heads_do_not_matter(write_checkpoint: Folder, convert: Any, tmp_path: Path) -> None:
    folder = convert(write_checkpoint(tmp_path / "model", pruned_heads={0: [1]}), "transformers-flax")
    (folder / "preprocessor_config.json").unlink()
    assert AutoImageProcessor.from_pretrained(folder).size == {"height": 16, "width": 16}


def test_which_of_several_models_is_meant_does_not_matter(fixture_folder: Path, tmp_path: Path) -> None:
    tensors = read_weights(fixture_folder / "torchvision_vit/vit.pth")
    models = {f"{name}/{each}": tensor for name in ("best", "last") for each, tensor in tensors.items()}
    write_torch_file(tmp_path / "models.pth", models)
    assert AutoImageProcessor.from_pretrained(tmp_path / "models.pth").image_mean == IMAGENET[0]


def test_how_a_model_of_transformers_was_trained_is_not_assumed(write_checkpoint: Folder, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"has no preprocessor_config\.json"):
        AutoImageProcessor.from_pretrained(write_checkpoint(tmp_path / "model"))


def test_the_file_beside_named_weights_is_theirs_if_the_config_is(fixture_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(fixture_folder / "hf_vit_classifier", folder)
    settings = json.loads((folder / "preprocessor_config.json").read_text()) | {"image_mean": [0.1, 0.2, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    assert AutoImageProcessor.from_pretrained(folder / "pytorch_model.bin").image_mean == [0.1, 0.2, 0.3]
    assert conversion.load(folder / "pytorch_model.bin").preprocessing == settings


def test_where_nothing_says_more_both_reasons_are_given(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(
        OSError, match=r"has no preprocessor_config\.json, and its weights do not say more: .*no weights"
    ):
        AutoImageProcessor.from_pretrained(tmp_path)
