from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_cli.reconstruction_picture import PicturedReconstruction, draw_reconstructions
from vit_core.patches import patchify, unpatchify


def pictured(channels: int = 3) -> PicturedReconstruction:
    pixels = np.full((8, 12, channels), 0.25)
    mask = np.array([[True, False, True], [False, False, True]])
    return PicturedReconstruction("cat.png", pixels, np.full_like(pixels, 0.75), mask, "error 0.1")


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_written_in_the_format_of_its_suffix(
    tmp_path: Path, suffix: str, start: bytes, channels: int
) -> None:
    file = tmp_path / f"picture{suffix}"
    draw_reconstructions(file, [pictured(channels)] * 2, (4, 4))
    assert file.read_bytes().startswith(start)


def test_many_images_stand_in_columns(tmp_path: Path) -> None:
    sizes = []
    for count in (12, 13):
        draw_reconstructions(tmp_path / "picture.png", [pictured()] * count, (4, 4))
        with Image.open(tmp_path / "picture.png") as picture:
            sizes.append(picture.size)
    (narrow, high), (wide, low) = sizes
    assert wide > 1.5 * narrow
    assert low < high


def test_what_the_patches_leave_of_an_image_is_drawn_as_it_is(tmp_path: Path) -> None:
    mask = np.array([[True, False]])
    image = PicturedReconstruction("odd.png", np.full((5, 9, 3), 0.25), np.full((4, 8, 3), 0.75), mask)
    draw_reconstructions(tmp_path / "picture.png", [image], (4, 4))
    assert (tmp_path / "picture.png").exists()


def test_patches_come_together_again() -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 8, 12)).astype(np.float32)
    patches = patchify(images, (4, 2))
    assert patches.shape == (2, 12, 24)
    np.testing.assert_array_equal(patches[0, 1, :3], images[0, :, 0, 2])  # the channels of one pixel beside each other
    np.testing.assert_array_equal(unpatchify(patches, (4, 2), (2, 6)), images)
