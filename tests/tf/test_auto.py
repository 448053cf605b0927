"""The Auto classes of Keras; what all backends share is tested in tests/core/test_auto.py."""

import pytest

import vit_tf
from vit_tf import (
    AutoConfig,
    TFAutoModel,
    TFAutoModelForImageClassification,
    TFAutoModelForMaskedImageModeling,
    TFViTForImageClassification,
    TFViTForMaskedImageModeling,
    TFViTModel,
    ViTConfig,
)


@pytest.mark.parametrize(
    ("auto_class", "model_class", "folder"),
    [
        (TFAutoModel, TFViTModel, "hf_vit_model"),
        (TFAutoModelForImageClassification, TFViTForImageClassification, "hf_vit_classifier"),
        (TFAutoModelForMaskedImageModeling, TFViTForMaskedImageModeling, "hf_vit_masked"),
    ],
)
def test_a_checkpoint_opens_as_the_model_of_the_task(auto_class, model_class, folder, fixture_folder):
    config = AutoConfig.from_pretrained(fixture_folder / folder)
    assert type(config) is ViTConfig
    model = auto_class.from_pretrained(fixture_folder / folder, config=config)
    assert type(model) is model_class


def test_the_tables_are_there_by_the_names_that_scripts_list():
    assert list(vit_tf.TF_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING.values()) == [TFViTForImageClassification]
    assert list(vit_tf.TF_MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING.values()) == [TFViTForMaskedImageModeling]
    assert vit_tf.TF_MODEL_MAPPING[ViTConfig] is TFViTModel
    assert vit_tf.CONFIG_MAPPING["vit"] is ViTConfig


def test_a_model_of_another_type_is_refused(fixture_folder):
    with pytest.raises(ValueError, match="the model type is 'deit', and Trivit has beit, "):
        TFAutoModelForImageClassification.from_pretrained(fixture_folder / "hf_deit")
