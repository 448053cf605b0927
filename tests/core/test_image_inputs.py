"""Everything that an image can be, and what is said about things that are none."""

import warnings
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vit_core.image_processing import ViTImageProcessor

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 9, 3)).astype(np.uint8)


def processed(images, **options):
    return ViTImageProcessor(size=6)(images, return_tensors="np", **options).pixel_values


def encoded(picture, format_name, **options):
    file = BytesIO()
    picture.save(file, format_name, **options)
    return file.getvalue()


PNG = encoded(Image.fromarray(PIXELS), "PNG")
EXPECTED = processed(Image.fromarray(PIXELS))


class Tensor:
    """What a framework's tensor has in common with all others."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __array__(self, dtype=None, copy=None):
        return self.array


class DeviceTensor:
    """A tensor that speaks only the DLPack protocol."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize(
    "image",
    [
        PIXELS,
        PIXELS.transpose(2, 0, 1),
        PIXELS[None],
        [PIXELS],
        (PIXELS,),
        PNG,
        bytearray(PNG),
        memoryview(PNG),
        [PNG],
        Tensor(PIXELS),
        Tensor(PIXELS[None].transpose(0, 3, 1, 2)),
        [Tensor(PIXELS)],
        DeviceTensor(PIXELS),
        Image.fromarray(PIXELS),
    ],
    ids=lambda image: type(image).__name__,
)
def test_every_kind_of_image_gives_the_same_pixels(image):
    np.testing.assert_array_equal(processed(image), EXPECTED)


def test_kinds_can_be_mixed_in_one_batch(tmp_path):
    (tmp_path / "image.png").write_bytes(PNG)
    kinds = [PIXELS, PNG, tmp_path / "image.png", Image.fromarray(PIXELS), PIXELS.transpose(2, 0, 1)]
    np.testing.assert_array_equal(processed(kinds), np.repeat(EXPECTED, 5, axis=0))


def test_a_layout_that_the_model_tells_apart_is_not_ambiguous():
    column = np.broadcast_to(PIXELS[:, :1], (12, 1, 3))
    np.testing.assert_array_equal(processed(column.transpose(2, 0, 1)), processed(Image.fromarray(column.copy())))


def test_a_small_picture_is_never_taken_for_channels_first():
    picture = Image.fromarray(PIXELS[:3])  # 3 x 9 x 3 as an array
    assert ViTImageProcessor(do_resize=False)(picture).pixel_values[0].shape == (3, 3, 9)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_mode_of_pil_gives_the_channels_of_the_model(mode, channels):
    through = {"La": "LA", "RGBa": "RGBA", "PA": "LA"}.get(mode, "RGB")
    picture = Image.new("RGB", (4, 4), (255, 255, 255)).convert(through).convert(mode)
    result = processed(picture, image_mean=[0.0] * channels, image_std=[1.0] * channels)
    assert result.shape == (1, channels, 6, 6)
    np.testing.assert_allclose(result, 1, atol=0.01)  # white, and opaque


