import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vit_core import ViTConfig

FIXTURES = Path(__file__).parents[1] / "fixtures"
FIXTURE_FILES = [
    path for path in sorted(FIXTURES.glob("hf_*/config.json")) if json.loads(path.read_text())["model_type"] == "vit"
]

sizes = st.integers(1, 64)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def configs(draw):
    heads = draw(st.integers(1, 6))
    layers = draw(st.integers(0, 4))
    patch = (draw(sizes), draw(sizes))
    pruned = {}
    if layers and heads > 1:
        chosen = st.lists(st.integers(0, heads - 1), max_size=heads - 1, unique=True)
        pruned = draw(st.dictionaries(st.integers(0, layers - 1), chosen, max_size=2))
    return ViTConfig(
        hidden_size=heads * draw(st.integers(1, 16)),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=draw(sizes),
        hidden_act=draw(st.sampled_from(["gelu", "gelu_new", "relu", "selu", "silu", "quick_gelu"])),
        hidden_dropout_prob=draw(st.floats(0, 0.99)),
        layer_norm_eps=draw(st.floats(0, 1)),
        image_size=(patch[0] * draw(st.integers(1, 9)), patch[1] * draw(st.integers(1, 9))),
        patch_size=patch,
        qkv_bias=draw(st.booleans()),
        id2label=draw(st.none() | st.dictionaries(st.integers(0, 99), st.text(max_size=5), max_size=4)),
        problem_type=draw(st.sampled_from([None, "regression", "multi_label_classification"])),
        output_attentions=draw(st.booleans()),
        return_dict=draw(st.booleans()),
        classifier_uses_pooler=draw(st.booleans()),
        pooler_output_size=draw(st.none() | sizes),
        pruned_heads=pruned,
        somebody_elses_key=draw(json_values),
    )


@given(configs())
def test_a_config_survives_its_dict_its_json_and_its_file(config):
    assert ViTConfig.from_dict(config.to_dict()) == config
    assert ViTConfig.from_dict(json.loads(config.to_json_string())) == config
    assert ViTConfig.from_dict(json.loads(config.to_json_string(use_diff=False))) == config


def test_a_config_survives_save_and_load(tmp_path):
    config = ViTConfig(num_labels=3, image_size=(32, 64), patch_size=16)
    config.save_pretrained(tmp_path / "new" / "folder")
    assert ViTConfig.from_pretrained(tmp_path / "new" / "folder") == config
    assert ViTConfig.from_json_file(tmp_path / "new" / "folder" / "config.json") == config


@pytest.mark.parametrize("path", FIXTURE_FILES, ids=lambda path: path.parent.name)
def test_a_file_of_transformers_is_written_back_as_it_was(path):
    written = json.loads(path.read_text())
    if (
        written["label2id"] is None
    ):  # transformers leaves it empty when only id2label is given; it follows from id2label
        written["label2id"] = {name: int(number) for number, name in written["id2label"].items()}
    assert ViTConfig.from_json_file(path).to_json_string() == json.dumps(written, indent=2, sort_keys=True) + "\n"


def test_defaults_are_those_of_vit_base():
    config = ViTConfig()
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (768, 12, 12)
    assert (config.image_size, config.patch_size, config.grid) == (224, 16, (14, 14))
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert config.layer_norm_eps == 1e-12
    assert config.attn_implementation == "sdpa"
    assert config.use_return_dict is True


def test_a_default_config_file_names_the_model_and_leaves_general_settings_out():
    saved = json.loads(ViTConfig().to_json_string())
    assert saved["model_type"] == "vit"
    assert not {"id2label", "output_attentions", "attn_implementation", "pruned_heads", "torch_dtype"} & saved.keys()


def test_a_file_says_that_the_classifier_uses_the_pooler_only_where_it_does():
    assert "classifier_uses_pooler" not in json.loads(ViTConfig().to_json_string())
    assert "classifier_uses_pooler" not in json.loads(ViTConfig(classifier_uses_pooler=False).to_json_string())
    assert json.loads(ViTConfig(classifier_uses_pooler=True).to_json_string())["classifier_uses_pooler"] is True


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, 48),
        ({"pooler_output_size": 7}, 48),
        ({"classifier_uses_pooler": True}, 48),
        ({"classifier_uses_pooler": True, "pooler_output_size": 7}, 7),
    ],
)
def test_the_classifier_reads_the_pooler_only_where_the_config_says_so(fields, size):
    assert ViTConfig(hidden_size=48, **fields).classifier_input_size == size


def test_setting_num_labels_names_classes_anew():
    config = ViTConfig(id2label={0: "cat", 1: "dog"})
    assert (config.num_labels, config.label2id) == (2, {"cat": 0, "dog": 1})
    config.num_labels = 3
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}


def test_pruned_layers_may_be_counted_from_the_last():
    config = ViTConfig(pruned_heads={-1: [2], 11: [0], -12: [1]})
    assert config.pruned_heads == {11: [0, 2], 0: [1]}
    with pytest.raises(ValueError, match="pruned_heads names layer -13"):
        ViTConfig(pruned_heads={-13: [0]})


def test_label_numbers_are_numbers_even_from_json():
    assert ViTConfig.from_dict({"id2label": {"0": "cat", "7": "dog"}}).id2label == {0: "cat", 7: "dog"}


def test_classes_called_by_a_text_and_a_number_can_be_written_and_shown(tmp_path):
    config = ViTConfig(id2label={0: "cat", 1: 5})
    config.save_pretrained(tmp_path)
    assert ViTConfig.from_pretrained(tmp_path).label2id == {"cat": 0, "5": 1}
    assert '"cat": 0' in repr(config)


