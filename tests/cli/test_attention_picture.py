from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_cli.attention_picture import (
    PicturedImage,
    check_picture_file,
    class_token_rollout,
    draw_picture,
    unprocess,
)
from vit_core import ViTImageProcessor


def test_rollout_of_one_layer_is_half_the_mean_attention() -> None:
    heads = [[[0.2, 0.6, 0.2], [0, 1, 0], [0, 0, 1]], [[0.4, 0.0, 0.6], [0, 1, 0], [0, 0, 1]]]
    # The mean of the class token's rows is (0.3, 0.3, 0.4); with the identity added and halved, (0.65, 0.15, 0.2).
    np.testing.assert_allclose(class_token_rollout([np.array([heads])]), [[0.15, 0.2]])


def test_rollout_multiplies_later_layers_from_the_left() -> None:
    first = np.array([[[[1, 0, 0], [0, 0, 1], [0, 1, 0]]]], dtype=np.float32)
    second = np.array([[[[0, 1, 0], [1, 0, 0], [0, 0, 1]]]], dtype=np.float32)
    # (second + I)/2 has (1/2, 1/2, 0) for the class token, (first + I)/2 has rows (1, 0, 0), (0, 1/2, 1/2), ...:
    # 1/2 (1, 0, 0) + 1/2 (0, 1/2, 1/2) = (1/2, 1/4, 1/4). The other way round it would be (1/2, 1/2, 0).
    np.testing.assert_allclose(class_token_rollout([first, second]), [[0.25, 0.25]])


def test_rollout_normalises_rows_that_dropout_or_a_head_mask_left_short() -> None:
    attention = np.array([[[[0.0, 0.5], [0.0, 0.0]]]])
    np.testing.assert_allclose(class_token_rollout([attention]), [[0.5 / 1.5]])


def test_rollout_is_the_first_row_of_the_product_of_whole_matrices(fixture_folder: Path) -> None:
    expected = np.load(fixture_folder / "hf_vit_classifier/expected.npz")
    attentions = [expected[f"attentions.{layer}"] for layer in range(3)]
    tokens = attentions[0].shape[-1]
    mixing = [attention.mean(axis=1) / 2 + np.eye(tokens) / 2 for attention in attentions]
    product = mixing[2] @ mixing[1] @ mixing[0]
    np.testing.assert_allclose(class_token_rollout(attentions), product[:, 0, 1:], atol=1e-6)


def test_model_without_layers_has_no_rollout() -> None:
    with pytest.raises(ValueError, match="without layers looks nowhere"):
        class_token_rollout([])


@pytest.mark.parametrize("settings", [{}, {"do_normalize": False}, {"do_normalize": False, "do_rescale": False}])
def test_image_is_recovered_from_what_the_processor_made(settings: dict[str, bool], fixture_folder: Path) -> None:
    image = Image.open(fixture_folder / "image_processing/cat.png").convert("RGB").resize((40, 24))
    processor = ViTImageProcessor(do_resize=False, **settings)
    pixels = unprocess(processor(image, return_tensors="np")["pixel_values"][0], processor)
    np.testing.assert_allclose(pixels * 255, np.asarray(image), atol=1e-4)


def pictured(label: str) -> PicturedImage:
    return PicturedImage("file.png", label, 0.5, np.full((8, 12, 3), 0.5), np.linspace(0, 1, 6), (4, 4))


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".SVG", b"<?xml")])
def test_picture_is_written_in_the_format_of_its_suffix(tmp_path: Path, suffix: str, start: bytes) -> None:
    file = tmp_path / f"new/picture{suffix}"
    check_picture_file(file)
    draw_picture(file, [pictured("cat")])
    assert file.read_bytes().startswith(start)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_overlay_brightens_the_patches_with_the_largest_weights(tmp_path: Path) -> None:
    rightmost = np.where(np.arange(16) % 8 == 7, 0.2, 0.1)
    image = PicturedImage("f", "cat", 0.5, np.full((16, 64, 1), 0.5), rightmost, (8, 8))
    draw_picture(tmp_path / "a.png", [image])
    drawn = np.asarray(Image.open(tmp_path / "a.png").convert("L"), dtype=float)
    # 1.5 inches at 150 dots: the plain image starts at 0.25 inches, the overlay at 1.8.
    top = round((0.36 + 0.25) * 150) + 5
    overlay = drawn[top : top + 40, 270:495]
    assert overlay[:, -20:].mean() > overlay[:, :150].mean() + 50
    plain = drawn[top : top + 40, 40:260]
    assert plain.std() < 2


def test_labels_that_look_like_formulas_or_lack_a_glyph_are_drawn(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_picture(tmp_path / "a.png", [pictured(label) for label in ("$x^{", "ねこ", "a" * 300)])


def test_equal_weights_are_drawn(tmp_path: Path) -> None:
    image = PicturedImage("f", "cat", 0.5, np.ones((8, 8, 3)), np.full(4, 0.1), (4, 4))
    draw_picture(tmp_path / "a.png", [image])


@pytest.mark.parametrize("name", ["picture", "picture.docx"])
def test_file_without_a_suffix_of_a_picture_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"choose a name such as picture\.png"):
        check_picture_file(Path(name))
