"""The Auto classes of Keras; what all backends share is tested in tests/core/test_auto.py."""

import pytest

import vit_tf
from vit_core.families import FAMILIES
from vit_tf import (
    AutoConfig,
    TFAutoBackbone,
    TFAutoModel,
    TFAutoModelForImageClassification,
    TFAutoModelForMaskedImageModeling,
    TFAutoModelForPreTraining,
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


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_family_opens_by_its_tasks(family):
    auto_classes = {
        "model": TFAutoModel,
        "image-classification": TFAutoModelForImageClassification,
        "masked-image-modeling": TFAutoModelForMaskedImageModeling,
        "masked-token-modeling": TFAutoModelForMaskedImageModeling,
        "pre-training": TFAutoModelForPreTraining,
        "backbone": TFAutoBackbone,
    }
    for auto_class in set(auto_classes.values()):
        tasks = [task for task in auto_classes if auto_classes[task] is auto_class and task in family.models]
        if tasks:  # of two, the first
            assert auto_class.models[family.config_class] is getattr(vit_tf, f"TF{family.models[tasks[0]]}")
        else:
            assert family.config_class not in auto_class.models


def test_every_model_has_its_name_without_tf():
    for family in FAMILIES.values():
        for task, name in family.models.items():
            model = getattr(vit_tf, name)
            assert model is getattr(vit_tf, f"TF{name}")
            assert model.__name__ == f"TF{name}"
            assert model.config_class is family.config_classes.get(task, family.config_class)


def test_the_tables_are_there_by_the_names_that_scripts_list():
    assert TFViTForImageClassification in vit_tf.TF_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING.values()
    assert TFViTForMaskedImageModeling in vit_tf.TF_MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING.values()
    assert vit_tf.TF_MODEL_FOR_PRETRAINING_MAPPING[vit_tf.ViTMAEConfig] is vit_tf.TFViTMAEForPreTraining
    assert vit_tf.TF_MODEL_MAPPING[ViTConfig] is TFViTModel
    assert vit_tf.CONFIG_MAPPING["vit"] is ViTConfig
    assert vit_tf.IMAGE_PROCESSOR_MAPPING[vit_tf.BeitConfig] is vit_tf.BeitImageProcessor


def test_a_task_that_a_family_has_no_model_for_is_refused(fixture_folder):
    with pytest.raises(ValueError, match="TFAutoModelForImageClassification has no model for a ViTMAEConfig; it has "):
        TFAutoModelForImageClassification.from_pretrained(fixture_folder / "hf_vit_mae")
