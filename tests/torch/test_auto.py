"""The Auto classes of PyTorch."""

import json

import pytest
import torch

import vit_torch
from vit_torch import (
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForMaskedImageModeling,
    ViTConfig,
    ViTForImageClassification,
    ViTForMaskedImageModeling,
    ViTModel,
)
from vit_torch.auto import AutoConfig as SameAutoConfig

AUTO = [
    (AutoModel, ViTModel),
    (AutoModelForImageClassification, ViTForImageClassification),
    (AutoModelForMaskedImageModeling, ViTForMaskedImageModeling),
]


@pytest.mark.parametrize(("auto_class", "model_class"), AUTO)
def test_a_checkpoint_is_loaded_with_the_model_for_its_type(tiny_config, tmp_path, auto_class, model_class):
    model = model_class(tiny_config)
    model.save_pretrained(tmp_path)
    loaded, info = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is model_class
    assert not any(info.values())
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), atol=0, rtol=0)
    assert type(auto_class.from_pretrained(tmp_path, config=tiny_config)) is model_class


@pytest.mark.parametrize(("auto_class", "model_class"), AUTO)
def test_a_config_makes_the_model_for_its_class(tiny_config, auto_class, model_class):
    made = auto_class.from_config(tiny_config, torch_dtype=torch.float64, trust_remote_code=True)
    assert type(made) is model_class
    assert made.dtype == torch.float64
    assert made.training


def test_options_reach_the_model(tiny_config, tmp_path):
    ViTModel(tiny_config, add_pooling_layer=False).save_pretrained(tmp_path)
    assert AutoModel.from_pretrained(tmp_path, add_pooling_layer=False, torch_dtype="float16").dtype == torch.float16
    assert AutoConfig is SameAutoConfig
    assert AutoConfig.from_pretrained(tmp_path, num_labels=7).num_labels == 7


def test_another_model_type_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="the model type is 'bert', and Trivit has beit, "):
        AutoModelForImageClassification.from_pretrained(tmp_path)


def test_a_model_of_ones_own_is_found_once_it_is_registered(tiny_config, tmp_path):
    class OwnConfig(ViTConfig):
        model_type = "own-vit"

    class OwnModel(ViTForImageClassification):
        config_class = OwnConfig

    AutoConfig.register("own-vit", OwnConfig, exist_ok=True)
    AutoModelForImageClassification.register(OwnConfig, OwnModel)
    try:
        OwnModel(OwnConfig(**{**tiny_config.to_diff_dict(), "model_type": "own-vit"})).save_pretrained(tmp_path)
        assert type(AutoModelForImageClassification.from_pretrained(tmp_path)) is OwnModel
        with pytest.raises(ValueError, match="AutoModel has no model for a OwnConfig"):
            AutoModel.from_pretrained(tmp_path)
    finally:
        del AutoModelForImageClassification.models[OwnConfig]


def test_the_mappings_of_transformers_list_what_the_auto_classes_know():
    assert vit_torch.CONFIG_MAPPING["vit"] is vit_torch.ViTConfig
    assert vit_torch.IMAGE_PROCESSOR_MAPPING[vit_torch.ViTConfig] is vit_torch.ViTImageProcessor
    assert vit_torch.MODEL_MAPPING[vit_torch.ViTConfig] is vit_torch.ViTModel
    for task in ("IMAGE_CLASSIFICATION", "MASKED_IMAGE_MODELING"):
        mapping = getattr(vit_torch, f"MODEL_FOR_{task}_MAPPING")
        assert "vit" in [config.model_type for config in mapping]


@pytest.mark.parametrize("folder", ["hf_deit", "timm_deit_distilled"])
def test_a_checkpoint_with_two_classifiers_gets_the_model_that_has_both(fixture_folder, folder):
    model = AutoModelForImageClassification.from_pretrained(fixture_folder / folder, num_attention_heads=4)
    assert type(model) is vit_torch.DeiTForImageClassificationWithTeacher
    assert type(AutoModelForImageClassification.from_config(model.config)) is type(model)
    one = AutoModelForImageClassification.from_pretrained(fixture_folder / "hf_deit_classifier")
    assert type(one) is vit_torch.DeiTForImageClassification
