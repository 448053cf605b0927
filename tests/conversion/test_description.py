"""The config follows the tensors of a model whose parts were replaced."""

import warnings

import pytest

from conversion.description import described
from vit_core import ViTConfig, parameters

HEAD, BASE, MASKED = "image-classification", "model", "masked-image-modeling"


def config(**fields):
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
    return ViTConfig(**{**sizes, "image_size": (32, 16), "patch_size": 8, "num_labels": 5, **fields})


def shapes_of(changed, task):
    return {row.name: row.shape for row in parameters(changed, task)}


def description(stale, shapes, task=HEAD, **options):
    return described(stale, lambda config: parameters(config, task), shapes, "TheModel", **options)


@pytest.mark.parametrize("task", [HEAD, BASE, MASKED])
def test_a_config_that_fits_stays_as_it_is(task):
    stale = config(pruned_heads={0: [1]}, pooler_output_size=16, classifier_uses_pooler=True)
    found = description(stale, shapes_of(stale, task), task)
    assert found.config is stale
    assert found.rows == parameters(stale, task)
    assert found.extras == ()


@pytest.mark.parametrize(
    ("changes", "task"),
    [
        ({"num_labels": 10}, HEAD),
        ({"num_labels": 0}, HEAD),
        ({"num_hidden_layers": 2}, HEAD),
        ({"num_hidden_layers": 5}, BASE),
        ({"num_channels": 1}, HEAD),
        ({"num_channels": 4}, MASKED),
        ({"image_size": 64}, HEAD),
        ({"patch_size": 4, "image_size": 16}, BASE),
        ({"intermediate_size": 64}, HEAD),
        ({"qkv_bias": False}, HEAD),
        ({"pooler_output_size": 7}, BASE),
        ({"encoder_stride": 4}, MASKED),
        ({"hidden_size": 64}, HEAD),
    ],
)
def test_the_config_follows_what_was_replaced(changes, task):
    wanted = config(**changes)
    found = description(config(), shapes_of(wanted, task), task)
    assert found.rows == parameters(wanted, task)
    assert {name: getattr(found.config, name) for name in changes} == changes


def test_what_the_shapes_do_not_contradict_stays():
    stale = config(
        hidden_act="relu", layer_norm_eps=1e-3, pruned_heads={0: [1], 2: [3]}, id2label={0: "a", 1: "b"}, num_labels=2
    )
    found = description(stale, shapes_of(stale.replaced(num_hidden_layers=2, pruned_heads={0: [1]}), HEAD))
    assert (found.config.hidden_act, found.config.layer_norm_eps) == ("relu", 1e-3)
    assert (found.config.id2label, found.config.pruned_heads) == ({0: "a", 1: "b"}, {0: [1]})
    assert stale.num_hidden_layers == 3


def test_a_shape_that_follows_from_no_config_says_what_to_set():
    shapes = shapes_of(config(), HEAD)
    shapes["vit.encoder.layer.1.intermediate.dense.weight"] = (50, 32)
    with pytest.raises(ValueError, match=r"layer.1.intermediate.dense.weight has shape \(50, 32\), but model.config"):
        description(config(), shapes)
    shapes = shapes_of(config(), HEAD)
    shapes["vit.embeddings.position_embeddings"] = (1, 8, 32)
    with pytest.raises(ValueError, match="position_embeddings has shape"):
        description(config(), shapes)


def test_what_a_plain_model_does_not_build_is_said_once():
    shapes = shapes_of(config(), HEAD)
    del shapes["classifier.weight"], shapes["classifier.bias"]
    shapes |= {"classifier.0.weight": (16, 32), "classifier.2.weight": (5, 16)}
    with pytest.warns(UserWarning, match="TheModel was changed into what its class does not build") as caught:
        found = description(config(), shapes)
    assert len(caught) == 1
    text = str(caught[0].message)
    assert "holds classifier.0.weight, classifier.2.weight, saved under these names" in text
    assert "lacks classifier.weight, classifier.bias" in text
    assert "in the __init__ of a subclass" in text
    assert found.extras == ("classifier.0.weight", "classifier.2.weight")
    assert found.config.num_labels == 5


def test_what_a_subclass_adds_and_takes_away_is_its_own_affair():
    shapes = shapes_of(config(), HEAD)
    del shapes["classifier.weight"], shapes["classifier.bias"]
    shapes["head.weight"] = (7, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = description(config(), shapes, is_own=False)
    assert found.extras == ("head.weight",)
    assert all(not row.name.startswith("classifier") for row in found.rows)
