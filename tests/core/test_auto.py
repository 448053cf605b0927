import json

import pytest

from vit_core import ViTConfig
from vit_core.auto import AutoConfig, AutoModelClass


class OtherConfig(ViTConfig):
    model_type = "other-vit"


class Model:
    config_class = ViTConfig

    @classmethod
    def from_pretrained(cls, *args, **options):
        return cls, args, options

    @classmethod
    def _from_config(cls, config, **options):
        return cls, config, options


class OtherModel(Model):
    config_class = OtherConfig


@pytest.fixture
def auto_model():
    class AutoModel(AutoModelClass):
        models = {ViTConfig: Model}  # noqa: RUF012

    return AutoModel


@pytest.fixture
def folders(tmp_path):
    ViTConfig(num_labels=5).save_pretrained(tmp_path / "vit")
    OtherConfig(num_labels=7).save_pretrained(tmp_path / "other")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return tmp_path


def test_a_config_is_of_the_class_that_its_type_names(folders):
    config = AutoConfig.from_pretrained(folders / "vit", output_attentions=True, use_auth_token="secret")
    assert type(config) is ViTConfig
    assert (config.num_labels, config.output_attentions) == (5, True)
    AutoConfig.register("other-vit", OtherConfig)
    assert type(AutoConfig.from_pretrained(folders / "other")) is OtherConfig
    assert AutoConfig.for_model("other-vit", num_labels=3).num_labels == 3


def test_another_type_is_refused_by_name(folders, auto_model):
    for load in (AutoConfig.from_pretrained, auto_model.from_pretrained):
        with pytest.raises(ValueError, match=r"bert: the model type is 'bert', and Trivit has .*vit"):
            load(folders / "bert")
    with pytest.raises(ValueError, match="for_model: the model type is 'swin'"):
        AutoConfig.for_model("swin")


def test_a_config_is_registered_under_its_own_type_once():
    with pytest.raises(ValueError, match="OtherConfig has the model_type 'other-vit', but is registered for 'mine'"):
        AutoConfig.register("mine", OtherConfig)

    class Pretender(ViTConfig):
        pass

    with pytest.raises(ValueError, match="'vit' is known already, as ViTConfig"):
        AutoConfig.register("vit", Pretender)
    AutoConfig.register("vit", Pretender, exist_ok=True)
    assert type(AutoConfig.for_model("vit")) is Pretender


def test_a_model_is_of_the_class_for_the_config(folders, auto_model):
    source = folders / "vit"
    assert auto_model.from_pretrained(source, 1, num_labels=3) == (Model, (source, 1), {"num_labels": 3})
    config = ViTConfig()
    assert auto_model.from_config(config, torch_dtype="float16") == (Model, config, {"torch_dtype": "float16"})
    AutoConfig.register("other-vit", OtherConfig)
    with pytest.raises(ValueError, match="AutoModel has no model for a OtherConfig; it has those for ViTConfig"):
        auto_model.from_pretrained(folders / "other")
    auto_model.register(OtherConfig, OtherModel)
    assert auto_model.from_pretrained(folders / "other")[0] is OtherModel
    assert auto_model.from_pretrained(None, config=OtherConfig())[0] is OtherModel
    loaded = auto_model.from_pretrained(source, config=str(folders / "other"))
    assert loaded[0] is OtherModel
    assert type(loaded[2]["config"]) is OtherConfig


def test_a_model_is_registered_for_its_own_config_once(auto_model):
    with pytest.raises(ValueError, match="Model.config_class is ViTConfig, but it is registered for OtherConfig"):
        auto_model.register(OtherConfig, Model)

    class Replacement(Model):
        pass

    with pytest.raises(ValueError, match="AutoModel has Model for ViTConfig already"):
        auto_model.register(ViTConfig, Replacement)
    auto_model.register(ViTConfig, Replacement, exist_ok=True)
    assert auto_model.from_config(ViTConfig())[0] is Replacement


def test_an_auto_class_is_never_made(auto_model):
    with pytest.raises(OSError, match="call AutoConfig.from_pretrained"):
        AutoConfig()
    with pytest.raises(OSError, match="call AutoModel.from_pretrained"):
        auto_model()
    with pytest.raises(ValueError, match="AutoModel has no checkpoint to load"):
        auto_model.from_pretrained(None)
