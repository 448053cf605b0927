"""AutoImageProcessor and AutoFeatureExtractor: which processor a checkpoint's files ask for."""

import json

import numpy as np
import pytest

from vit_core import (
    AutoFeatureExtractor,
    AutoImageProcessor,
    DeiTImageProcessor,
    ViTConfig,
    ViTImageProcessor,
    auto_image_processor,
)
from vit_core.image_processing import IMAGENET_DEFAULT_MEAN

LEGACY = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}


@pytest.fixture
def tables(monkeypatch):
    """The tables of known classes, as they were again afterwards."""
    for name in ("PROCESSORS", "MODEL_TYPES"):
        known = getattr(auto_image_processor, name)
        monkeypatch.setattr(auto_image_processor, name, dict(known))
    monkeypatch.setattr(AutoImageProcessor, "_processors", auto_image_processor.PROCESSORS)


@pytest.mark.parametrize(
    ("settings", "processor"),
    [
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 224, **LEGACY}, ViTImageProcessor()),
        ({"image_processor_type": "ViTFeatureExtractor", "size": [224, 224], **LEGACY}, ViTImageProcessor()),
        ({"image_processor_type": "ViTImageProcessorFast", **LEGACY}, ViTImageProcessor()),
        (
            {"feature_extractor_type": "DeiTFeatureExtractor", "size": 256, "crop_size": 224, **LEGACY, "resample": 3},
            DeiTImageProcessor(),
        ),
        (
            {"image_processor_type": "DeiTImageProcessor", "image_mean": IMAGENET_DEFAULT_MEAN},
            DeiTImageProcessor(image_mean=IMAGENET_DEFAULT_MEAN),
        ),
    ],
)
def test_the_type_in_the_file_decides(tmp_path, settings, processor):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(loaded) is type(processor)
    assert loaded == processor


def test_a_file_without_a_type_is_for_the_model_beside_it(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text('{"size": 16}')
    (tmp_path / "config.json").write_text('{"model_type": "deit"}')
    assert AutoImageProcessor.from_pretrained(tmp_path) == DeiTImageProcessor(size=16)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match="names no image_processor_type.*ViTImageProcessor.from_pretrained"):
        AutoImageProcessor.from_pretrained(tmp_path)


def test_an_unknown_type_is_named(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "ConvNextImageProcessor"}')
    with pytest.raises(ValueError, match="'ConvNextImageProcessor'; known types are ViTImageProcessor"):
        AutoImageProcessor.from_pretrained(tmp_path)


