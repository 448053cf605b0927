"""What scripts for transformers 4 do with a config."""

import copy
import json
import pickle
import subprocess
import sys
import warnings

import pytest

from vit_core import ViTConfig
from vit_core.auto import AutoConfig
from vit_core.loading_options import REFUSED, WITHOUT_EFFECT

SECRET = "hf_SECRET"
#: Options of loading, each with a value that may be private.
OPTIONS = {
    "use_auth_token": SECRET,
    "token": SECRET,
    "proxies": {"https": f"http://user:{SECRET}@proxy"},
    "mirror": SECRET,
    "user_agent": {"user": SECRET},
    "trust_remote_code": True,
    "cache_dir": "/tmp/" + SECRET,
    "subfolder": None,
    "revision": None,
    "_commit_hash": SECRET,
    "_from_auto": True,
    "local_files_only": True,
}


class WideConfig(ViTConfig):
    """A config as research code writes them."""

    model_type = "wide-vit"
    attribute_map = {"width": "hidden_size"}  # noqa: RUF012

    def __init__(self, depth_factor=1, names=None, **kwargs):
        super().__init__(**kwargs)
        self.depth_factor = depth_factor
        self.names = names or []


@pytest.fixture
def folder(tmp_path):
    ViTConfig(hidden_size=32, num_attention_heads=4).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("option", OPTIONS)
def test_options_of_loading_are_no_fields(folder, tmp_path, option):
    config = ViTConfig.from_pretrained(folder, **{option: OPTIONS[option]})
    config.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    assert SECRET not in repr(config) + json.dumps(config.to_dict())


@pytest.mark.parametrize(
    "made",
    [
        lambda values: ViTConfig(**values),
        lambda values: ViTConfig.from_dict(values),
        lambda values: AutoConfig.for_model("vit", **values),
        lambda values: ViTConfig().replaced(**values),
        lambda values: ViTConfig(inner=ViTConfig(**values)),
    ],
)
def test_what_tells_how_to_reach_a_checkpoint_is_never_written(made, tmp_path):
    config = copy.deepcopy(made(OPTIONS))
    config.update({"use_auth_token": SECRET})
    config.token = SECRET
    config.save_pretrained(tmp_path)
    config.to_json_file(tmp_path / "whole.json", use_diff=False)
    assert SECRET not in "".join(file.read_text() for file in tmp_path.iterdir()) + repr(config)


def test_a_config_is_read_from_a_json_file_of_any_name(tmp_path):
    ViTConfig(num_labels=3, inner=ViTConfig(num_labels=4)).to_json_file(tmp_path / "small.json")
    for loader in (ViTConfig, AutoConfig):
        config = loader.from_pretrained(tmp_path / "small.json", num_attention_heads=6)
        assert (config.num_labels, config.num_attention_heads) == (3, 6)
        assert len(config.inner["id2label"]) == 4


def test_unused_options_are_returned_on_request_and_named_otherwise(folder):
    config, unused = ViTConfig.from_pretrained(
        folder, output_attentions=True, foo=False, use_auth_token=SECRET, return_unused_kwargs=True
    )
    assert config.output_attentions is True
    assert unused == {"foo": False}
    assert not hasattr(config, "foo")
    with pytest.warns(UserWarning, match="ViTConfig has no foo, which is left out"):
        assert not hasattr(ViTConfig.from_pretrained(folder, foo=False), "foo")
    assert ViTConfig.from_dict({"my_note": 1}, return_unused_kwargs=True, my_note=2)[0].my_note == 2


@pytest.mark.parametrize("option", sorted(REFUSED))
def test_what_is_not_there_is_refused_unless_it_is_off(folder, option):
    with pytest.raises(ValueError, match=f"{option}=True asks for what Trivit does not have"):
        ViTConfig.from_pretrained(folder, **{option: True})
    for off in (False, None):
        assert ViTConfig.from_pretrained(folder, **{option: off}).hidden_size == 32


def test_the_arguments_have_the_names_of_transformers(folder, tmp_path):
    config = ViTConfig.from_pretrained(pretrained_model_name_or_path=str(folder))
    config.save_pretrained(save_directory=tmp_path / "a")
    assert ViTConfig.from_json_file(json_file=tmp_path / "a" / "config.json") == config
    assert ViTConfig.from_dict(config_dict=config.to_dict()) == config
    config.to_json_file(json_file_path=tmp_path / "b.json", use_diff=False)
    assert ViTConfig.from_json_file(tmp_path / "b.json") == config
    values, options = ViTConfig.get_config_dict(folder, cache_dir=None, foo=1)
    assert (values["hidden_size"], options) == (32, {"foo": 1})


def test_fields_are_updated_together_or_not_at_all():
    config = ViTConfig(hidden_size=32, num_attention_heads=4)
    config.update({"hidden_size": 48, "id2label": {0: "a", 1: "b", 2: "c"}})
    assert (config.hidden_size, config.num_labels, config.label2id) == (48, 3, {"a": 0, "b": 1, "c": 2})
    with pytest.raises(ValueError, match="hidden_size is 30"):
        config.update({"num_hidden_layers": 1, "hidden_size": 30})
    assert (config.hidden_size, config.num_hidden_layers) == (48, 12)


def test_fields_are_updated_from_text_as_what_they_are():
    config = ViTConfig()
    config.update_from_string("hidden_dropout_prob=0.25,qkv_bias=false,num_hidden_layers=3,hidden_act=relu")
    assert config.hidden_dropout_prob == 0.25
    assert config.qkv_bias is False
    assert (config.num_hidden_layers, config.hidden_act) == (3, "relu")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hiden_size=3", "'hiden_size=3' sets no field"),
        ("hidden_size", "'hidden_size' sets no field"),
        ("hidden_size=wide", "hidden_size='wide' is no value for a int"),
        ("qkv_bias=perhaps", "qkv_bias='perhaps' is no value for a bool"),
    ],
)
def test_text_that_sets_nothing_says_so(text, words):
    with pytest.raises(ValueError, match=words):
        ViTConfig().update_from_string(text)


