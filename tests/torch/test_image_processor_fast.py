"""ViTImageProcessorFast, and torch tensors as images.

What runs on an accelerator runs here on the CPU, through the same function: only the choice of the device is left out.
What runs on the CPU resizes with PyTorch's code, which is off by a level of 255 now and then.
"""

import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import conversion
from vit_core import BatchFeature, DeiTImageProcessor, ViTImageProcessor
from vit_core.image_settings import check_setting, steps_of
from vit_core.image_transforms import center_crop
from vit_torch import AutoFeatureExtractor, AutoImageProcessor, ViTImageProcessorFast
from vit_torch import image_processing as fast
from vit_torch.image_processing import process_on_device, resize

PIXELS = np.random.default_rng(0).integers(0, 256, (14, 11, 3)).astype(np.uint8)
DEFAULTS = {
    "do_resize": True,
    "size": {"height": 8, "width": 6},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
}


def steps(data_format="channels_first", input_data_format=None, **changes):
    chosen = {name: check_setting(name, value) for name, value in {**DEFAULTS, **changes}.items()}
    return steps_of(chosen, data_format, input_data_format)


def channels_first(array):
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


@pytest.fixture(scope="module")
def accepted_cases(fixture_folder):
    """Every case of ViTImageProcessor that transformers 4.47.1 accepts, as (case, images as RGB arrays, expected)."""
    folder = fixture_folder / "image_processing"
    cases = []
    with np.load(folder / "expected.npz") as expected:
        for case in json.loads((folder / "cases.json").read_text())["cases"]:
            if "refused" not in case and case["processor"] == "ViTImageProcessor":
                arrays = []
                for name in case["files"]:
                    with Image.open(folder / name) as picture:
                        arrays.append(np.asarray(picture.convert("RGB")))
                if case["as_array"] == "float01":
                    arrays = [(array / 255).astype(np.float32) for array in arrays]
                cases.append((case, arrays, expected[case["name"]]))
    assert len(cases) == 30
    return cases


def assert_levels_apart(result, expected, share=0.05, processor=None):
    """That results are as expected but for one level of an 8-bit pixel, in at most this share of the values."""
    processor = processor or ViTImageProcessor()
    level = processor.rescale_factor if processor.do_rescale else 1
    level /= np.min(processor.image_std) if processor.do_normalize else 1
    apart = np.abs(np.asarray(result, np.float64) - np.asarray(expected, np.float64))
    assert apart.max() <= 1.001 * level
    assert (apart > 0.001 * level).mean() <= share


def test_every_reference_case_is_a_level_away_at_most(accepted_cases):
    for case, arrays, expected in accepted_cases:
        images = [channels_first(array) for array in arrays]
        options = {**case["call"], "input_data_format": "channels_first"}
        processor = ViTImageProcessorFast(**case["init"])
        result = processor(images, **options).pixel_values
        assert isinstance(result, torch.Tensor)
        assert_levels_apart(result, expected, processor=ViTImageProcessor(**{**case["init"], **settings_in(options)}))


def settings_in(options):
    return {name: value for name, value in options.items() if name in ViTImageProcessor._setting_names}


