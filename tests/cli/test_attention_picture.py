from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_cli.attention_picture import PicturedImage, PicturedMap, draw_picture
from vit_cli.picture import check_picture_file, unprocess
from vit_core import ViTImageProcessor


@pytest.mark.parametrize("settings", [{}, {"do_normalize": False}, {"do_normalize": False, "do_rescale": False}])
def test_image_is_recovered_from_what_the_processor_made(settings: dict[str, bool], fixture_folder: Path) -> None:
    image = Image.open(fixture_folder / "image_processing/cat.png").convert("RGB").resize((40, 24))
    processor = ViTImageProcessor(do_resize=False, **settings)
    pixels = unprocess(processor(image, return_tensors="np")["pixel_values"][0], processor)
    np.testing.assert_allclose(pixels * 255, np.asarray(image), atol=1e-4)


def pictured(title: str, maps: int = 1) -> PicturedImage:
    return PicturedImage(title, np.full((8, 12, 3), 0.5), (4, 4), [PicturedMap(np.linspace(0, 1, 6), title)] * maps)


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".SVG", b"<?xml")])
def test_picture_is_written_in_the_format_of_its_suffix(tmp_path: Path, suffix: str, start: bytes) -> None:
    file = tmp_path / f"new/picture{suffix}"
    check_picture_file(file)
    draw_picture(file, [pictured("cat")], "scale")
    assert file.read_bytes().startswith(start)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_overlay_brightens_the_patches_with_the_largest_weights(tmp_path: Path) -> None:
    rightmost = np.where(np.arange(16) % 8 == 7, 0.2, 0.1)
    image = PicturedImage("cat", np.full((16, 64, 1), 0.5), (8, 8), [PicturedMap(rightmost)])
    draw_picture(tmp_path / "a.png", [image], "scale")
    drawn = np.asarray(Image.open(tmp_path / "a.png").convert("L"), dtype=float)
    # 1.5 inches at 150 dots: the plain image starts at 0.25 inches, the overlay at 1.8.
    top = round((0.36 + 0.25) * 150) + 5
    overlay = drawn[top : top + 40, 270:495]
    assert overlay[:, -20:].mean() > overlay[:, :150].mean() + 50
    plain = drawn[top : top + 40, 40:260]
    assert plain.std() < 2


def test_the_middle_of_a_patch_has_the_colour_of_its_weight(tmp_path: Path) -> None:
    weights = np.eye(9)[4]  # of 3 x 3 patches the middle one alone is looked at
    draw_picture(
        tmp_path / "a.png", [PicturedImage("cat", np.zeros((9, 9, 3)), (3, 3), [PicturedMap(weights)])], "scale"
    )
    drawn = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"), dtype=float)
    top = round((0.36 + 0.25) * 150)
    last_of_inferno = np.array([252, 255, 164])
    np.testing.assert_allclose(drawn[top + 112, 270 + 112], 0.65 * last_of_inferno, atol=4)
    np.testing.assert_allclose(drawn[top + 37, 270 + 37], 0, atol=8)


def test_labels_that_look_like_formulas_or_lack_a_glyph_are_drawn(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_picture(tmp_path / "a.png", [pictured(title) for title in ("$x^{", "ねこ", "a" * 300)], "scale")


def test_equal_weights_are_drawn(tmp_path: Path) -> None:
    image = PicturedImage("cat", np.ones((8, 8, 3)), (4, 4), [PicturedMap(np.full(4, 0.1))])
    draw_picture(tmp_path / "a.png", [image], "scale")


@pytest.mark.parametrize("name", ["picture", "picture.docx"])
def test_file_without_a_suffix_of_a_picture_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"choose a name such as picture\.png"):
        check_picture_file(Path(name))


def test_patches_that_are_not_kept_are_masked_and_so_is_what_is_left_over(tmp_path: Path) -> None:
    kept = np.arange(8) == 3  # of one row
    image = PicturedImage("cat", np.full((8, 68, 3), 0.5), (8, 8), [PicturedMap(np.full(8, 0.1), kept=kept)])
    draw_picture(tmp_path / "a.png", [image], "scale")
    drawn = np.asarray(Image.open(tmp_path / "a.png").convert("L"), dtype=float)
    row = drawn[round((0.36 + 0.25) * 150) + 20, 270:495]  # of the overlay, whose 68 pixels are 225 dots wide
    heated = 0.35 * 0.5 * 255  # equal weights have the darkest colour
    is_kept = np.abs(row - heated) < 4
    assert np.flatnonzero(is_kept)[[0, -1]] == pytest.approx([24 / 68 * 225, 32 / 68 * 225], abs=2)
    np.testing.assert_allclose(row[~is_kept], 0.3 * 0.5 * 255, atol=4)


def test_an_image_with_several_maps_has_a_row_of_its_own(tmp_path: Path) -> None:
    sizes = {}
    for images, maps in ((1, 3), (2, 3), (1, 1), (2, 1)):
        draw_picture(tmp_path / "a.png", [pictured("cat", maps)] * images, "scale")
        with Image.open(tmp_path / "a.png") as drawn:
            sizes[images, maps] = drawn.size
    assert sizes[1, 3][0] == sizes[2, 3][0]
    assert sizes[1, 3][1] < sizes[2, 3][1]
    assert sizes[1, 1][0] < sizes[2, 1][0]
    assert sizes[1, 1][1] == sizes[2, 1][1]


def test_one_patch_and_very_many_heads_are_drawn(tmp_path: Path) -> None:
    image = PicturedImage("cat", np.ones((8, 8, 3)), (8, 8), [PicturedMap(np.ones(1), kept=np.ones(1, bool))] * 150)
    draw_picture(tmp_path / "a.png", [image], "scale")
    with Image.open(tmp_path / "a.png") as drawn:
        assert drawn.size[0] <= 20_000


def test_a_picture_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(NotADirectoryError, match=r"a\.png cannot be written: .*file is no folder"):
        check_picture_file(tmp_path / "file/new/a.png")
    with pytest.raises(IsADirectoryError, match=r"folder\.png is a folder; choose the name of a file"):
        check_picture_file(tmp_path / "folder.png")


def test_a_picture_never_replaces_an_image(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="would replace the image .*choose another name with --picture"):
        check_picture_file(tmp_path / "a.png", [tmp_path / "new/../a.png"])