def test_settings_that_every_config_of_transformers_has_are_there():
    config = ViTConfig()
    assert (config.is_encoder_decoder, config.torchscript, config.finetuning_task) == (False, False, None)
    assert (config.transformers_version, config._name_or_path, config.tie_word_embeddings) == (None, "", True)
    assert config.get_text_config() is config
    config.finetuning_task = "cifar10"
    assert json.loads(config.to_json_string())["finetuning_task"] == "cifar10"
    assert "is_encoder_decoder" not in json.loads(ViTConfig(is_encoder_decoder=False).to_json_string())
    with pytest.raises(AttributeError, match="ViTConfig has no 'hiden_size'"):
        _ = config.hiden_size


def test_torchscript_has_models_return_tuples():
    assert ViTConfig(torchscript=True).use_return_dict is False
    assert json.loads(ViTConfig(torchscript=True).to_json_string())["torchscript"] is True


def test_iterating_over_a_config_gives_the_names_of_its_fields():
    assert {"hidden_size", "id2label", "torch_dtype"} <= set(ViTConfig())


def test_where_a_config_came_from_is_known_and_not_written(folder, tmp_path):
    config = ViTConfig.from_pretrained(folder)
    assert config.name_or_path == str(folder)
    config.name_or_path = "mine"
    assert config.name_or_path == config._name_or_path == "mine"
    assert "mine" not in config.to_json_string()


def test_the_dtype_is_torchs_only_where_torch_is_imported():
    code = (
        "import sys; from vit_core import ViTConfig; config = ViTConfig(torch_dtype='bfloat16');"
        "assert config.torch_dtype == config.dtype == 'bfloat16' and 'torch' not in sys.modules;"
        "sys.modules['torch'] = type(sys)('torch'); sys.modules['torch'].bfloat16 = 16;"
        "assert config.torch_dtype == config.dtype == 16 and config.to_dict()['torch_dtype'] == 'bfloat16'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["swish", "gelu_fast", "gelu_python", "gelu_accurate", "mish", "linear", "relu6"])
def test_an_activation_keeps_the_name_that_it_is_given(name):
    assert json.loads(ViTConfig(hidden_act=name).to_json_string())["hidden_act"] == name


def test_an_unknown_activation_is_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"hidden_act is 'glu'; choose one of gelu, gelu_new, .*swish"):
        ViTConfig(hidden_act="glu")


@pytest.mark.parametrize("name", ["flash_attention_2", "flash_attention_3", "flex_attention"])
def test_a_kernel_that_is_not_there_is_answered_with_sdpa(name):
    with pytest.warns(UserWarning, match=f"attn_implementation='{name}' is not here; 'sdpa' is used"):
        assert ViTConfig(attn_implementation=name).attn_implementation == "sdpa"


# Subclasses


def test_a_subclass_keeps_its_class_its_type_and_its_fields(tmp_path):
    config = WideConfig(depth_factor=3, names=["a"], hidden_size=32, num_attention_heads=4)
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "wide-vit"
    for again in (
        WideConfig.from_pretrained(tmp_path),
        WideConfig.from_dict(config.to_dict()),
        config.replaced(),
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
    ):
        assert type(again) is WideConfig
        assert again == config
        assert (again.depth_factor, again.names, again.hidden_size) == (3, ["a"], 32)
    assert WideConfig.from_pretrained(tmp_path, depth_factor=5).depth_factor == 5
    assert config != ViTConfig.from_dict({**config.to_dict(), "model_type": "vit"})


def test_a_subclass_reads_the_config_that_it_extends_and_not_the_other_way_round(folder, tmp_path):
    assert WideConfig.from_pretrained(folder).model_type == "wide-vit"
    WideConfig().save_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match="model_type is 'wide-vit', but a ViTConfig describes models of type 'vit'"):
        ViTConfig.from_pretrained(tmp_path / "wide")
    with pytest.raises(ValueError, match="model_type is 'bert', but a WideConfig"):
        WideConfig(model_type="bert")


def test_other_names_of_fields_are_those_fields():
    config = WideConfig(width=96, num_attention_heads=4)
    assert config.hidden_size == config.width == 96
    config.width = 48
    assert config.hidden_size == 48
    assert "width" not in config.to_dict()


def test_a_changed_copy_leaves_the_original_alone():
    config = ViTConfig(id2label={0: "cat", 1: "dog"}, attn_implementation="eager")
    changed = config.replaced(num_labels=3, image_size=[32, 64], torch_dtype="float16", pruned_heads={"0": [1]})
    assert (changed.num_labels, changed.image_size, changed.pruned_heads) == (3, (32, 64), {0: [1]})
    assert changed.attn_implementation == "eager"
    assert config == ViTConfig(id2label={0: "cat", 1: "dog"})
    with pytest.raises(ValueError, match="'grid' is a part of ViTConfig that cannot be set"):
        config.replaced(grid=(1, 1))
    with pytest.raises(ValueError, match="hidden_size is 0"):
        config.replaced(hidden_size=0)


def test_none_of_what_changes_nothing_warns(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ViTConfig.from_pretrained(folder, **dict.fromkeys(WITHOUT_EFFECT, True))


def test_a_config_is_of_one_model_and_no_composition_of_several():
    assert not ViTConfig.is_composition
    assert ViTConfig.sub_configs == {}