@pytest.mark.parametrize("resample", Image.Resampling)
@pytest.mark.parametrize("size", [(224, 200), (40, 31), (3, 300)])
def test_pictures_and_arrays_of_any_layout_are_a_level_away_at_most(resample, size):
    rng = np.random.default_rng(0)
    pixels = np.asarray(Image.fromarray(rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)).resize((260, 190)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch warns of arrays that are not to be written to
        results = ViTImageProcessorFast(size=size, resample=resample)(
            [Image.fromarray(pixels), pixels, pixels[::-1][::-1], channels_first(pixels)]
        ).pixel_values
    expected = ViTImageProcessor(size=size, resample=resample)(pixels, return_tensors="np").pixel_values[0]
    for result in results:
        assert_levels_apart(result, expected)


def test_what_pytorch_has_no_code_for_is_resized_by_pil():
    large = Image.effect_noise((2100, 2000), 90).convert("RGB")  # 16.8 MB, in several pieces of memory
    tall = Image.effect_noise((20, 400), 90).convert("RGB")
    for image, options in [(large, {}), (tall, {}), (tall, {"image_mean": [0.5] * 4, "image_std": [0.5] * 4})]:
        result = ViTImageProcessorFast(size=16, **options)(image).pixel_values
        expected = ViTImageProcessor(size=16, **options)(image, return_tensors="np").pixel_values
        np.testing.assert_array_equal(result, expected)


# JAX, which other tests of the process may have loaded, warns of any fork.
@pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning")
def test_a_forked_process_resizes_after_its_parent_has():
    processor = ViTImageProcessorFast(size=100)
    images = [Image.fromarray(PIXELS).resize((200, 150)) for _ in range(4)]
    expected = processor(images).pixel_values
    loader = torch.utils.data.DataLoader(
        images, batch_size=2, num_workers=1, collate_fn=lambda batch: processor(batch).pixel_values.numpy(), timeout=60
    )
    np.testing.assert_array_equal(np.concatenate(list(loader)), expected)


def test_every_reference_case_is_the_same_where_an_accelerator_does_it(accepted_cases, monkeypatch):
    monkeypatch.setattr(fast, "_accelerator_tensors", lambda images: images)
    for case, arrays, expected in accepted_cases:
        images = [channels_first(array) for array in arrays]
        options = {**case["call"], "input_data_format": "channels_first"}
        result = ViTImageProcessorFast(**case["init"])(images, **options).pixel_values
        np.testing.assert_array_equal(result.numpy(), expected, err_msg=case["name"])


@settings(max_examples=60)
@given(
    resample=st.sampled_from([filter_ for filter_ in Image.Resampling if filter_ <= 5]),
    old=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    new=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    seed=st.integers(0, 2**32 - 1),
)
def test_tensors_are_resized_to_the_pixels_of_pil(resample, old, new, seed):
    pixels = np.random.default_rng(seed).integers(0, 2, (*old, 3)).astype(np.uint8) * 255
    expected = np.asarray(Image.fromarray(pixels).resize(new[::-1], resample))
    np.testing.assert_array_equal(resize(channels_first(pixels), new, resample).permute(1, 2, 0), expected)


def test_large_groups_are_done_in_parts(monkeypatch):
    images = [torch.full((3, 5, 4), level, dtype=torch.uint8) for level in range(9)]
    whole = process_on_device(images, steps())
    monkeypatch.setattr(fast, "LARGEST_CHUNK", 130)  # two images and a bit
    for one, other in zip(process_on_device(images, steps()), whole, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("resizing", [True, False])
@pytest.mark.parametrize("rescaling", [True, False])
@pytest.mark.parametrize("normalizing", [True, False])
@pytest.mark.filterwarnings("ignore:an image has only values from 0 to 1")
def test_every_dtype_gives_what_the_slow_processor_gives(dtype, resizing, rescaling, normalizing):
    pixels = channels_first(PIXELS)
    image = (pixels / 255).to(dtype) if dtype.is_floating_point else (pixels % 2 if dtype == torch.bool else pixels)
    image = image.to(dtype)
    options = {"do_resize": resizing, "do_rescale": rescaling, "do_normalize": normalizing}
    expected = ViTImageProcessor(**{**DEFAULTS, **options})(image, return_tensors="np").pixel_values[0]
    for data_format in ("channels_first", "channels_last"):
        (result,) = process_on_device([image], steps(data_format, **options))
        result = result if data_format == "channels_first" else result.permute(2, 0, 1)
        if resizing or rescaling or normalizing:
            assert result.dtype == torch.from_numpy(expected).dtype
        np.testing.assert_array_equal(result.numpy(), expected)


@pytest.mark.parametrize("size", [(5, 5), (20, 20), (5, 20), (14, 11)])
def test_crops_are_those_of_the_core(size):
    expected = center_crop(PIXELS, size)
    crop = {"do_center_crop": True, "crop_size": size}
    (result,) = process_on_device(
        [channels_first(PIXELS)], steps(do_resize=False, do_rescale=False, do_normalize=False, **crop)
    )
    np.testing.assert_array_equal(result.permute(1, 2, 0), expected)


def test_mixed_sizes_and_gray_keep_their_order():
    tensors = [
        channels_first(PIXELS),
        torch.from_numpy(PIXELS[:, :, 0]),
        channels_first(PIXELS[:9]),
        channels_first(PIXELS),
    ]
    expected = ViTImageProcessor(**DEFAULTS)(tensors, return_tensors="np").pixel_values
    np.testing.assert_array_equal(torch.stack(process_on_device(tensors, steps())), expected)


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (torch.zeros(0, 4, 3), ValueError, "no pixels"),
        (torch.full((3, 4, 5), torch.nan), ValueError, "NaN or infinite"),
        (torch.full((3, 4, 5), 300.0), ValueError, "values from 300 to 300; to be resized"),
        (torch.full((3, 4, 5), 0.5) - 1, ValueError, "values from -0.5 to -0.5; to be resized"),
        (torch.zeros(3, 4, 5, dtype=torch.complex64), TypeError, "complex64"),
        (torch.zeros(3, 4, 5).to_sparse(), TypeError, "sparse"),
        (torch.zeros(5, 6, 7), ValueError, "neither the first nor the last"),
        (torch.zeros(2, 3, 6, 6), ValueError, "makes a batch"),
    ],
)
def test_what_is_no_image_is_named_on_a_device_too(image, error, words):
    with pytest.raises(error, match=rf"images\[1\].*{words}"):
        process_on_device([channels_first(PIXELS), image], steps(do_rescale=False))


