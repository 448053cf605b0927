"""Which model in a file is read: the only one, whatever stands before its names, or the one that is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import conversion
from conversion.checkpoint import open_for_loading
from conversion.containers.torch_file import write_torch_file
from vit_core.hub import locate
from vit_core.stored_tensor import from_numpy
from vit_core.weights_choice import WeightsChoice

Arrays = dict[str, np.ndarray]
Write = Callable[..., Path]
HEADS = {"num_attention_heads": 4}
GIVEN = HEADS | {"layer_norm_eps": 1e-12, "hidden_act": "gelu", "num_labels": 10}


@pytest.fixture
def arrays(fixture_folder: Path) -> Arrays:
    return load_file(fixture_folder / "hf_vit_classifier/model.safetensors")


@pytest.fixture
def lone(tmp_path: Path) -> Write:
    """Writes models into one file, each under a wrapper: {wrapper: its arrays}."""

    def write(models: dict[str, Arrays], name: str = "checkpoint.safetensors") -> Path:
        stored = {wrapper + each: array for wrapper, model in models.items() for each, array in model.items()}
        save_file({each: np.ascontiguousarray(array) for each, array in stored.items()}, tmp_path / name)
        return tmp_path / name

    return write


def plus(arrays: Arrays, number: float) -> Arrays:
    return {name: array + np.float32(number) for name, array in arrays.items()}


@pytest.mark.parametrize(
    "wrapper",
    [
        *("model_state_dict/", "weights/", "my_net.", "best/epoch_3/", "0/", "exp1/", "learner.model.", "f."),
        *("state_dict/model._orig_mod.", "generator_ema.", "optimized_model/"),
    ],
)
def test_the_only_model_in_a_file_is_read_whatever_it_is_called(lone: Write, arrays: Arrays, wrapper: str) -> None:
    found = conversion.load(lone({wrapper: arrays}), **HEADS)
    assert found.task == "image-classification"
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.tensors[name].read(), array)


def test_what_a_training_script_saves_is_read(tmp_path: Path, arrays: Arrays) -> None:
    """A dictionary with counts, an optimizer's state, and the model under a name of the script's own."""
    stored = {f"model_state_dict/{name}": array for name, array in arrays.items()}
    stored |= {f"optimizer_state_dict/state/{i}/exp_avg": array for i, array in enumerate(arrays.values())}
    stored |= {f"optimizer_state/exp_avg/{name}": array for name, array in arrays.items()}
    write_torch_file(tmp_path / "last.pt", {name: from_numpy(array) for name, array in stored.items()})
    found = conversion.load(tmp_path / "last.pt", **HEADS)
    np.testing.assert_array_equal(found.tensors["classifier.bias"].read(), arrays["classifier.bias"])


@pytest.mark.parametrize(
    "inside",
    [
        *("vit._orig_mod.", "vit.module.", "vit._fsdp_wrapped_module."),
        "_fsdp_wrapped_module.vit._checkpoint_wrapped_module.",
    ],
)
def test_modules_that_wrap_a_part_of_a_model_are_seen_through(lone: Write, arrays: Arrays, inside: str) -> None:
    renamed = {name.replace("vit.", inside, 1): array for name, array in arrays.items()}
    layers = {
        name.replace("encoder.layer.1.", "encoder.layer.1._checkpoint_wrapped_module."): a
        for name, a in renamed.items()
    }
    found = conversion.load(lone({"": layers}), **HEADS)
    assert found.task == "image-classification"
    assert found.tensors.keys() == arrays.keys()
    folder = lone({"": layers}, "model.safetensors").parent
    (folder / "checkpoint.safetensors").unlink()
    config = conversion.load(folder, **HEADS).config
    config.save_pretrained(folder)
    assert open_for_loading(locate(folder), {}).tensors.keys() == arrays.keys()


# Several models


def test_several_models_are_named_and_one_is_asked_for(lone: Write, arrays: Arrays) -> None:
    file = lone({"best/": arrays, "last/": plus(arrays, 1)})
    for open_it in (
        lambda: conversion.load(file, **HEADS),
        lambda: open_for_loading(locate(file), GIVEN),
    ):
        with pytest.raises(ValueError, match=r"several models, under 'best' and 'last'; name the one .* under='best'"):
            open_it()


@pytest.mark.parametrize("under", ["last", "last/", "last.module", "last/module"])
def test_the_one_that_is_named_is_read(lone: Write, arrays: Arrays, under: str) -> None:
    file = lone({"best/": arrays, "last/module.": plus(arrays, 1)})
    found = conversion.load(file, under=under, **HEADS)
    np.testing.assert_array_equal(found.tensors["classifier.bias"].read(), arrays["classifier.bias"] + 1)
    opened = open_for_loading(locate(file), GIVEN, WeightsChoice.from_options(under=under))
    np.testing.assert_array_equal(opened.tensors["classifier.bias"].read(), arrays["classifier.bias"] + 1)


def test_loading_says_which_of_several_is_preferred(lone: Write, arrays: Arrays) -> None:
    source = locate(lone({"model/": arrays, "model_ema/": plus(arrays, 1)}))
    with pytest.warns(UserWarning, match="the one under 'model_ema' is read, .*; under='model' reads another"):
        opened = open_for_loading(source, GIVEN)
    np.testing.assert_array_equal(opened.tensors["classifier.bias"].read(), arrays["classifier.bias"] + 1)
    open_for_loading(source, GIVEN, WeightsChoice.from_options(under="model_ema"))


def test_the_name_comes_before_what_is_preferred(lone: Write, arrays: Arrays) -> None:
    file = lone({"teacher/": arrays, "student/": plus(arrays, 1)})
    assert conversion.load(file, **HEADS).wrapper == "teacher/vit."
    assert conversion.load(file, under="student", **HEADS).wrapper == "student/vit."


def test_an_average_among_several_is_taken_and_two_averages_are_asked_for(lone: Write, arrays: Arrays) -> None:
    three = {"model/": arrays, "modelEMA/": plus(arrays, 1), "best/": arrays}
    assert conversion.load(lone(three), **HEADS).wrapper == "modelEMA/vit."
    with pytest.raises(ValueError, match="under 'ema_fast' and 'ema_slow'"):
        conversion.load(lone({"ema_fast/": arrays, "ema_slow/": arrays}), **HEADS)
    with pytest.raises(ValueError, match="several models"):  # "ema" is a word, not a part of one
        conversion.load(lone({"semantic/": arrays, "other/": arrays}), **HEADS)


def test_models_of_two_formats_are_two_models(lone: Write, arrays: Arrays, fixture_folder: Path) -> None:
    timm = load_file(fixture_folder / "timm_vit/model.safetensors")
    file = lone({"a/": arrays, "b/": timm})
    with pytest.raises(ValueError, match="several models, under 'a' and 'b'"):
        conversion.load(file, **HEADS)
    assert conversion.load(file, under="b", **HEADS).format == "timm"


def test_a_name_that_is_not_there_is_answered_with_those_that_are(lone: Write, arrays: Arrays) -> None:
    with pytest.raises(ValueError, match="no model under 'ema'; models are under 'best'"):
        conversion.load(lone({"best/": arrays}), under="ema", **HEADS)
    with pytest.raises(ValueError, match="no model under 'ema'; models are under no name"):
        conversion.load(lone({"": arrays}), under="ema", **HEADS)
    with pytest.raises(TypeError, match="under is 3"):
        WeightsChoice.from_options(under=3)


def test_a_file_of_very_many_models_is_refused(lone: Write) -> None:
    names = ("embeddings.cls_token", "embeddings.patch_embeddings.projection.weight")
    one = {f"vit.{name}": np.zeros((1, 1, 4), np.float32) for name in names}
    with pytest.raises(ValueError, match="65 models, more than the 64"):
        conversion.load(lone({f"m{i}/": one for i in range(65)}))


@pytest.mark.parametrize("name", ["MODEL.SAFETENSORS", "weights.SafeTensors"])
def test_suffixes_are_understood_in_any_case(tmp_path: Path, fixture_folder: Path, name: str) -> None:
    shutil.copy(fixture_folder / "hf_vit_classifier/model.safetensors", tmp_path / name)
    assert conversion.load(tmp_path, **HEADS).files[-1].name == name
    assert conversion.load(tmp_path / name, **HEADS).format == "transformers"


# Adapters


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A folder as PEFT writes it."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    layer = "base_model.model.vit.encoder.layer.0.attention.attention.query"
    tensors = {f"{layer}.lora_A.weight": np.ones((2, 32), np.float32), f"{layer}.lora_B.weight": np.ones((32, 2), "f4")}
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "google/vit-base"}))
    return folder


ADVICE = r"holds an adapter .*load its base model 'google/vit-base', .*PeftModel\.from_pretrained.*merge_and_unload"


@pytest.mark.parametrize("name", ["", "adapter_model.safetensors"])
def test_an_adapter_is_answered_with_what_to_do(adapter: Path, name: str) -> None:
    source = adapter / name if name else adapter
    with pytest.raises(ValueError, match=ADVICE):
        conversion.load(source)
    with pytest.raises(ValueError, match=ADVICE):
        open_for_loading(locate(source), {})


def test_an_adapter_without_weights_that_can_be_read_is_answered_too(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(OSError, match=ADVICE):
        conversion.load(adapter)


def test_an_adapter_whose_config_is_broken_is_answered_too(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(ValueError, match="load the model that it was trained on"):
        conversion.load(adapter)


def test_a_whole_model_beside_an_adapter_is_read(adapter: Path, fixture_folder: Path) -> None:
    shutil.copy(fixture_folder / "hf_vit_classifier/model.safetensors", adapter / "whole.safetensors")
    assert conversion.load(adapter, **HEADS).files[-1].name == "whole.safetensors"


def test_a_model_with_an_adapter_inside_is_answered(lone: Write, arrays: Arrays) -> None:
    query = "vit.encoder.layer.0.attention.attention.query."
    changed = {name.replace(query, f"{query}base_layer."): array for name, array in arrays.items()}
    changed |= {f"{query}lora_A.default.weight": np.ones((2, 32), np.float32)}
    with pytest.raises(ValueError, match=r"a model with an adapter inside .*merge_and_unload\(\)"):
        conversion.load(lone({"base_model.model.": changed}), **HEADS)
