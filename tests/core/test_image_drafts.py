"""`draft=True`: JPEG files that are decoded at a reduced scale."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from vit_core import AutoImageProcessor, ViTImageProcessor
from vit_core.auto_image_processor import PROCESSORS

LEVEL = 2 / 255  # of pixels that are normalised to -1..1


def photo(width, height):
    """A picture whose spectrum falls with the frequency, as those of photographs do (Field 1987)."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    waves = np.fft.rfft2(rng.standard_normal((4, height, width))) / frequency
    planes = np.fft.irfft2(waves, (height, width))
    planes = planes[:1] + 0.2 * planes[1:]  # colours that go together
    return Image.fromarray((128 + 55 * planes / planes.std()).clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def encoded(picture, format_name="JPEG", **options):
    file = io.BytesIO()
    picture.save(file, format_name, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def picture():
    return photo(1400, 1000)


@pytest.fixture(scope="module")
def jpeg(picture):
    return encoded(picture, quality=90)


@pytest.mark.parametrize("size", [80, 160, 320])  # at 1/8, 1/4, 1/2
@pytest.mark.parametrize("resample", [2, 3])
def test_a_draft_differs_by_less_than_two_levels_on_average(jpeg, size, resample):
    processor = ViTImageProcessor(size=size, resample=resample)
    exact, draft = (processor(jpeg, draft=draft, return_tensors="np").pixel_values for draft in (False, True))
    assert exact.shape == draft.shape
    assert 0 < np.abs(draft - exact).mean() < 2 * LEVEL


def test_a_draft_is_decoded_at_a_reduced_scale(jpeg, monkeypatch):
    scales = []
    load = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, *a, **k: scales.append(self.size) or load(self, *a, **k))
    ViTImageProcessor(size=80, draft=True)(jpeg)
    assert scales == [(175, 125)]


@pytest.mark.parametrize("name", PROCESSORS)
def test_every_processor_makes_drafts(jpeg, name, tmp_path):
    processor = PROCESSORS[name](size=96)
    processor.save_pretrained(tmp_path)
    drafting = AutoImageProcessor.from_pretrained(tmp_path, draft=True)
    assert drafting.draft
    exact, draft = (each(jpeg, return_tensors="np").pixel_values for each in (processor, drafting))
    assert draft.shape == exact.shape
    assert 0 < np.abs(draft - exact).mean() < 5 * LEVEL  # of pixels that are divided by a quarter


def test_other_images_are_decoded_in_full(picture, jpeg):
    with Image.open(io.BytesIO(jpeg)) as opened:
        images = [encoded(picture, "PNG", compress_level=0), picture, np.asarray(picture), opened]
        processor = ViTImageProcessor(size=80)
        exact, draft = (processor(images, draft=draft, return_tensors="np").pixel_values for draft in (False, True))
        np.testing.assert_array_equal(draft, exact)
        assert opened.size == (1400, 1000)


@pytest.mark.parametrize("options", [{"do_resize": False}, {"resample": 0}, {"size": 700}])
def test_what_a_draft_would_not_suit_is_decoded_in_full(jpeg, options):
    processor = ViTImageProcessor(**options)
    exact, draft = (processor(jpeg, draft=draft, return_tensors="np").pixel_values for draft in (False, True))
    np.testing.assert_array_equal(draft, exact)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_draft_stands_upright_and_has_the_proportions_of_the_file(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # 40.125 x 125.375 pixels at a scale of 1/8. Of 41 x 126, the shortest edge would make 20 x 61.
    file = encoded(photo(321, 1003), exif=exif, quality=95)
    processor = ViTImageProcessor(size={"shortest_edge": 20})
    exact, draft = (processor(file, draft=draft, return_tensors="np").pixel_values for draft in (False, True))
    assert draft.shape == exact.shape == (1, 3, *((62, 20) if orientation < 5 else (20, 62)))
    assert 0 < np.abs(draft - exact).mean() < 2 * LEVEL


def test_no_file_sets_or_gets_it(tmp_path):
    processor = ViTImageProcessor(size=40, draft=True)
    processor.save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    assert "draft" not in settings
    path.write_text(json.dumps({**settings, "draft": True}))
    assert AutoImageProcessor.from_pretrained(tmp_path).draft is False
    with pytest.raises(TypeError, match="draft is 'yes'; it must be True or False"):
        AutoImageProcessor.from_pretrained(tmp_path, draft="yes")


def test_a_draft_is_no_way_around_a_limit(jpeg, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    with pytest.raises(ValueError, match="suspiciously large"), pytest.warns(Image.DecompressionBombWarning):
        ViTImageProcessor(size=80, draft=True)(jpeg)