def test_alpha_is_not_resized_on_a_device():
    rgba = torch.zeros(4, 6, 6, dtype=torch.uint8)
    settings = {"image_mean": [0.5] * 4, "image_std": [0.5] * 4}
    with pytest.raises(ValueError, match="4 channels.*on the CPU only"):
        process_on_device([rgba], steps(**settings))
    assert process_on_device([rgba], steps(**settings, do_resize=False))[0].shape == (4, 6, 6)


def test_rescaling_fractions_warns_on_a_device_too():
    with pytest.warns(UserWarning, match="0 to 1.*do_rescale=False"):
        process_on_device([torch.rand(3, 6, 6)], steps())


def test_pictures_and_arrays_become_tensors():
    batch = ViTImageProcessorFast(size=6)([Image.fromarray(PIXELS), PIXELS, channels_first(PIXELS)], device="cpu")
    expected = ViTImageProcessor(size=6)(PIXELS, return_tensors="np").pixel_values
    assert_levels_apart(batch.pixel_values, np.repeat(expected, 3, axis=0))


def test_images_of_different_sizes_are_a_list_or_an_error():
    images = [channels_first(PIXELS), channels_first(PIXELS[1:])]
    processor = ViTImageProcessorFast(do_resize=False)
    assert [tuple(image.shape) for image in processor(images, return_tensors=None).pixel_values] == [
        (3, 14, 11),
        (3, 13, 11),
    ]
    with pytest.raises(ValueError, match=r"cannot be one tensor: images\[0\].*\(3, 14, 11\) and images\[1\]"):
        processor(images)


def test_only_torch_tensors_are_returned():
    with pytest.raises(ValueError, match="return_tensors is 'np'.*ViTImageProcessor the others"):
        ViTImageProcessorFast()(PIXELS, return_tensors="np")


def test_tensors_on_several_devices_are_no_batch():
    with pytest.raises(ValueError, match="the images are on cpu, meta; move them to one device"):
        ViTImageProcessorFast()([torch.zeros(3, 4, 4), torch.zeros(3, 4, 4, device="meta")])


def test_the_settings_are_those_of_the_slow_processor(fixture_folder, tmp_path):
    folder = fixture_folder / "hf_vit_classifier"
    processor = ViTImageProcessorFast.from_pretrained(folder)
    assert processor == ViTImageProcessorFast(size=32)
    processor.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert written.pop("image_processor_type") == "ViTImageProcessorFast"
    slow = ViTImageProcessor.from_pretrained(tmp_path)
    assert {**written, "image_processor_type": "ViTImageProcessor"} == slow.to_dict()


# Tensors in the core's processors


@pytest.mark.parametrize(
    "tensor",
    [
        channels_first(PIXELS),
        torch.from_numpy(PIXELS),
        channels_first(PIXELS).float().requires_grad_(),
        channels_first(PIXELS).to(torch.bfloat16),  # whole numbers up to 256 are exact
        channels_first(PIXELS)[None],
    ],
)
def test_torch_tensors_are_images(tensor):
    processor = ViTImageProcessor(size=6)
    result = processor(tensor, return_tensors="pt").pixel_values
    assert isinstance(result, torch.Tensor)
    np.testing.assert_array_equal(result, processor(PIXELS, return_tensors="np").pixel_values)


