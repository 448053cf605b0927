"""The Auto classes of Flax, and the tables by which scripts list model types."""

import jax.numpy as jnp
import pytest

import vit_flax
from vit_flax import (
    FLAX_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    FLAX_MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING,
    FLAX_MODEL_MAPPING,
    AutoConfig,
    FlaxAutoModel,
    FlaxAutoModelForImageClassification,
    FlaxAutoModelForMaskedImageModeling,
    FlaxViTForImageClassification,
    FlaxViTForMaskedImageModeling,
    FlaxViTModel,
    ViTConfig,
)

AUTO = [
    (FlaxAutoModel, FLAX_MODEL_MAPPING, FlaxViTModel),
    (FlaxAutoModelForImageClassification, FLAX_MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, FlaxViTForImageClassification),
    (FlaxAutoModelForMaskedImageModeling, FLAX_MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING, FlaxViTForMaskedImageModeling),
]


@pytest.mark.parametrize(("auto_class", "table", "model_class"), AUTO)
def test_a_checkpoint_and_a_config_lead_to_the_model_of_the_table(
    fixture_folder, tiny_config, auto_class, table, model_class
):
    folder = fixture_folder / {"FlaxViTModel": "hf_vit_model", "FlaxViTForMaskedImageModeling": "hf_vit_masked"}.get(
        model_class.__name__, "hf_vit_classifier"
    )
    config = AutoConfig.from_pretrained(folder)
    for options in ({}, {"config": config, "seed": 1, "token": None, "trust_remote_code": False}):
        assert type(auto_class.from_pretrained(folder, dtype=jnp.bfloat16, **options)) is model_class
    made = auto_class.from_config(tiny_config, seed=3, dtype=jnp.bfloat16, _do_init=False)
    assert (type(made), made.dtype) == (model_class, jnp.bfloat16)
    assert table[ViTConfig] is table[type(tiny_config)] is model_class
    assert "vit" in tuple(each.model_type for each in table)
    name = auto_class.__name__.removeprefix("Flax")
    assert getattr(vit_flax, name) is auto_class
