"""The options of from_pretrained and save_pretrained as scripts for transformers give them."""

import inspect
import json

import numpy as np
import pytest
import torch
from hub_server import TOKEN
from torch import nn

from vit_torch import (
    AutoModelForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
    ViTPreTrainedModel,
)

PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)


@pytest.fixture
def model(tiny_config):
    tiny_config.initializer_range = 0.2
    return ViTForImageClassification(tiny_config).eval()


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def load(folder, **options):
    return ViTForImageClassification.from_pretrained(folder, **options)


def assert_same(model, other):
    torch.testing.assert_close(model.state_dict(), other.state_dict(), atol=0, rtol=0)


# Names and order


def test_arguments_have_the_names_and_the_order_of_transformers():
    parameters = list(inspect.signature(ViTPreTrainedModel.from_pretrained).parameters)
    assert parameters[:9] == [
        *("pretrained_model_name_or_path", "model_args", "config", "cache_dir", "ignore_mismatched_sizes"),
        *("force_download", "local_files_only", "token", "revision"),
    ]
    assert list(inspect.signature(ViTPreTrainedModel.save_pretrained).parameters)[1:11] == [
        *("save_directory", "is_main_process", "state_dict", "save_function", "push_to_hub", "max_shard_size"),
        *("safe_serialization", "variant", "token", "save_peft_format"),
    ]


def test_further_positions_are_arguments_of_the_constructor(tiny_config, tmp_path):
    ViTModel(tiny_config, add_pooling_layer=False).save_pretrained(save_directory=tmp_path)
    assert ViTModel.from_pretrained(tmp_path, False).pooler is None
    assert ViTModel.from_pretrained(pretrained_model_name_or_path=tmp_path, add_pooling_layer=False).pooler is None


def test_the_second_position_of_save_pretrained_says_which_process_this_is(model, tmp_path):
    model.save_pretrained(tmp_path, False)
    assert list(tmp_path.iterdir()) == []


# Loading


@pytest.mark.parametrize("device_map", ["cpu", "auto", "sequential", torch.device("cpu"), {"": "cpu"}, {"vit": "cpu"}])
def test_a_device_map_places_the_model(model, folder, device_map):
    if torch.accelerator.is_available() and device_map in ("auto", "sequential"):
        pytest.skip("there is a GPU to choose")
    placed = load(folder, device_map=device_map)
    assert_same(placed, model)
    assert placed.hf_device_map == {"": torch.device("cpu")}


@pytest.mark.parametrize("device_map", ["meta", {"": torch.device("meta")}])
def test_a_model_can_be_placed_on_meta(folder, device_map):
    assert load(folder, device_map=device_map).device == torch.device("meta")


@pytest.mark.parametrize(
    ("device_map", "words"),
    [
        ("gpu0", "device_map is 'gpu0', which names no device here"),
        ({"": "disk"}, "device_map is 'disk', which names no device"),
        ("xpu:3", "device_map asks for xpu:3, which torch does not see on this machine; give 'cpu' or 'auto'"),
        (["cpu"], "names no device"),
    ],
)
def test_a_device_that_is_none_is_named(folder, device_map, words):
    with pytest.raises(ValueError, match=words):
        load(folder, device_map=device_map)