def test_a_batch_is_moved_and_cast():
    batch = ViTImageProcessor(size=4)(PIXELS, return_tensors="pt")
    batch["labels"] = torch.tensor([3])
    assert batch.to("cpu", torch.bfloat16) is batch
    assert batch.pixel_values.dtype == torch.bfloat16
    assert batch.labels.dtype == torch.int64
    assert batch.to(torch.float32).pixel_values.dtype == torch.float32
    assert batch.to(device="meta").labels.device.type == "meta"


def test_what_is_no_tensor_stays_as_it_is_when_a_batch_is_moved():
    batch = BatchFeature({"pixel_values": torch.zeros(2), "file": "cat.png", "array": np.zeros(2), "list": [1]})
    batch.to("meta", torch.bfloat16, non_blocking=True)
    assert (batch.pixel_values.device.type, batch.pixel_values.dtype) == ("meta", torch.bfloat16)
    assert (batch.file, batch.list, batch.array.dtype) == ("cat.png", [1], np.float64)
    with pytest.raises(ValueError, match="a batch cannot be moved to tensor"):
        batch.to(torch.zeros(2))
    with pytest.raises(TypeError):
        batch.to(torch.bfloat16, "cpu")


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        ([0.5, 2], torch.float32, (2,)),
        ([1, 2], torch.int64, (2,)),
        (3, torch.int64, ()),
        (np.zeros(2), torch.float64, (2,)),
        ([np.zeros(2, np.float16)], torch.float16, (1, 2)),
        ([torch.zeros(2), torch.ones(2)], torch.float32, (2, 2)),
        (torch.zeros(2, dtype=torch.bfloat16), torch.bfloat16, (2,)),
    ],
)
def test_lists_get_the_dtype_that_torch_gives_them(value, dtype, shape):
    """As BatchFeature of transformers 4.47.1 does, which takes no list of tensors."""
    result = BatchFeature({"item": value}, "pt").item
    assert (result.dtype, tuple(result.shape)) == (dtype, shape)
    assert isinstance(BatchFeature({"item": torch.zeros(2, requires_grad=True)}, "np").item, np.ndarray)


def test_strings_are_no_tensor():
    with pytest.raises(ValueError, match="files cannot become one tensor"):
        BatchFeature({"files": ["a.png", "b.png"]}, "pt")


def test_a_step_that_a_subclass_replaces_is_used():
    class Brighter(ViTImageProcessorFast):
        def rescale(self, image, scale, **options):
            return super().rescale(image, 2 * scale, **options)

    settings = {"size": 8, "do_normalize": False}
    plain = ViTImageProcessor(**settings)(PIXELS, return_tensors="pt").pixel_values
    torch.testing.assert_close(
        Brighter(**settings)([PIXELS, channels_first(PIXELS)]).pixel_values, 2 * plain.repeat(2, 1, 1, 1)
    )


def test_a_file_that_names_the_fast_class_gets_it(tmp_path):
    ViTImageProcessorFast(size=9).save_pretrained(tmp_path)
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is ViTImageProcessorFast
    assert type(AutoFeatureExtractor.from_pretrained(tmp_path)) is ViTImageProcessorFast
    assert AutoImageProcessor.from_pretrained(tmp_path, use_fast=False) == ViTImageProcessor(size=9)
    assert conversion.AutoImageProcessor.from_pretrained(tmp_path) == ViTImageProcessor(size=9)  # without a framework
    result = AutoImageProcessor.from_pretrained(tmp_path)(PIXELS).pixel_values
    np.testing.assert_array_equal(result, ViTImageProcessorFast(size=9)(PIXELS).pixel_values)


def test_the_fast_class_is_taken_when_it_is_asked_for(tmp_path):
    ViTImageProcessor(size=9).save_pretrained(tmp_path)
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is ViTImageProcessor
    assert AutoImageProcessor.from_pretrained(tmp_path, use_fast=True) == ViTImageProcessorFast(size=9)
    DeiTImageProcessor(size=9).save_pretrained(tmp_path)  # which has none
    assert AutoImageProcessor.from_pretrained(tmp_path, use_fast=True) == DeiTImageProcessor(size=9)


def test_tensors_are_not_copied_to_become_a_batch():
    batch = ViTImageProcessor(size=4)(PIXELS, return_tensors="np")
    array = batch.pixel_values
    assert batch.convert_to_tensors("pt").pixel_values.data_ptr() == array.ctypes.data
