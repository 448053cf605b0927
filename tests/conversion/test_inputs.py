from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conversion.proof.answers import probabilities, top_answers
from conversion.proof.inputs import input_names, loss_weights, make_inputs, read_picture
from vit_core import DeiTImageProcessor, ViTConfig, ViTImageProcessor

TINY: dict[str, Any] = {"image_size": (12, 20), "patch_size": 4, "num_channels": 2, "encoder_stride": 4}
GRAY = {**TINY, "num_channels": 1}


def inputs(task: Any = "image-classification", seed: int = 0, **fields: Any) -> dict[str, np.ndarray]:
    return make_inputs(ViTConfig(**{**TINY, "num_labels": 7, **fields}), task, seed)


def test_random_pixels_are_standard_normal_and_of_the_configs_size() -> None:
    pixels = inputs(image_size=96)["pixel_values"]
    assert (pixels.shape, pixels.dtype) == ((2, 2, 96, 96), np.float32)
    assert abs(pixels.mean()) < 0.03
    assert abs(pixels.std() - 1) < 0.03
    assert inputs()["pixel_values"].shape == (2, 2, 12, 20)


def test_the_seed_decides_the_inputs() -> None:
    first, again, other = inputs(), inputs(), inputs(seed=1)
    np.testing.assert_equal(first, again)
    assert not np.array_equal(first["pixel_values"], other["pixel_values"])


@pytest.mark.parametrize(
    ("fields", "shape", "kind", "values"),
    [
        ({}, (2,), "i", set(range(7))),
        ({"problem_type": "multi_label_classification"}, (2, 7), "f", {0.0, 1.0}),
        ({"problem_type": "regression", "num_labels": 3}, (2, 3), "f", None),
        ({"num_labels": 1}, (2, 1), "f", None),
    ],
)
def test_labels_are_of_the_problem_type(
    fields: dict[str, Any], shape: tuple[int, ...], kind: str, values: set[float] | None
) -> None:
    labels = inputs(**fields)["labels"]
    assert (labels.shape, labels.dtype.kind) == (shape, kind)
    assert values is None or set(labels.flat) <= values


def test_masked_image_modeling_gets_a_mask_with_patches_on_both_sides() -> None:
    mask = inputs("masked-image-modeling")["bool_masked_pos"]
    assert (mask.shape, mask.dtype) == ((2, 15), bool)
    assert all(row.any() and not row.all() for row in mask)


@pytest.mark.parametrize(
    ("task", "fields"),
    [("model", {}), ("image-classification", {"num_labels": 0}), ("masked-image-modeling", {"encoder_stride": 8})],
)
def test_a_model_that_has_no_loss_gets_pixels_alone(task: str, fields: dict[str, Any]) -> None:
    assert inputs(task, **fields).keys() == {"pixel_values"}


def test_loss_weights_fit_the_results_and_are_no_pixels() -> None:
    pixels = inputs()["pixel_values"]
    weights = loss_weights({"first": pixels, "second": np.zeros((2, 3))}, seed=0)
    assert {name: each.shape for name, each in weights.items()} == {"first": pixels.shape, "second": (2, 3)}
    assert not np.array_equal(weights["first"], pixels)


def test_the_picture_stands_before_the_random_pixels() -> None:
    picture = np.full((1, 2, 12, 20), 0.5, np.float32)
    config = ViTConfig(**TINY)
    batch = make_inputs(config, "image-classification", 0, picture)
    np.testing.assert_array_equal(batch["pixel_values"][:1], picture)
    np.testing.assert_array_equal(batch["pixel_values"][1:], inputs()["pixel_values"])
    assert batch["labels"].shape == (3,)
    assert input_names("photos/cat.png") == ("cat.png", "random pixels 1", "random pixels 2")
    assert input_names(None) == ("random pixels 1", "random pixels 2")


@pytest.fixture
def gray_image(tmp_path: Path) -> Path:
    """An image of 30 x 10 pixels that all have the value 51, a fifth of white."""
    Image.new("L", (30, 10), 51).save(tmp_path / "gray.png")
    return tmp_path / "gray.png"


def test_the_checkpoints_own_preprocessing_is_used(gray_image: Path, tmp_path: Path) -> None:
    processor = ViTImageProcessor(size={"height": 12, "width": 20}, image_mean=[0.1], image_std=[0.5])
    processor.save_pretrained(tmp_path)
    pixels, note = read_picture(str(gray_image), str(tmp_path), ViTConfig(**GRAY), {})
    assert pixels.shape == (1, 1, 12, 20)
    np.testing.assert_allclose(pixels, (0.2 - 0.1) / 0.5, rtol=1e-6)
    assert note is None


def test_without_preprocessing_an_image_is_scaled_from_minus_one_to_one(gray_image: Path, tmp_path: Path) -> None:
    pixels, note = read_picture(str(gray_image), str(tmp_path), ViTConfig(**GRAY), {})
    assert pixels.shape == (1, 1, 12, 20)
    np.testing.assert_allclose(pixels, 0.2 * 2 - 1, rtol=1e-6)
    assert note is not None
    assert "has no preprocessor_config.json" in note
    assert "resized to 20 x 12" in note


def test_an_image_gets_the_size_that_the_model_takes(gray_image: Path, tmp_path: Path) -> None:
    ViTImageProcessor(size=32, image_mean=0.1, image_std=0.5).save_pretrained(tmp_path)
    pixels, note = read_picture(str(gray_image), str(tmp_path), ViTConfig(**GRAY), {})
    assert pixels.shape == (1, 1, 12, 20)
    np.testing.assert_allclose(pixels, (0.2 - 0.1) / 0.5, rtol=1e-6)
    assert note is not None
    assert "is resized to 20 x 12, which the model takes" in note


def test_a_crop_of_another_size_is_refused(gray_image: Path, tmp_path: Path) -> None:
    DeiTImageProcessor(size=36, crop_size=32, image_mean=0.5, image_std=0.5).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"with shape \(1, 1, 32, 32\), but the model takes \(1, 1, 12, 20\)"):
        read_picture(str(gray_image), str(tmp_path), ViTConfig(**GRAY), {})


def test_an_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"gone\.png"):
        read_picture(str(tmp_path / "gone.png"), str(tmp_path), ViTConfig(**TINY), {})


def test_probabilities_of_large_logits_do_not_overflow() -> None:
    logits = np.array([[1000.0, 0.0, -1000.0]], dtype=np.float32)
    np.testing.assert_array_equal(probabilities(logits, None), [[1, 0, 0]])
    np.testing.assert_array_equal(probabilities(logits, "multi_label_classification"), [[1, 0.5, 0]])


def test_probabilities_are_softmax() -> None:
    logits = np.log(np.array([[1.0, 2.0, 5.0]]))
    np.testing.assert_allclose(probabilities(logits, None), [[0.125, 0.25, 0.625]])


def test_probabilities_of_logits_that_are_not_finite_are_nan() -> None:
    logits = np.array([[np.inf, 0.0], [np.nan, 0.0], [0.0, 0.0]])
    assert np.isnan(probabilities(logits, None)).any(axis=1).tolist() == [True, True, False]


def test_top_answers_are_the_likeliest_and_equal_ones_keep_their_order() -> None:
    scores = np.array([0.1, 0.3, 0.2, 0.3, 0.1])
    assert top_answers(scores, {1: "one", 2: 2}, 4) == [("one", 0.3), ("3", 0.3), ("2", 0.2), ("0", 0.1)]
    assert len(top_answers(scores, {}, 9)) == 5