def test_a_build_of_torch_for_gpus_finds_the_cpu_where_there_is_no_gpu(folder, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert load(folder, device_map="auto").device == torch.device("cpu")


def test_parts_on_several_devices_need_accelerate(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "accelerate", None)
    with pytest.raises(ImportError, match="needs accelerate: pip install accelerate"):
        load(folder, device_map={"vit": "cpu", "classifier": "meta"})


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_weights_may_be_given(model, folder, tiny_config, prefix):
    other = ViTForImageClassification(tiny_config)
    weights = {f"{prefix}{name}": tensor for name, tensor in other.state_dict().items()}
    assert_same(load(folder, state_dict=weights), other)
    assert_same(load(None, config=tiny_config, state_dict=weights), other)
    assert_same(AutoModelForImageClassification.from_pretrained(None, config=tiny_config, state_dict=weights), other)
    arrays = {name: tensor.numpy() for name, tensor in other.state_dict().items()}
    assert_same(load(None, config=tiny_config, state_dict=arrays), other)


def test_given_weights_stay_the_callers(tiny_config, model):
    weights = model.state_dict()
    loaded = load(None, config=tiny_config, state_dict=weights)
    before = weights["classifier.bias"].clone()
    nn.init.constant_(loaded.classifier.bias, 9.0)
    assert torch.equal(weights["classifier.bias"], before)


def test_a_training_checkpoint_given_as_weights_is_named(tiny_config, model):
    with pytest.raises(TypeError, match="state_dict holds 'model', a .*Dict.*; pass a mapping of names to tensors"):
        load(None, config=tiny_config, state_dict={"model": model.state_dict(), "epoch": 3})


def test_nothing_to_load_from_is_named(tiny_config):
    with pytest.raises(ValueError, match="there is no checkpoint to load; give its folder or Hub id"):
        load(None, config=tiny_config)


def test_a_variant_is_written_and_read(model, folder):
    model.half().save_pretrained(folder, variant="fp16")
    assert sorted(file.name for file in folder.iterdir()) == [
        *("config.json", "model.fp16.safetensors", "model.safetensors")
    ]
    assert_same(load(folder, variant="fp16", torch_dtype="auto"), model)


def test_options_that_change_nothing_are_accepted(folder, model):
    loaded = load(
        folder,
        **{"subfolder": None, "revision": None, "use_auth_token": "hf_SECRET", "max_memory": {0: "1GB"}},
        **{"offload_folder": "offload", "quantization_config": None, "load_in_8bit": False, "weights_only": True},
        **{"proxies": {"http": "x"}, "mirror": "tuna", "trust_remote_code": True, "_fast_init": False},
        **{"low_cpu_mem_usage": True, "use_flash_attention_2": False, "_commit_hash": None, "name_or_path": "x"},
    )
    assert_same(loaded, model)
    assert "SECRET" not in loaded.config.to_json_string(use_diff=False)


def test_faster_attention_is_sdpa_and_says_so(folder):
    with pytest.warns(UserWarning, match="'flash_attention_2' is not here; 'sdpa' is used"):
        assert load(folder, attn_implementation="flash_attention_2").config._attn_implementation == "sdpa"


def test_what_is_not_there_is_refused(folder):
    with pytest.raises(ValueError, match="load_in_8bit=True asks for what Trivit does not have; quantize the loaded"):
        load(folder, load_in_8bit=True)


def test_tuples_are_a_choice_of_loading(folder):
    outputs = load(folder, torchscript=True)(PIXELS)
    assert isinstance(outputs, tuple)
    assert outputs[0].shape == (2, 5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, "float16"])
def test_the_config_tells_the_dtype_that_was_asked_for(folder, dtype):
    model = load(folder, torch_dtype=dtype)
    assert model.config.torch_dtype == model.dtype != torch.float32
    assert load(folder).config.torch_dtype == torch.float32


def test_parts_can_be_kept_in_float32(folder):
    class Exact(ViTForImageClassification):
        _keep_in_fp32_modules = ["classifier"]  # noqa: RUF012

    model = Exact.from_pretrained(folder, torch_dtype=torch.float16)
    assert (model.classifier.weight.dtype, model.vit.dtype) == (torch.float32, torch.float16)


class WithWidth(ViTForImageClassification):
    def __init__(self, config, num_labels=2, **others):
        super().__init__(config)
        self.given = {"num_labels": num_labels, **others}


def test_arguments_of_a_constructor_and_fields_of_the_config_are_told_apart(folder, tiny_config):
    model = WithWidth.from_pretrained(folder, num_labels=5, margin=0.5, hidden_dropout_prob=0.25)
    assert model.given == {"num_labels": 5, "margin": 0.5}
    assert model.config.hidden_dropout_prob == 0.25
    model = WithWidth.from_pretrained(folder, config=tiny_config, num_labels=9)
    assert model.given == {"num_labels": 9}
    assert model.config.num_labels == 5
    with pytest.raises(TypeError, match="no option 'margin'"):
        load(folder, margin=0.5)


