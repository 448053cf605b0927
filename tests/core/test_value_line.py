"""Arithmetic in place of the table of values gives its bits, or is not taken."""

import numpy as np
import pytest
from PIL import Image

from vit_core.image_transforms import channels_of
from vit_core.value_line import value_line
from vit_core.value_table import value_table

#: Mean and standard deviation of ViT, of ImageNet, of CLIP, and none.
PUBLISHED = (
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    (None, None),
)


@pytest.mark.parametrize(("mean", "std"), PUBLISHED)
@pytest.mark.parametrize("factor", [1 / 255, 1 / 127.5])
def test_every_value_of_published_settings_has_the_bits_of_the_table(mean, std, factor):
    line = value_line(3, factor, mean, std)
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    out = np.empty((3, 16, 16), np.float32)
    line.compute(np.stack([levels, levels[::-1], levels.T]), out)
    table = value_table(3, False, factor, mean, std)
    expected = np.stack([table[0][levels], table[1][levels[::-1]], table[2][levels.T]])
    assert out.tobytes() == expected.tobytes()


def test_half_as_standard_deviation_saves_a_division():
    assert value_line(3, 1 / 255, (0.5,) * 3, (0.5,) * 3).second_divisor is None
    assert value_line(3, 1 / 255, *PUBLISHED[1]).second_divisor is not None


@pytest.mark.parametrize("factor", [None, 0.0, 0.3])
def test_what_rounds_otherwise_is_left_to_the_table(factor):
    assert value_line(3, factor, (0.5,) * 3, (0.5,) * 3) is None


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_channels_of_a_picture_are_its_bands(mode):
    picture = Image.effect_noise((7, 5), 100).convert("RGBA").convert(mode)
    bands = [np.asarray(band) for band in picture.split()]
    np.testing.assert_array_equal(channels_of(picture), bands)
