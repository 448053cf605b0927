"""Which stages a backbone returns, as a config and a call say it."""

import json

import pytest

from vit_core import Dinov2Config, VisionTransformerConfig, ViTConfig, parameters
from vit_core.feature_maps import aligned, last_layers, stages

NAMES = stages(3)


def test_stages_are_the_embeddings_and_each_layer():
    assert stages(2) == ["stem", "stage1", "stage2"]
    assert Dinov2Config(num_hidden_layers=2).stage_names == ["stem", "stage1", "stage2"]


@pytest.mark.parametrize(
    ("names", "numbers", "expected"),
    [
        (None, None, (["stage3"], [3])),
        (["stem", "stage2"], None, (["stem", "stage2"], [0, 2])),
        (None, (1, -1), (["stage1", "stage3"], [1, -1])),
        (["stage3"], [-1], (["stage3"], [-1])),
    ],
)
def test_names_and_numbers_follow_from_each_other(names, numbers, expected):
    assert aligned(names, numbers, NAMES) == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"out_features": "stage1"}, r"out_features is 'stage1'; give a list of stages, such as \['stage3'\]"),
        ({"out_features": []}, r"out_features is \[\]; give a list"),
        ({"out_features": ["stage4"]}, "out_features has 'stage4', but the stages .* go from 'stem' to 'stage3'"),
        ({"out_features": [1]}, "out_features has 1, but the stages"),
        ({"out_features": ["stage2", "stage2"]}, "out_features has the stage 'stage2' twice"),
        ({"out_features": ["stage2", "stem"]}, r"give them in the order of the layers, \['stem', 'stage2'\]"),
        ({"out_indices": [4]}, "out_indices has 4, but the stages of this model go from 0 to 3"),
        ({"out_indices": [-5]}, "out_indices has -5, but"),
        ({"out_indices": [True]}, "out_indices has True, but"),
        ({"out_indices": [-1, 3]}, "out_indices has the stage 3 twice"),
        ({"out_indices": [-1, 1]}, r"give them in the order of the layers, \[1, -1\]"),
        ({"out_features": ["stage1"], "out_indices": [2]}, "are different stages; give one of them"),
        ({"apply_layernorm": 1}, "apply_layernorm is 1; give True or False"),
        ({"reshape_hidden_states": None}, "reshape_hidden_states is None; give True or False"),
    ],
)
@pytest.mark.parametrize("config_class", [Dinov2Config, ViTConfig])
def test_stages_that_cannot_be_are_named(config_class, fields, words):
    with pytest.raises(ValueError, match=words):
        config_class(num_hidden_layers=3, **fields)


@pytest.mark.parametrize("config_class", [Dinov2Config, ViTConfig, VisionTransformerConfig])
def test_a_file_says_nothing_of_stages_that_nobody_chose(config_class):
    config = config_class(num_hidden_layers=3, out_features=None)
    assert config.out_features == ["stage3"]
    assert not {"out_features", "out_indices", "stage_names"} & json.loads(config.to_json_string()).keys()
    assert config == config_class(num_hidden_layers=3)


def test_a_file_has_the_three_fields_that_transformers_writes():
    said = json.loads(ViTConfig(num_hidden_layers=3, out_indices=[1, 2]).to_json_string())
    assert said["out_features"] == ["stage1", "stage2"]
    assert said["out_indices"] == [1, 2]
    assert said["stage_names"] == NAMES
    assert ViTConfig.from_dict(said).out_features == ["stage1", "stage2"]


def test_setting_one_sets_the_other():
    config = ViTConfig(num_hidden_layers=3, out_features=["stage1"])
    config.out_indices = [0, 2]
    assert config.out_features == ["stem", "stage2"]
    config.out_features = ["stage3"]
    assert config.out_indices == [3]
    assert config.replaced(out_indices=[1]).out_features == ["stage1"]
    assert ViTConfig.from_dict(config.to_dict(), out_features=["stage2"]).out_indices == [2]


def test_the_last_stage_stays_the_last_with_other_layers():
    said = Dinov2Config(num_hidden_layers=12, out_features=["stage12"], stage_names=stages(12)).to_dict()
    assert said["out_indices"] == [12]
    for config in (
        Dinov2Config.from_dict(said, num_hidden_layers=2),
        Dinov2Config.from_dict(said).replaced(num_hidden_layers=2),
    ):
        assert config.out_features == ["stage2"]
        assert config.to_dict()["stage_names"] == stages(2)
    with pytest.raises(ValueError, match="out_features has 'stage3'"):
        Dinov2Config.from_dict(said, out_features=["stage3"]).replaced(num_hidden_layers=2)


@pytest.mark.parametrize(
    ("n", "layers"), [(1, [4]), (2, [3, 4]), ([3, 0], [0, 3]), ((-1, 1), [1, 4]), (range(2), [0, 1])]
)
def test_layers_are_counted_from_the_first_or_from_the_last(n, layers):
    assert last_layers(n, 5) == layers


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "n is 0; give how many of the model's 5 layers, from 1 on"),
        (6, "n is 6; give"),
        (True, "n is True; give how many of the last layers, or a list"),
        ([], r"n is \[\]; give"),
        ([5], "n has the layer 5, but the model's layers go from 0 to 4"),
        ([0, -5], r"n is \[0, -5\], which has a layer twice"),
        ("all", "n is 'all'; give"),
    ],
)
def test_layers_that_cannot_be_are_named(n, words):
    with pytest.raises(ValueError, match=words):
        last_layers(n, 5)


def test_a_backbone_is_a_base_model_without_a_pooler():
    config = ViTConfig(num_hidden_layers=1)
    assert parameters(config, "backbone") == parameters(config, "model", add_pooling_layer=False)