# Saving


def test_pickled_weights_are_written_for_programs_that_read_nothing_else(model, folder):
    model.save_pretrained(folder, safe_serialization=False)
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "pytorch_model.bin"]
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.testing.assert_close(weights, dict(model.state_dict()), atol=0, rtol=0)
    assert_same(load(folder), model)
    model.save_pretrained(folder, safe_serialization=False, max_shard_size="20KB")
    assert not (folder / "pytorch_model.bin").exists()
    assert len(json.loads((folder / "pytorch_model.bin.index.json").read_text())["weight_map"]) == len(weights)
    assert_same(load(folder), model)
    model.save_pretrained(folder)
    assert_same(load(folder), model)


def test_a_function_of_the_caller_writes_pickled_weights(model, folder):
    calls = []

    def save(weights, path):
        calls.append(sorted(weights))
        torch.save(weights, path)

    model.save_pretrained(folder, save_function=save)
    assert calls == []
    model.save_pretrained(folder, save_function=save, safe_serialization=False)
    assert calls == [sorted(model.state_dict())]
    assert_same(load(folder), model)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_weights_of_a_wrapped_model_may_be_given_to_save(model, tmp_path, tiny_config, prefix):
    other = ViTForImageClassification(tiny_config)
    model.save_pretrained(tmp_path, state_dict={f"{prefix}{name}": each for name, each in other.state_dict().items()})
    assert_same(load(tmp_path), other)


class Sharded(torch.Tensor):
    """Stands for a DTensor, of which every process holds a part."""

    def full_tensor(self):
        return torch.cat([torch.Tensor(self), torch.ones(3, 32)])


def test_sharded_weights_are_saved_whole(model, tmp_path):
    weights = {**model.state_dict(), "classifier.weight": torch.zeros(2, 32).as_subclass(Sharded)}
    model.save_pretrained(tmp_path, state_dict=weights)
    assert torch.equal(load(tmp_path).classifier.weight, torch.cat([torch.zeros(2, 32), torch.ones(3, 32)]))


def test_a_model_without_values_is_not_saved(tiny_config, tmp_path):
    with torch.device("meta"):
        model = ViTForImageClassification(tiny_config)
    with pytest.raises(ValueError, match="is on the meta device and has no values to save"):
        model.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_tensor_is_not_saved(tiny_config, tmp_path):
    class Counting(ViTForImageClassification):
        def get_extra_state(self):
            return {"step": 3}

    with pytest.raises(TypeError, match="_extra_state', a dict, which has no place in a checkpoint"):
        Counting(tiny_config).save_pretrained(tmp_path)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the Hub's client
def test_a_saved_model_is_pushed_with_its_tags(model, hub, tmp_path):
    model.add_model_tags("satellite")
    model.add_model_tags(["satellite", "land-use"])
    options = {"token": TOKEN, "commit_message": "First", "private": True}
    model.save_pretrained(tmp_path / "ours", push_to_hub=True, repo_id="org/ours", **options)
    model.push_to_hub("org/again", use_temp_dir=True, tags="more", **options)
    for repository, tags in (("org/ours", ["satellite", "land-use"]), ("org/again", ["satellite", "land-use", "more"])):
        files = hub.repositories[repository].head()
        assert files["model.safetensors"] == (tmp_path / "ours" / "model.safetensors").read_bytes()
        assert "".join(f"- {tag}\n" for tag in tags) in files["README.md"].decode()


def test_numbers_of_a_saved_model_are_numpys(model, folder):
    from safetensors.numpy import load_file

    stored = load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(stored["classifier.weight"], model.classifier.weight.detach().numpy())


def test_a_config_of_a_loaded_model_is_a_copy(folder):
    config = ViTConfig.from_pretrained(folder)
    model = load(folder, config=config, output_attentions=True)
    assert model.config.output_attentions
    assert not config.output_attentions