def test_num_labels_that_contradicts_id2label_warns_and_id2label_wins():
    with pytest.warns(UserWarning, match="num_labels=5 is ignored: id2label names 2 classes"):
        assert ViTConfig(num_labels=5, id2label={0: "cat", 1: "dog"}).num_labels == 2


def test_overrides_replace_labels_that_a_file_has():
    values = {"id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0, "dog": 1}}
    assert ViTConfig.from_dict(values, num_labels=3).id2label[2] == "LABEL_2"
    assert ViTConfig.from_dict(values, num_labels=2).id2label[1] == "dog"
    assert ViTConfig.from_dict(values, id2label={0: "a"}).label2id == {"a": 0}


def test_unknown_keys_are_kept_and_written_back():
    config = ViTConfig(transformers_version="4.47.1", _name_or_path="somewhere", answer=[42])
    assert config.answer == [42]
    assert json.loads(config.to_json_string())["transformers_version"] == "4.47.1"


@pytest.mark.parametrize("name", ["to_dict", "__class__", "grid", "__init__", "validate"])
def test_a_file_cannot_replace_a_method(name):
    with pytest.raises(ValueError, match=f"'{name}' is a part of ViTConfig"):
        ViTConfig.from_dict({name: "harm"})


def test_a_key_may_have_any_other_name():
    assert ViTConfig.from_dict({"self": 1, "cls": 2, "a key": 3}).to_dict()["self"] == 1


def test_the_dtype_is_read_under_both_names_and_written_under_the_one_everybody_reads():
    assert json.loads(ViTConfig(dtype="bfloat16").to_json_string())["torch_dtype"] == "bfloat16"
    assert ViTConfig(torch_dtype="torch.float16").to_dict()["torch_dtype"] == "float16"


def test_a_list_from_json_equals_a_pair():
    assert ViTConfig.from_dict({"image_size": [32, 64]}) == ViTConfig(image_size=(32, 64))


def test_the_dict_belongs_to_the_caller():
    config = ViTConfig()
    config.to_dict()["id2label"][0] = "changed"
    assert config.id2label[0] == "LABEL_0"


def test_problem_type_follows_from_labels():
    assert ViTConfig(num_labels=1).infer_problem_type(integer_labels=True) == "regression"
    assert ViTConfig(num_labels=3).infer_problem_type(integer_labels=True) == "single_label_classification"
    assert ViTConfig(num_labels=3).infer_problem_type(integer_labels=False) == "multi_label_classification"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"hidden_size": 30, "num_attention_heads": 4},
            "hidden_size is 30, which num_attention_heads, 4, does not divide",
        ),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"hidden_size": 10**9, "num_attention_heads": 1}, "hidden_size is 1000000000; give a whole number from 1 to"),
        ({"hidden_size": 768.0}, "hidden_size is 768.0; give a whole number"),
        ({"hidden_size": "768"}, "hidden_size is '768'"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"num_attention_heads": -1}, "num_attention_heads is -1"),
        ({"patch_size": 300}, "patch_size 300 is larger than image_size 224"),
        ({"patch_size": (16, 300)}, r"patch_size \(16, 300\) is larger"),
        ({"image_size": (224, 224, 3)}, r"image_size is \(224, 224, 3\); give one number or \(height, width\)"),
        ({"image_size": 2**24, "patch_size": 1}, "holds 281474976710656 patches"),
        ({"image_size": None}, "image_size is None"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob is 1.0"),
        ({"attention_probs_dropout_prob": float("nan")}, "attention_probs_dropout_prob is nan"),
        ({"layer_norm_eps": -1e-12}, "layer_norm_eps is -1e-12"),
        ({"hidden_act": "swish2"}, "hidden_act is 'swish2'; choose one of gelu"),
        (
            {"attn_implementation": "flash"},
            "attn_implementation is 'flash'; choose one of sdpa, eager",
        ),
        ({"problem_type": "ranking"}, "problem_type is 'ranking'"),
        ({"classifier_uses_pooler": 1}, "classifier_uses_pooler is 1; give True or False"),
        ({"classifier_uses_pooler": "true"}, "classifier_uses_pooler is 'true'"),
        ({"classifier_uses_pooler": None}, "classifier_uses_pooler is None"),
        ({"num_labels": -1}, "num_labels is -1"),
        ({"num_labels": 10**9}, "num_labels is 1000000000"),
        ({"id2label": ["cat"]}, "id2label is a list"),
        ({"id2label": {"first": "cat"}}, "id2label has the keys"),
        ({"model_type": "bert"}, "model_type is 'bert'"),
        ({"pruned_heads": {12: [0]}}, "pruned_heads names layer 12"),
        ({"pruned_heads": {0: [12]}}, "pruned_heads names head 12 of layer 0"),
        ({"pruned_heads": {0: list(range(12))}}, "pruned_heads names every head of layer 0"),
        ({"pruned_heads": [1]}, r"pruned_heads is \[1\]"),
    ],
)
def test_impossible_values_are_named(fields, words):
    with pytest.raises(ValueError, match=words):
        ViTConfig(**fields)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"{", "is not JSON"), (b"[1]", "holds a JSON list"), (b"\xff", "is not JSON"), (b"", "not JSON")],
)
def test_a_file_that_is_no_config_says_so(tmp_path, content, words):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        ViTConfig.from_pretrained(tmp_path)


def test_a_function_as_activation_cannot_be_saved(tmp_path):
    with pytest.raises(TypeError, match="hidden_act is <built-in function abs>, which a JSON file cannot hold"):
        ViTConfig(hidden_act=abs).save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []
