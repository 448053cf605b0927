"""The steps of preprocessing as methods, against results of transformers 4.47.1, and subclasses that replace them."""

import json

import numpy as np
import pytest
from PIL import Image

import vit_core
from vit_core import DeiTImageProcessor, ViTImageProcessor

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 9, 3)).astype(np.uint8)


def test_every_step_gives_what_transformers_gives_to_the_bit(fixture_folder):
    folder = fixture_folder / "image_steps"
    cases = json.loads((folder / "cases.json").read_text())
    assert len(cases) > 90
    with np.load(folder / "expected.npz") as results:
        for case in cases:
            image = results["input/" + case["name"].partition("/")[0]]
            processor = getattr(vit_core, case["processor"])()
            result = getattr(processor, case["step"])(image, *case["arguments"], **case["options"])
            assert result.dtype == results[case["name"]].dtype, case
            np.testing.assert_array_equal(result, results[case["name"]], err_msg=str(case))


@pytest.mark.parametrize("processor", [ViTImageProcessor(size=8), DeiTImageProcessor(size=10, crop_size=8)])
@pytest.mark.parametrize("image", [PIXELS, PIXELS / 255])
def test_the_steps_one_after_the_other_are_the_processor(processor, image):
    pixels = processor.resize(image, processor.size, processor.resample)
    if isinstance(processor, DeiTImageProcessor):
        pixels = processor.center_crop(pixels, processor.crop_size)
    if image.dtype == np.uint8:
        pixels = processor.rescale(pixels, processor.rescale_factor)
    pixels = processor.normalize(pixels, processor.image_mean, processor.image_std, "channels_first")
    expected = processor(image, do_rescale=image.dtype == np.uint8, return_tensors="np").pixel_values
    np.testing.assert_array_equal(pixels[None], expected)


def test_a_picture_and_a_gray_image_of_two_axes_are_images_too():
    processor = ViTImageProcessor()
    np.testing.assert_array_equal(processor.resize(Image.fromarray(PIXELS), 5), processor.resize(PIXELS, 5))
    palette = Image.fromarray(PIXELS).convert("P")
    np.testing.assert_array_equal(processor.resize(palette, 5), processor.resize(np.asarray(palette.convert("RGB")), 5))
    gray = PIXELS[:, :, 0]
    np.testing.assert_array_equal(processor.resize(gray, 5), processor.resize(PIXELS[:, :, :1], 5)[:, :, 0])
    assert processor.normalize(gray, 0.5, 0.5).shape == gray.shape
    assert processor.center_crop(gray, 4, "channels_first").shape == (1, 4, 4)


def test_the_shortest_edge_keeps_the_proportions():
    assert ViTImageProcessor().resize(PIXELS, {"shortest_edge": 3}).shape == (4, 3, 3)


def test_a_picture_comes_out_on_request():
    picture = ViTImageProcessor().resize(PIXELS, 5, return_numpy=False)
    np.testing.assert_array_equal(np.asarray(picture), ViTImageProcessor().resize(PIXELS, 5))
    assert ViTImageProcessor().resize(PIXELS[:, :, 0], 5, return_numpy=False).mode == "L"


def test_rescaling_alone_takes_any_shape_and_dtype():
    result = ViTImageProcessor().rescale(np.ones((2, 3, 4, 5), np.int16), 2.5, dtype=np.float16)
    assert (result.shape, result.dtype) == ((2, 3, 4, 5), np.float16)
    assert (result == 2.5).all()


@pytest.mark.parametrize(
    ("step", "arguments", "error", "words"),
    [
        ("resize", (PIXELS, {"height": 5}), ValueError, "size is {'height': 5}; it must be"),
        ("resize", (PIXELS * 2.5, 5), ValueError, "to be resized, an image has whole numbers from 0 to 255"),
        ("resize", (np.zeros((4, 5, 6)), 5), ValueError, "pass input_data_format"),
        ("resize", (3, 5), TypeError, "an image is a PIL image"),
        ("center_crop", (PIXELS, {"shortest_edge": 5}), ValueError, "crop_size is"),
        ("rescale", ("photo", 2), TypeError, "pixels are integers or floats"),
        ("rescale", (PIXELS, "2"), ValueError, "rescale_factor is '2'"),
        ("normalize", (PIXELS, [0.5, 0.5], 0.5), ValueError, "mean has 2 values, but the image has 3 channels"),
        ("normalize", (PIXELS, 0.5, [0.5]), ValueError, "std has 1 values, but the image has 3 channels"),
        ("normalize", (PIXELS, 0.5, 0), ValueError, "image_std is 0; pixels are divided by it"),
        ("normalize", (PIXELS, 0.5, 0.5, "last"), ValueError, "data_format is 'last'"),
    ],
)
def test_what_a_step_cannot_do_is_said(step, arguments, error, words):
    with pytest.raises(error, match=words):
        getattr(ViTImageProcessor(), step)(*arguments)


# Subclasses


class Unchanged(ViTImageProcessor):
    def resize(self, image, size, resample=None, **options):
        return super().resize(image, size, resample, **options)


class UnchangedDeiT(DeiTImageProcessor):
    def normalize(self, image, mean, std, **options):
        return super().normalize(image, mean, std, **options)


@pytest.mark.parametrize(
    ("processor", "same"),
    [
        (Unchanged(size=7), ViTImageProcessor(size=7)),
        (Unchanged(size={"shortest_edge": 7}), ViTImageProcessor(size={"shortest_edge": 7})),
        (Unchanged(do_resize=False), ViTImageProcessor(do_resize=False)),
        (Unchanged(size=7, do_rescale=False), ViTImageProcessor(size=7, do_rescale=False)),
        (Unchanged(size=7, do_normalize=False), ViTImageProcessor(size=7, do_normalize=False)),
        (UnchangedDeiT(size=9, crop_size=11), DeiTImageProcessor(size=9, crop_size=11)),
    ],
)
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_a_subclass_that_only_passes_on_changes_nothing(processor, same, data_format):
    images = [PIXELS, PIXELS.transpose(2, 0, 1), Image.fromarray(PIXELS), PIXELS[:, :, 0]]
    options = {"return_tensors": "np", "data_format": data_format}
    np.testing.assert_array_equal(processor(images, **options).pixel_values, same(images, **options).pixel_values)


def test_a_step_that_a_subclass_replaces_is_used():
    class Brighter(ViTImageProcessor):
        def rescale(self, image, scale, **options):
            return super().rescale(image, 2 * scale, **options)

    class Letterbox(DeiTImageProcessor):
        def resize(self, image, size, **options):
            return super().center_crop(image, size)

    brighter = Brighter(size=8, do_normalize=False)(PIXELS, return_tensors="np").pixel_values
    plain = ViTImageProcessor(size=8, do_normalize=False)(PIXELS, return_tensors="np").pixel_values
    np.testing.assert_array_equal(brighter, 2 * plain)
    settings = {"do_center_crop": False, "do_rescale": False, "do_normalize": False}
    cut = Letterbox(size=4, **settings)(PIXELS, data_format="channels_last", return_tensors="np").pixel_values
    np.testing.assert_array_equal(cut[0], PIXELS[4:8, 2:6])


def test_fractions_warn_a_subclass_too():
    with pytest.warns(UserWarning, match="only values from 0 to 1"):
        Unchanged(size=4)(PIXELS / 255)
