"""What `torch.save` and safetensors make of a state dict of transformers, with the names of its own modules.

Run by `nox -s interop`. transformers 5 renamed its modules; `save_pretrained` writes the old names, a state dict has
the new ones.
"""

from __future__ import annotations

import warnings

import pytest

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

import safetensors.torch  # noqa: E402

import vit_torch  # noqa: E402
from conversion import convert, load  # noqa: E402

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 56, "image_size": 32,
         "patch_size": 8, "encoder_stride": 8}  # fmt: skip
VARIANTS = {
    "plain": {},
    "gray, relu, no biases of query, key and value": {"num_channels": 1, "hidden_act": "relu", "qkv_bias": False},
    "tanh gelu, another epsilon": {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3},
    "twelve layers": {"num_hidden_layers": 12},
}
TASKS = ["ViTModel", "ViTForImageClassification", "ViTForMaskedImageModeling"]
FORMATS = {"4": "transformers", "5": "transformers-5"}
FORMAT = FORMATS[transformers.__version__.split(".")[0]]
FILES = ["pytorch_model.bin", "model.safetensors"]
#: What a state dict does not tell.
UNTOLD = {"num_attention_heads": 4, "layer_norm_eps": 1e-12, "hidden_act": "gelu", "num_labels": 2}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request):
    return {**SIZES, **request.param}


@pytest.fixture(params=TASKS)
def task(request):
    return request.param


def save(tensors, file):
    torch.save(tensors, file) if file.suffix == ".bin" else safetensors.torch.save_file(tensors, file)


def our_model(task, source, **fields):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return getattr(vit_torch, task).from_pretrained(source, **fields)


def assert_same_results(ours, theirs, config):
    images = torch.randn(2, config.num_channels, 32, 32)
    ours.eval(), theirs.eval()
    batch = {"pixel_values": images}
    if hasattr(theirs, "decoder"):
        batch["bool_masked_pos"] = torch.rand(2, 16) > 0.5
    with torch.no_grad():
        mine, other = ours(**batch), theirs(**batch)
    assert list(mine.keys()) == list(other.keys())
    for name, expected in other.items():
        assert name == "loss" or expected.std() > 0.05  # otherwise much would be equal
        torch.testing.assert_close(mine[name], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("file", FILES)
def test_a_state_dict_beside_a_config_loads_here(task, variant, file, spread, tmp_path):
    theirs = spread(getattr(transformers, task)(transformers.ViTConfig(**variant)))
    theirs.config.architectures = [task]
    theirs.config.save_pretrained(tmp_path)
    save(theirs.state_dict(), tmp_path / file)
    assert load(tmp_path).format == FORMAT
    assert_same_results(our_model(task, tmp_path), theirs, theirs.config)


@pytest.mark.parametrize("file", FILES)
def test_a_state_dict_alone_loads_here_with_what_it_does_not_tell_given(task, file, spread, tmp_path):
    theirs = spread(getattr(transformers, task)(transformers.ViTConfig(**SIZES)))
    save(theirs.state_dict(), tmp_path / file)
    ours = our_model(task, tmp_path / file, **UNTOLD)
    assert_same_results(ours, theirs, theirs.config)


def test_a_state_dict_of_a_compiled_model_in_parallel_loads_here(spread, tmp_path):
    theirs = spread(transformers.ViTForImageClassification(transformers.ViTConfig(**SIZES)))
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "checkpoint.pt")
    ours = our_model("ViTForImageClassification", tmp_path / "checkpoint.pt", **UNTOLD)
    assert_same_results(ours, theirs, theirs.config)


def test_transformers_loads_a_converted_state_dict(task, spread, tmp_path):
    theirs = spread(getattr(transformers, task)(transformers.ViTConfig(**SIZES)))
    (tmp_path / "theirs").mkdir()
    theirs.config.architectures = [task]
    theirs.config.save_pretrained(tmp_path / "theirs")
    save(theirs.state_dict(), tmp_path / "theirs" / "pytorch_model.bin")
    convert(tmp_path / "theirs", tmp_path / "converted")
    again, info = getattr(transformers, task).from_pretrained(tmp_path / "converted", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    expected = theirs.state_dict()
    assert list(again.state_dict()) == list(expected)
    for name, tensor in again.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=0, rtol=0)