@pytest.mark.parametrize(
    ("picture", "gray"),
    [
        (Image.fromarray(np.full((4, 4), 65535 * 3 // 5, np.uint16)), 0.6),
        (Image.fromarray(np.full((4, 4), 65535 * 3 // 5, np.int32)), 0.6),
        (Image.fromarray(np.full((4, 4), 153, np.int32)), 0.6),
        (Image.fromarray(np.full((4, 4), 0.6, np.float32)), 0.6),
        (Image.fromarray(np.full((4, 4), 153, np.float32)), 0.6),
    ],
)
def test_deep_gray_is_scaled_by_its_range(picture, gray):
    result = processed(picture, do_normalize=False)
    assert result.shape == (1, 3, 6, 6)
    np.testing.assert_allclose(result, gray, atol=0.5 / 255)


@pytest.mark.parametrize("values", [[-1, 5], [0, 70000]])
def test_deep_gray_of_another_range_is_refused(values):
    with pytest.raises(ValueError, match=f"the image has values from {values[0]} to {values[1]}"):
        processed(Image.fromarray(np.array([values], np.int32)))


def test_alpha_is_dropped():
    red = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    np.testing.assert_array_equal(processed(red), processed(Image.new("RGB", (4, 4), (255, 0, 0))))


def test_a_palette_with_transparency_does_not_warn():
    palette = Image.new("P", (4, 4))
    palette.putpalette([10, 200, 30])
    file = encoded(palette, "PNG", transparency=b"\x00\x80")
    for convert in (None, True):
        green = processed(Image.new("RGB", (4, 4), (10, 200, 30)))
        np.testing.assert_array_equal(processed(file, do_convert_rgb=convert), green)


def test_the_first_picture_of_a_stereo_photo_is_the_photo():
    photo, other = Image.fromarray(PIXELS), Image.new("RGB", (9, 12))
    file = encoded(photo, "MPO", save_all=True, append_images=[other], quality=95)
    np.testing.assert_allclose(processed(file), EXPECTED, atol=0.5)
    assert abs(processed(file) - processed(other)).max() > 0.5


def test_an_opened_animation_is_taken_at_its_current_frame():
    frames = [Image.new("RGB", (4, 4), color) for color in ((255, 0, 0), (0, 0, 255))]
    with Image.open(BytesIO(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))) as animation:
        for index in (1, 0):
            animation.seek(index)
            np.testing.assert_array_equal(processed(animation), processed(frames[index]))


# Files that cannot be read. All are tried as bytes and as files, alone and in a batch.

NOT_READABLE = {
    "empty": (b"", OSError, "is empty"),
    "text": (b"not an image at all", OSError, "is not an image"),
    "truncated_png": (PNG[:-60], OSError, "cannot be read as an image"),
    "truncated_jpeg": (
        encoded(Image.effect_noise((64, 64), 90), "JPEG")[:-600],
        OSError,
        "cannot be read as an image .*truncated.*; get it again",
    ),
    "header_only": (PNG[:40], OSError, "cannot be read as an image|is not an image"),
    "animation": (
        encoded(Image.new("L", (4, 4)), "GIF", save_all=True, append_images=[Image.new("L", (4, 4), 255)]),
        ValueError,
        r"several frames.*seek\(number\)",
    ),
    "drawing": (encoded(Image.new("L", (4, 4)), "EPS"), ValueError, "is a drawing .EPS.*PNG"),
}


@pytest.mark.parametrize(("content", "error", "words"), NOT_READABLE.values(), ids=NOT_READABLE)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, error, words):
    path = tmp_path / "some file"
    path.write_bytes(content)
    with pytest.raises(error, match=f"some file.*({words})"):
        processed([PIXELS, path])
    with pytest.raises(error, match=f"some file.*({words})"):
        processed(str(path))
    with pytest.raises(error, match=rf"images\[2\].*({words})"):
        processed([PIXELS, PNG, content])
    with pytest.raises(error, match=f"the image.*({words})"):
        processed(content)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file nowhere.png"):
        processed("nowhere.png")
    with pytest.raises(IsADirectoryError, match="is a folder; pass the image files in it"):
        processed(tmp_path)


def test_a_truncated_picture_that_was_opened_before_is_named():
    with Image.open(BytesIO(PNG[:-60])) as picture, pytest.raises(OSError, match=r"images\[1\] cannot be read"):
        processed([PIXELS, picture])


@pytest.mark.parametrize("pixels", [100, 60])  # PIL raises from twice its limit on, and warns before
def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch, pixels):
    bomb = encoded(Image.new("L", (10, 10)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels - 20)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("it was decoded"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever the user's filters say
        with pytest.raises(ValueError, match=r"images\[1\] is suspiciously large.*MAX_IMAGE_PIXELS"):
            ViTImageProcessor(do_resize=False)([PIXELS, bomb])


def test_reading_leaves_the_warning_filters_as_they_were():
    before = list(warnings.filters)
    processed([PNG] * 8)
    assert list(warnings.filters) == before


def outcome(file):
    """The shape, or what the error says."""
    try:
        return processed(file).shape
    except (OSError, ValueError) as error:
        return str(error)


@settings(max_examples=150)
@given(st.integers(0, len(PNG) - 1), st.integers(0, 255), st.booleans())
def test_a_damaged_file_is_an_image_or_one_clear_error(position, value, cut):
    damaged = PNG[:position] if cut else PNG[:position] + bytes([value]) + PNG[position + 1 :]
    result = outcome(damaged)
    assert result == (1, 3, 6, 6) or result.startswith("the image ")


# Arrays that are no images


def refused(words, image, error=ValueError, **options):
    with pytest.raises(error, match=words):
        processed(image, **options)
    with pytest.raises(error, match=words.replace("the image", r"images\[1\]")):
        processed([PIXELS, image], **options)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("resizing", [True, False])
def test_values_that_are_no_numbers_are_refused(value, resizing):
    pixels = PIXELS / 255
    pixels[3, 4, 1] = value
    refused("the image has NaN or infinite values", pixels, do_rescale=False, do_resize=resizing)


@pytest.mark.parametrize("pixels", [PIXELS / 127.5 - 1, PIXELS.astype(int) + 100, PIXELS + 0.25, PIXELS / 100])
def test_values_that_8_bits_cannot_hold_are_refused(pixels):
    words = f"the image has values from {pixels.min():g} to {pixels.max():g}; to be resized.*do_resize=False"
    refused(words, pixels.astype(np.float32))
    assert ViTImageProcessor(do_resize=False)(pixels).pixel_values[0].shape == (3, 12, 9)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 0, 3), (4, 4, 0), (0,)])
def test_an_array_without_pixels_is_refused(shape):
    refused("the image has no pixels: its shape is", np.zeros(shape, np.uint8))


def test_a_picture_without_pixels_is_refused():
    refused("the image has no pixels: it is 0 x 5", Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("shape", [(7,), (5, 6, 7), (2, 3, 4, 5, 3), (4, 5, 2)])
def test_a_shape_that_is_no_image_is_refused(shape):
    refused("the image has shape .*axes|the image has shape .*neither", np.zeros(shape, np.uint8))


def test_a_batch_inside_a_list_is_refused():
    with pytest.raises(ValueError, match=r"images\[0\] has shape \(2, 4, 4, 3\).*makes a batch, which is passed alone"):
        processed([np.zeros((2, 4, 4, 3), np.uint8), PIXELS])


def test_an_ambiguous_shape_is_taken_for_channels_first_with_a_warning():
    image = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    with pytest.warns(UserWarning, match=r"the image has shape \(3, 4, 3\).*the first is taken. Pass input"):
        guessed = processed(image)
    first = processed(image, input_data_format="channels_first")
    np.testing.assert_array_equal(guessed, first)
    np.testing.assert_array_equal(first, processed(Image.fromarray(image.transpose(1, 2, 0).copy())))
    last = processed(image, input_data_format="channels_last")
    np.testing.assert_array_equal(last, processed(Image.fromarray(image)))


def test_a_wrong_number_of_channels_is_refused():
    refused(
        "the image has 4 channels, but image_mean and image_std are for 3",
        np.zeros((12, 9, 4), np.uint8),
        input_data_format="channels_last",
    )
    with pytest.raises(ValueError, match="5 channels cannot be resized.*do_resize=False"):
        processed(np.zeros((9, 9, 5), np.uint8), image_mean=[0.5] * 5, image_std=[0.5] * 5)


def test_many_channels_are_fine_without_resizing():
    mean, std = [0.0, 1.0, 2.0, 3.0, 4.0], [1.0] * 5
    image = np.ones((9, 8, 5), np.float32)
    result = processed(image, image_mean=mean, image_std=std, do_resize=False, do_rescale=False)
    np.testing.assert_array_equal(result[0, :, 0, 0], [1, 0, -1, -2, -3])
    with pytest.raises(ValueError, match="is a picture, and no picture has the 5 channels of image_mean"):
        processed(PNG, image_mean=mean, image_std=std)


def test_converting_to_rgb_for_a_gray_model_is_a_contradiction():
    with pytest.raises(ValueError, match="do_convert_rgb=True.*image_mean has 1"):
        processed(PNG, image_mean=[0.5], image_std=[0.5], do_convert_rgb=True)


def test_a_mode_that_pil_cannot_convert_is_named(monkeypatch):
    def convert(picture, mode):
        raise ValueError("conversion not supported")  # what PIL before 13 says to LAB

    monkeypatch.setattr(Image.Image, "convert", convert)
    refused("the image has PIL mode LAB, which PIL cannot convert to RGB", Image.new("LAB", (4, 4)))


@pytest.mark.parametrize("image", [None, 3, {"pixel_values": PIXELS}, object(), {1, 2}, [[0, 1], [2, 3]]])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(TypeError, match=r"(the image|images\[0\]) is a .*; an image is a PIL image, a path"):
        processed(image)


@pytest.mark.parametrize("dtype", [complex, object, "U1"])
def test_an_array_of_no_numbers_is_refused(dtype):
    refused("the image is an array of .*pixels are integers or floats", np.zeros((4, 4, 3), dtype), error=TypeError)


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="there are no images"):
        processed([])


def test_images_of_different_sizes_are_no_batch():
    images = [PIXELS, PIXELS, PIXELS[1:]]
    words = r"images\[0\] comes out with shape \(3, 12, 9\) and images\[2\] with \(3, 11, 9\).*return_tensors=None"
    with pytest.raises(ValueError, match=words):
        processed(images, do_resize=False)
