"""What image processors return, against results of transformers 4.47.1, and how their settings are kept."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vit_core import AutoImageProcessor, image_processing
from vit_core.image_processing import (
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    BeitImageProcessor,
    ChannelDimension,
    DeiTImageProcessor,
    ViTFeatureExtractor,
    ViTImageProcessor,
)
from vit_core.image_transforms import center_crop

AS_ARRAY = {
    None: lambda picture: picture,
    "hwc": np.asarray,
    "chw": lambda picture: np.asarray(picture).transpose(2, 0, 1),
    "float01": lambda picture: (np.asarray(picture) / 255).astype(np.float32),
}


@pytest.fixture(scope="module")
def reference(fixture_folder):
    """The cases with image files by name, and a function that gives each its images."""
    folder = fixture_folder / "image_processing"
    cases = json.loads((folder / "cases.json").read_text())["cases"]
    with np.load(folder / "expected.npz") as results:
        expected = dict(results)

    def images(case):
        opened = []
        for name in case["files"]:
            with Image.open(folder / name) as picture:
                picture.load()
                opened.append(AS_ARRAY[case["as_array"]](picture))
        return opened

    return folder, {case["name"]: case for case in cases}, expected, images


def run(case, images, **options):
    processor = getattr(image_processing, case["processor"])(**case["init"])
    return processor(images, return_tensors="np", **case["call"], **options).pixel_values


def test_every_case_that_transformers_accepts_is_the_same_to_the_bit(reference):
    _, cases, expected, images = reference
    accepted = [case for case in cases.values() if "refused" not in case]
    assert len(accepted) == len(expected) == 35
    for case in accepted:
        result = run(case, images(case))
        assert result.dtype == expected[case["name"]].dtype, case["name"]
        np.testing.assert_array_equal(result, expected[case["name"]], err_msg=case["name"])


def test_paths_and_bytes_give_what_the_opened_image_gives(reference):
    """But for the photo that its EXIF data turn; see test_image_files.py."""
    folder, cases, expected, _ = reference
    for case in cases.values():
        if case["as_array"] is None and "refused" not in case and case["files"] != ["exif_rotated.jpg"]:
            paths = [folder / name for name in case["files"]]
            np.testing.assert_array_equal(run(case, paths), expected[case["name"]], err_msg=case["name"])
            np.testing.assert_array_equal(run(case, [str(path) for path in paths]), expected[case["name"]])
            np.testing.assert_array_equal(run(case, [path.read_bytes() for path in paths]), expected[case["name"]])


@pytest.mark.parametrize("name", ["rgba.png", "gray.png", "palette.png", "cmyk.jpg", "bilevel.png"])
def test_modes_that_transformers_refuses_become_rgb(reference, name):
    _, cases, expected, images = reference
    case = cases[f"as_is_{name}"]
    assert "refused" in case
    np.testing.assert_array_equal(run(case, images(case)), expected[f"convert_rgb_{name}"])


def test_16_bit_gray_is_scaled_to_8_bits(reference):
    folder, cases, _, images = reference
    case = cases["as_is_gray16.png"]
    with Image.open(folder / "gray16.png") as picture:
        levels = np.asarray(picture)
    gray = Image.fromarray(np.rint(levels / 257).astype(np.uint8)).convert("RGB")
    np.testing.assert_array_equal(run(case, images(case)), run(case, gray))


def test_an_image_of_one_pixel_fills_the_result_with_it(reference):
    folder, cases, _, images = reference
    with Image.open(folder / "onepixel.png") as picture:
        color = np.array(picture.getpixel((0, 0)))
    result = run(cases["onepixel"], images(cases["onepixel"]))
    assert result.shape == (1, 3, 32, 32)
    np.testing.assert_allclose(
        result, np.broadcast_to((color / 127.5 - 1)[None, :, None, None], result.shape), atol=1e-6
    )


@pytest.mark.filterwarnings("ignore:an image has only values from 0 to 1")
def test_arrays_of_every_dtype_are_the_same_to_the_bit(fixture_folder):
    folder = fixture_folder / "image_processing_arrays"
    cases = json.loads((folder / "cases.json").read_text())
    assert len(cases) > 50
    with np.load(folder / "expected.npz") as results:
        for case in cases:
            result = run(case, results[f"input/{case['image']}"])
            assert result.dtype == results[case["name"]].dtype, case
            np.testing.assert_array_equal(result, results[case["name"]], err_msg=str(case))


# Options


def test_the_formula_of_the_default_processor():
    pixels = np.array([[[0, 51, 255]]], np.uint8)
    result = ViTImageProcessor(size=1)(pixels, input_data_format="channels_last", return_tensors="np").pixel_values
    np.testing.assert_allclose(result[0, :, 0, 0], [-1, -0.6, 1], atol=1e-6)


def test_without_return_tensors_there_is_a_list_of_arrays_of_their_own_sizes():
    images = [np.zeros((4, 5, 3), np.uint8), np.zeros((6, 7, 3), np.uint8)]
    batch = ViTImageProcessor(do_resize=False)(images)
    assert isinstance(batch.pixel_values, list)
    assert [image.shape for image in batch.pixel_values] == [(3, 4, 5), (3, 6, 7)]


def test_a_large_batch_keeps_its_order():
    images = [np.full((9, 9, 3), level, np.uint8) for level in range(200)]
    result = ViTImageProcessor(size=2, do_rescale=False, do_normalize=False)(images, return_tensors="np").pixel_values
    np.testing.assert_array_equal(result[:, 0, 0, 0], np.arange(200))


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_the_formula(data_format, channels):
    rng = np.random.default_rng(0)
    mean, std = [0.485, 0.456, 0.406][:channels], [0.229, 0.224, 0.225][:channels]
    processor = ViTImageProcessor(size=(96, 101), image_mean=mean, image_std=std)
    picture_of_noise = Image.fromarray(rng.integers(0, 256, (96, 101, 3)).astype(np.uint8)).convert(
        "RGB" if channels == 3 else "L"
    )
    for picture in (picture_of_noise, np.asarray(picture_of_noise)):
        pixels = np.atleast_3d(np.asarray(picture))
        expected = ((pixels * (1 / 255)).astype(np.float32) - np.float32(mean)) / np.float32(std)
        result = processor(picture, size=pixels.shape[:2], data_format=data_format, return_tensors="np").pixel_values
        np.testing.assert_array_equal(
            result[0], expected if data_format == "channels_last" else np.moveaxis(expected, 2, 0)
        )


def test_a_picture_that_occurs_twice_is_decoded_once(fixture_folder):
    with Image.open(fixture_folder / "image_processing" / "photo.jpg") as picture:
        result = ViTImageProcessor(size=8)([picture] * 16, return_tensors="np").pixel_values
    assert len(result) == 16
    assert (result == result[0]).all()


def test_the_shortest_edge_is_resized_and_the_other_keeps_the_proportions():
    processor = ViTImageProcessor(size={"shortest_edge": 32})
    wide, tall = np.zeros((50, 70, 3), np.uint8), np.zeros((70, 50, 3), np.uint8)
    # transformers 5.23 gives these sizes; 4.47 refuses to resize with such a size
    assert [image.shape for image in processor([wide, tall]).pixel_values] == [(3, 32, 44), (3, 44, 32)]


def test_a_mean_of_one_channel_makes_pictures_gray():
    picture = Image.new("RGB", (4, 4), (255, 0, 0))
    result = ViTImageProcessor(size=2, image_mean=[0.0], image_std=[1.0])(picture, return_tensors="np").pixel_values
    assert result.shape == (1, 1, 2, 2)
    np.testing.assert_allclose(result, 0.299, atol=0.5 / 255)  # ITU-R 601's weight of red


def test_a_gray_array_is_repeated_over_the_channels():
    gray = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
    result = ViTImageProcessor(size=3)([gray, gray[:, :, None], gray[None]], return_tensors="np").pixel_values
    assert result.shape == (3, 3, 3, 3)
    assert (result == result[0, 0]).all()


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
def test_a_centre_crop_is_the_middle_or_has_the_image_in_its_middle(height, width, crop_height, crop_width):
    image = np.arange(1, height * width + 1).reshape(height, width, 1)
    cropped = center_crop(image, (crop_height, crop_width))
    assert cropped.shape == (crop_height, crop_width, 1)
    kept = min(height, crop_height) * min(width, crop_width)
    assert np.count_nonzero(cropped) == kept
    rows, columns = np.nonzero(cropped[:, :, 0])
    for positions, length in ((rows, crop_height), (columns, crop_width)):
        assert abs((positions.min() + positions.max()) - (length - 1)) <= 1  # centred, up to half a pixel


@pytest.mark.parametrize("levels", [np.linspace(0, 1, 48).reshape(4, 4, 3), np.ones((4, 4, 3), np.int64)])
def test_rescaling_fractions_warns(levels):
    with pytest.warns(UserWarning, match="0 to 1.*do_rescale=False"):
        ViTImageProcessor(size=2)(levels)


def test_a_dark_8_bit_image_does_not_warn():
    ViTImageProcessor(size=2)([np.zeros((4, 4, 3), np.uint8), Image.new("RGB", (3, 3))])


def test_options_that_do_not_exist_are_ignored_with_a_warning():
    with pytest.warns(UserWarning, match="ViTImageProcessor has no padding"):
        ViTImageProcessor(size=2)(np.zeros((4, 4, 3), np.uint8), padding=True)


def test_the_channel_dimension_is_a_string():
    image = np.zeros((4, 4, 3), np.uint8)
    options = {"input_data_format": ChannelDimension.LAST, "data_format": ChannelDimension.LAST}
    assert ViTImageProcessor(size=2)(image, **options).pixel_values[0].shape == (2, 2, 3)
    assert ChannelDimension.FIRST == "channels_first"


IMPOSSIBLE = [
    ({"size": {"height": 3}}, ValueError, "size is {'height': 3}; it must be"),
    ({"size": {"shortest_edge": 3, "width": 3}}, ValueError, "size is .* must be"),
    ({"size": 0}, ValueError, "size is .*at least 1"),
    ({"size": {"height": 4, "width": -4}}, ValueError, "size is .*at least 1"),
    ({"size": {"height": 4.5, "width": 4}}, ValueError, "size is .*whole numbers"),
    ({"size": True}, ValueError, "size is .*whole numbers"),
    ({"size": "large"}, ValueError, "size is 'large'"),
    ({"size": 10**6}, ValueError, "size is .*beyond reason"),
    ({"size": {"shortest_edge": 10**5}}, ValueError, "size is .*beyond reason"),
    ({"resample": 99}, ValueError, "resample is 99.*2 .bilinear"),
    ({"resample": None}, ValueError, "resample is None"),
    ({"do_resize": "false"}, TypeError, "do_resize is 'false'"),
    ({"rescale_factor": float("nan")}, ValueError, "rescale_factor is nan"),
    ({"rescale_factor": 1e300}, ValueError, "rescale_factor is 1e\\+300.*32-bit"),
    ({"rescale_factor": "1/255"}, ValueError, "rescale_factor is '1/255'"),
    ({"image_mean": []}, ValueError, "image_mean is empty"),
    ({"image_mean": ["a", "b", "c"]}, ValueError, "image_mean is 'a'"),
    ({"image_mean": [0.5, 0.5]}, ValueError, "image_mean has 2 values and image_std 3"),
    ({"image_std": [0.5, 0.0, 0.5]}, ValueError, "image_std is .*above 0"),
    ({"image_std": 0}, ValueError, "image_std is 0.*above 0"),
]


@pytest.mark.parametrize(("values", "error", "words"), IMPOSSIBLE)
def test_an_impossible_setting_is_named(values, error, words):
    with pytest.raises(error, match=words):
        ViTImageProcessor(**values)


@pytest.mark.parametrize(("values", "error", "words"), [case for case in IMPOSSIBLE if case[0] != {"resample": None}])
def test_an_impossible_option_of_a_call_is_named(values, error, words):
    with pytest.raises(error, match=words):
        ViTImageProcessor()(np.zeros((4, 4, 3), np.uint8), **values)


@pytest.mark.parametrize("size", [{"shortest_edge": 8}, {"height": 8}, 0])
def test_a_crop_has_height_and_width(size):
    with pytest.raises(ValueError, match="crop_size is"):
        DeiTImageProcessor(crop_size=size)


def test_a_thin_image_is_not_blown_up_by_its_shortest_edge(taking_no_memory):
    with taking_no_memory(), pytest.raises(ValueError, match="the image is 200000 x 1 and would become"):
        ViTImageProcessor(size={"shortest_edge": 2048})(np.zeros((1, 200000, 3), np.uint8))


@pytest.mark.parametrize("option", ["data_format", "input_data_format"])
def test_an_unknown_layout_is_named(option):
    with pytest.raises(ValueError, match=f"{option} is 'middle'.*channels_last"):
        ViTImageProcessor()(np.zeros((4, 4, 3), np.uint8), **{option: "middle"})


# Settings and their file


def test_the_file_is_written_as_transformers_writes_it(fixture_folder, tmp_path):
    written = fixture_folder / "hf_vit_classifier" / "preprocessor_config.json"
    processor = ViTImageProcessor(size=32)
    assert processor.save_pretrained(tmp_path / "new") == [str(tmp_path / "new" / "preprocessor_config.json")]
    assert (tmp_path / "new" / "preprocessor_config.json").read_bytes() == written.read_bytes()
    assert ViTImageProcessor.from_pretrained(fixture_folder / "hf_vit_classifier") == processor


def test_keys_that_are_no_settings_are_kept_and_written_back(tmp_path):
    processor = ViTImageProcessor(size=8, crop_pct=0.9, processor_class="SomeProcessor")
    processor.save_pretrained(tmp_path)
    again = ViTImageProcessor.from_pretrained(tmp_path)
    assert again == processor
    assert again.crop_pct == 0.9
    assert again.to_dict()["processor_class"] == "SomeProcessor"


def test_a_key_that_would_replace_a_method_is_refused():
    with pytest.raises(ValueError, match="'to_dict' is a part of ViTImageProcessor"):
        ViTImageProcessor.from_dict({"to_dict": 1})


@pytest.mark.parametrize("loader", [AutoImageProcessor, ViTImageProcessor])
def test_overrides_replace_what_the_file_says(fixture_folder, loader):
    folder = fixture_folder / "hf_vit_classifier"
    processor = loader.from_pretrained(folder, size=64, do_resize=False, use_fast=False)
    assert processor == ViTImageProcessor(size=64, do_resize=False)
    assert loader.from_pretrained(folder, size=None, image_mean=None) == ViTImageProcessor(size=32)
    with pytest.raises(ValueError, match="size is"):
        loader.from_pretrained(folder, size=-1)


@pytest.mark.parametrize("loader", [AutoImageProcessor, ViTImageProcessor])
def test_what_is_no_setting_is_left_out_with_a_warning_or_returned(fixture_folder, loader):
    folder = fixture_folder / "hf_vit_classifier"
    with pytest.warns(UserWarning, match="has no setting do_resise, which is left out; it has do_resize, size"):
        processor = loader.from_pretrained(folder, do_resise=False)
    assert processor == ViTImageProcessor(size=32)
    processor, unused = loader.from_pretrained(folder, do_resise=False, do_resize=False, return_unused_kwargs=True)
    assert processor == ViTImageProcessor(size=32, do_resize=False)
    assert unused == {"do_resise": False}
    assert loader.from_pretrained(folder, return_unused_kwargs=True) == (ViTImageProcessor(size=32), {})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1, 2]", "holds a JSON list"),
        (b" " * 2**24 + b"{}", "more than 16777216 bytes are refused"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path, content, words):
    (tmp_path / "preprocessor_config.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"preprocessor_config.json.*{words}"):
        ViTImageProcessor.from_pretrained(tmp_path)


def test_a_folder_without_the_file_is_named(tmp_path):
    with pytest.raises(OSError, match="has no preprocessor_config.json"):
        AutoImageProcessor.from_pretrained(tmp_path)


def test_settings_are_compared_by_value_and_shown():
    assert ViTImageProcessor() == ViTImageProcessor(image_mean=np.float64([0.5, 0.5, 0.5]), resample=2)
    assert ViTImageProcessor() != ViTImageProcessor(size=225)
    assert ViTImageProcessor() != DeiTImageProcessor()
    assert ViTImageProcessor.from_dict(ViTImageProcessor(size=7).to_dict()).size == {"height": 7, "width": 7}
    assert repr(ViTImageProcessor()).startswith("ViTImageProcessor(do_resize=True, size={'height': 224, 'width': 224}")


def test_assigned_settings_are_checked_and_defaults_are_not_shared():
    processor = ViTImageProcessor()
    processor.size = 16
    assert processor.size == {"height": 16, "width": 16}
    with pytest.raises(ValueError, match="size is"):
        processor.size = -1
    processor.image_mean[0] = 0.0
    assert ViTImageProcessor().image_mean == IMAGENET_STANDARD_MEAN == [0.5, 0.5, 0.5]
    assert IMAGENET_DEFAULT_STD == [0.229, 0.224, 0.225]


def test_the_feature_extractor_warns_and_is_saved_under_the_new_name(fixture_folder):
    with pytest.warns(FutureWarning, match="ViTFeatureExtractor is deprecated; use ViTImageProcessor") as caught:
        extractor = ViTFeatureExtractor.from_pretrained(fixture_folder / "hf_vit_classifier")
    assert len(caught) == 1
    assert extractor == ViTImageProcessor(size=32)
    assert extractor.to_dict()["image_processor_type"] == "ViTImageProcessor"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extractor(np.zeros((4, 4, 3), np.uint8))


def test_images_of_a_beit_are_those_of_a_deit_and_its_setting_about_labels_is_kept(fixture_folder, tmp_path):
    processor = BeitImageProcessor.from_pretrained(fixture_folder / "hf_data2vec_vision")
    written = (fixture_folder / "hf_data2vec_vision" / "preprocessor_config.json").read_text()
    processor.save_pretrained(tmp_path)
    assert (tmp_path / "preprocessor_config.json").read_text() == written
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    plain = DeiTImageProcessor(size=40, crop_size=32)
    np.testing.assert_array_equal(processor(image)["pixel_values"], plain(image)["pixel_values"])
    assert BeitImageProcessor(reduce_labels=True).do_reduce_labels is True  # as files of old say it
    assert BeitImageProcessor().do_reduce_labels is False


def test_segmentation_maps_are_refused():
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="segmentation_maps are not prepared here"):
        BeitImageProcessor()(image, image[..., 0])