def test_the_config_may_name_the_type_or_be_given(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text('{"size": 16}')
    assert AutoImageProcessor.from_pretrained(tmp_path, config=ViTConfig()) == ViTImageProcessor(size=16)
    config = ViTConfig(image_processor_type="DeiTImageProcessor")
    assert AutoImageProcessor.from_pretrained(tmp_path, config=config) == DeiTImageProcessor(size=16)
    (tmp_path / "config.json").write_text('{"image_processor_type": "DeiTFeatureExtractor"}')
    assert AutoImageProcessor.from_pretrained(tmp_path) == DeiTImageProcessor(size=16)


@pytest.mark.parametrize("content", ["{", '{"model_type": "bert"}', '{"architecture": "vit", "global_pool": "token"}'])
def test_a_foreign_config_beside_a_named_file_is_nothing_of_it(tmp_path, content):
    """It says nothing of the type; where the file does, it is not read at all."""
    (tmp_path / "config.json").write_text(content)
    settings = tmp_path / "settings.json"
    settings.write_text('{"size": 16}')
    with pytest.raises(ValueError, match=r"names no image_processor_type.*ViTImageProcessor\.from_pretrained"):
        AutoImageProcessor.from_pretrained(settings)
    settings.write_text('{"size": 16, "image_processor_type": "ViTImageProcessor"}')
    assert AutoImageProcessor.from_pretrained(settings) == ViTImageProcessor(size=16)
    assert ViTImageProcessor.from_pretrained(settings) == ViTImageProcessor(size=16)


@pytest.mark.parametrize("use_fast", [True, False, None])
def test_where_there_is_no_fast_class_the_other_has_the_same_results(tmp_path, use_fast):
    ViTImageProcessor(size=5).save_pretrained(tmp_path)
    assert AutoImageProcessor.from_pretrained(tmp_path, use_fast=use_fast) == ViTImageProcessor(size=5)
    assert DeiTImageProcessor(size=5).save_pretrained(tmp_path)
    assert AutoImageProcessor.from_pretrained(tmp_path, use_fast=use_fast) == DeiTImageProcessor(size=5)


def test_the_feature_extractor_of_old_finds_the_same(fixture_folder):
    folder = fixture_folder / "hf_vit_classifier"
    assert AutoFeatureExtractor.from_pretrained(folder) == AutoImageProcessor.from_pretrained(folder)


@pytest.mark.parametrize("automatic", [AutoImageProcessor, AutoFeatureExtractor])
def test_the_automatic_class_cannot_be_made(automatic):
    with pytest.raises(OSError, match=rf"call {automatic.__name__}\.from_pretrained\(model\)"):
        automatic()


# Classes of one's own


class Inverting(ViTImageProcessor):
    """Makes negatives."""

    def __init__(self, strength=1.0, **settings):
        super().__init__(**settings)
        self.strength = strength

    def rescale(self, image, scale, **options):
        return 1 - self.strength * super().rescale(image, scale, **options)


class InvertingFast(Inverting):
    pass


class InvertingConfig(ViTConfig):
    model_type = "inverting"


def test_a_subclass_is_saved_under_its_own_name_with_what_it_adds(tmp_path):
    Inverting(strength=0.5, size=4).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["image_processor_type"] == "Inverting"
    loaded = Inverting.from_pretrained(tmp_path)
    assert (loaded.strength, loaded.size) == (0.5, {"height": 4, "width": 4})
    assert Inverting.from_pretrained(tmp_path, strength=0.25).strength == 0.25
    ViTImageProcessor().save_pretrained(tmp_path)  # whose file does not say how strong
    assert Inverting.from_pretrained(tmp_path, strength=0.25).strength == 0.25
    image = np.full((4, 4, 3), 255, np.uint8)
    assert (Inverting(size=4, do_normalize=False)(image, return_tensors="np").pixel_values == 0).all()


def test_a_subclass_is_not_taken_for_what_it_is_made_of(tmp_path):
    Inverting().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'Inverting'; known types are ViTImageProcessor.*register makes one of your"):
        AutoImageProcessor.from_pretrained(tmp_path)


@pytest.mark.usefixtures("tables")
def test_a_registered_class_is_found_by_its_name_and_by_the_model_type(tmp_path):
    AutoImageProcessor.register(InvertingConfig, Inverting)
    AutoImageProcessor.register(InvertingConfig, Inverting)  # again, as a notebook does
    Inverting(strength=0.5).save_pretrained(tmp_path)
    assert AutoImageProcessor.from_pretrained(tmp_path).strength == 0.5
    assert type(AutoFeatureExtractor.from_pretrained(tmp_path)) is Inverting
    (tmp_path / "preprocessor_config.json").write_text('{"strength": 0.75}')
    InvertingConfig().save_pretrained(tmp_path)
    assert AutoImageProcessor.from_pretrained(tmp_path).strength == 0.75


@pytest.mark.usefixtures("tables")
def test_a_registered_fast_class_is_taken_when_it_is_asked_for(tmp_path):
    names = {"slow_image_processor_class": Inverting, "fast_image_processor_class": InvertingFast}
    AutoImageProcessor.register(InvertingConfig, **names)
    Inverting().save_pretrained(tmp_path)
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is Inverting
    assert type(AutoImageProcessor.from_pretrained(tmp_path, use_fast=True)) is InvertingFast
    InvertingFast().save_pretrained(tmp_path)
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is InvertingFast
    assert type(AutoImageProcessor.from_pretrained(tmp_path, use_fast=False)) is Inverting


@pytest.mark.usefixtures("tables")
def test_what_is_known_is_replaced_on_request_alone(tmp_path):
    with pytest.raises(ValueError, match="'vit' have a ViTImageProcessor already; pass exist_ok=True"):
        AutoFeatureExtractor.register(ViTConfig, Inverting)
    with pytest.raises(ValueError, match="there is a ViTImageProcessor already; rename yours"):
        AutoImageProcessor.register(InvertingConfig, type("ViTImageProcessor", (Inverting,), {}))
    with pytest.raises(ValueError, match="nothing to register"):
        AutoImageProcessor.register(InvertingConfig)
    AutoFeatureExtractor.register(ViTConfig, Inverting, exist_ok=True)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert type(AutoImageProcessor.from_pretrained(tmp_path, config=ViTConfig())) is Inverting
