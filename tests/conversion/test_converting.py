"""What is converted comes back: the same tensors, bit for bit, and the same config, or nothing is written."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import conversion
from conversion.formats import WRITABLE, timm_config
from vit_core.families import FAMILIES
from vit_core.file_names import CONFIG_NAME, PROCESSOR_NAME

Folder = Callable[..., Path]
Content = dict[str, bytes]

#: The models that a format has a place for.
CLASSIFIER: dict[str, Any] = {"task": "image-classification"}
POOLING = {**CLASSIFIER, "classifier_uses_pooler": True}
BARE: dict[str, Any] = {"task": "model"}
POOLED = {**BARE, "add_pooling_layer": True}
MASKABLE = {**BARE, "use_mask_token": True}
MASKED: dict[str, Any] = {"task": "masked-image-modeling"}
HEADLESS = {**CLASSIFIER, "num_labels": 0}
RELATIVES: dict[str, list[dict[str, Any]]] = {
    name: [{"model_type": name, "task": task} for task in family.models]
    for name, family in FAMILIES.items()
    if name not in ("vit", "vision_transformer")
}
EVERY_RELATIVE = [model for each in RELATIVES.values() for model in each]

CLIPS = [RELATIVES["clip_vision_model"][0] | POOLED, RELATIVES["clip_vision_model"][1]]
#: Those whose bare models KerasHub has, for square patches and images.
IN_KERAS_HUB = ("dinov2", "dinov2_with_registers", "dinov3_vit", "siglip_vision_model", "clip_vision_model")

ALL = [CLASSIFIER, POOLING, BARE, POOLED, MASKABLE, MASKED, HEADLESS]
HELD: dict[str, list[dict[str, Any]]] = {
    "transformers": [*ALL, *EVERY_RELATIVE],
    "transformers-bin": [*ALL, *EVERY_RELATIVE],
    "transformers-tf": [*ALL, *EVERY_RELATIVE],
    "transformers-flax": [*ALL, *EVERY_RELATIVE],
    "google": [CLASSIFIER, POOLING, BARE],
    "google-linen": [CLASSIFIER, POOLING, BARE],
    "big-vision": [CLASSIFIER, POOLING, BARE],
    "mae": RELATIVES["vit_mae"][1:],
    "timm": [
        *(CLASSIFIER, BARE),
        *(model for model in RELATIVES["deit"] if model["task"] in ("model", "image-classification-with-teacher")),
        *(model for name in ("beit", "data2vec-vision") for model in RELATIVES[name] if "class" in model["task"]),
    ],
    "dino": [BARE],
    "torchvision": [CLASSIFIER, POOLING, BARE],
    "keras-hub": [
        *(CLASSIFIER, POOLING, BARE),
        *(model for model in RELATIVES["deit"] if model["task"] in ("model", "image-classification")),
        *({**RELATIVES[name][0], "add_pooling_layer": True} for name in IN_KERAS_HUB),
    ],
    "big-vision-siglip": [RELATIVES["siglip_vision_model"][0] | POOLED],
    "clip": CLIPS,
    "open-clip": CLIPS,
    "dinov3": RELATIVES["dinov3_vit"][:1],
    "dinov2": [RELATIVES["dinov2"][0], RELATIVES["dinov2_with_registers"][0]],
}
ALWAYS_BIASED = ("transformers-tf", "google", "google-linen", "big-vision", "torchvision", "keras-hub")
#: One file for the weights alone.
FILES = {
    "transformers": "vit.safetensors",
    "transformers-bin": "vit.bin",
    "transformers-tf": "vit.h5",
    "transformers-flax": "vit.msgpack",
    "google": "vit.npz",
    "google-linen": "vit.npz",
    "big-vision": "vit.npz",
    "mae": "vit.pth",
    "timm": "vit.pth",
    "dino": "vit.safetensors.pth",
    "torchvision": "vit.pt",
    "keras-hub": "vit.weights.h5",
    "big-vision-siglip": "vit.npz",
    "clip": "vit.pt",
    "open-clip": "vit.safetensors",
    "dinov3": "vit.pth",
    "dinov2": "vit.pth",
}
#: The formats of plain classifiers.
OF_VIT = [name for name, form in WRITABLE.items() if "vit" in form.models]


def content(folder: Path) -> Content:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# There and back


@st.composite
def models(draw: st.DrawFn, held: list[dict[str, Any]]) -> dict[str, Any]:
    heads = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(held))
    fields: dict[str, Any] = {
        "num_attention_heads": heads,
        "hidden_size": heads * draw(st.integers(1, 4)),
        "intermediate_size": draw(st.integers(1, 7)),
        "num_hidden_layers": draw(st.integers(1, 2)),
        "num_channels": draw(st.integers(1, 4)),
        "patch_size": draw(st.integers(1, 3) | st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "image_size": draw(st.integers(3, 8) | st.tuples(st.integers(3, 8), st.integers(3, 8))),
        "qkv_bias": draw(st.booleans()),
        "hidden_act": draw(st.sampled_from(["gelu", "gelu_pytorch_tanh", "relu"])),
        "layer_norm_eps": draw(st.sampled_from([1e-6, 1e-12])),
        "pooler_output_size": draw(st.none() | st.integers(1, 5)) if "pool" in str(kind) else None,
        "num_labels": draw(st.integers(1, 4)),
    }
    if kind.get("task") == "masked-image-modeling":
        fields["encoder_stride"] = draw(st.integers(1, 3))
    model_type = kind.get("model_type", "vit")
    if model_type == "vit_mae":  # sines and cosines of two axes
        sizes = {"num_attention_heads": heads, "hidden_size": 4 * heads, "num_hidden_layers": draw(st.integers(1, 2))}
        sizes["intermediate_size"] = draw(st.integers(1, 7))
        fields |= sizes | {f"decoder_{name}": size for name, size in sizes.items()}
        fields |= {"norm_pix_loss": draw(st.booleans()), "mask_ratio": draw(st.sampled_from([0.75, 0.5]))}
    if model_type.startswith("dinov2"):  # whose config computes the width of the MLP
        del fields["intermediate_size"]
        fields |= {"use_swiglu_ffn": draw(st.booleans()), "mlp_ratio": draw(st.sampled_from([4, 2.5]))}
    if model_type == "dinov3_vit":  # rotary positions of two axes; nothing tells the size of images
        fields |= {"hidden_size": 4 * heads, "image_size": 224, "qkv_bias": True, "rope_theta": 50.0}
        switches = ["use_gated_mlp", "query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias"]
        fields |= {name: draw(st.booleans()) for name in switches} | {"num_register_tokens": draw(st.integers(0, 2))}
    if model_type in ("siglip_vision_model", "clip_vision_model"):
        fields["qkv_bias"] = True
    if model_type in ("beit", "data2vec-vision"):
        switches = ["use_mask_token", "use_absolute_position_embeddings", "use_mean_pooling"]
        fields |= {name: draw(st.booleans()) for name in switches}
        table = draw(st.sampled_from([None, "use_relative_position_bias", "use_shared_relative_position_bias"]))
        fields |= {} if table is None else {table: True}
        fields |= {"qkv_bias": True, "layer_scale_init_value": draw(st.sampled_from([0.0, 0.1]))}
        if not fields["use_absolute_position_embeddings"] and table is None:
            fields["image_size"] = 224  # which nothing tells then
    return fields | kind


def that_fits(to: str, model: dict[str, Any]) -> dict[str, Any]:
    """The model, with the scales that timm has in every BEiT, and the sizes that the authors' code computes with."""
    if to == "timm" and "layer_scale_init_value" in model:
        return model | {"layer_scale_init_value": 0.1}
    squares = {name: side if isinstance(side := model[name], int) else side[0] for name in ("image_size", "patch_size")}
    if to == "clip":
        return model | squares | {"num_channels": 3, "intermediate_size": 4 * model["hidden_size"]}
    if to == "open-clip":
        return model | {"num_channels": 3}
    if to == "keras-hub" and model.get("model_type") in IN_KERAS_HUB:
        return model | squares | {"hidden_act": "relu"}  # which all of its classes with an argument for it take
    return model | squares if to == "dinov2" else model


def folded(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Tensors with the class token's position in the token, as big_vision has it."""
    arrays = {name: tensor.numpy().copy() for name, tensor in tensors.items()}
    (token,) = (name for name in arrays if name.endswith("cls_token"))
    positions = token.replace("cls_token", "position_embeddings")
    arrays[token] += arrays[positions][:, :1]
    arrays[positions][:, :1] = 0
    return arrays


#: What shapes tell of any model.
SIZES = ("hidden_size", "num_hidden_layers", "patch_shape", "grid", "num_channels", "intermediate_size", "qkv_bias")


@pytest.mark.parametrize("to", WRITABLE)
@settings(max_examples=10)
@given(data=st.data())
def test_a_converted_folder_is_the_model_that_it_was(
    to: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Folder, bits: Any
) -> None:
    model = that_fits(to, data.draw(models(HELD[to])))
    dtype = data.draw(st.sampled_from(["float32", "float16", "float64"] + ["bfloat16"] * (to != "big-vision")))
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as work:
        folder, destination = write_checkpoint(Path(work) / "from", dtype=dtype, **model), Path(work) / "to"
        made = conversion.convert(folder, destination, to)
        source, found = conversion.load(folder), conversion.load(destination)
        written = "transformers" if made.format == "transformers-bin" else made.format
        assert (found.task, found.format) == (source.task, written)
        assert made.format == to or made.format in {each.name for each in WRITABLE[to].others}
        assert type(found.config) is type(source.config)
        told = {each.name for each in found.assumed}
        assert not told & {"num_attention_heads", "hidden_act", "layer_norm_eps", "preprocessing"}
        expected, stored = source.config.to_dict(), dict(found.tensors)
        if to in ALWAYS_BIASED and not source.config.qkv_bias:
            expected["qkv_bias"] = True
            names = [name for name in stored if ".attention.attention." in name and name.endswith("bias")]
            layers = source.config.num_hidden_layers
            layers += source.config.decoder_num_hidden_layers if source.task == "pre-training" else 0
            assert len(names) == 3 * layers
            assert not any(stored.pop(name).read().any() for name in names)
        assert found.config.to_dict() == made.config.to_dict() == expected
        require_same(to, stored, source.tensors, bits)


@pytest.mark.parametrize("to", WRITABLE)
@settings(max_examples=6)
@given(data=st.data())
def test_a_file_alone_holds_the_weights(
    to: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Folder, bits: Any
) -> None:
    """What weights do not tell is given: heads, sizes of what is no square, and what reads the pooler."""
    kinds = [held for held in HELD[to] if held is not HEADLESS]
    model = that_fits(to, data.draw(models(kinds))) | {"qkv_bias": True}
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as work:
        folder, destination = write_checkpoint(Path(work) / "from", **model), Path(work) / "to" / FILES[to]
        conversion.convert(folder, destination, to)
        assert [file.name for file in destination.parent.iterdir()] == [FILES[to]]
        source = conversion.load(folder)
        untold = ["num_attention_heads", "image_size", "hidden_act", "layer_norm_eps", "classifier_uses_pooler"]
        untold += ["model_type"] + ["decoder_num_attention_heads"] * (source.task == "pre-training")
        found = conversion.load(destination, **{name: getattr(source.config, name) for name in untold})
        require_same(to, found.tensors, source.tensors, bits)
        assert type(found.config) is type(source.config)
        for name in (*SIZES, *untold):
            assert getattr(found.config, name) == getattr(source.config, name)
        if source.task == "image-classification":
            assert found.config.num_labels == source.config.num_labels
            assert found.config.classifier_input_size == source.config.classifier_input_size
        if source.task == "masked-image-modeling":
            assert found.config.encoder_stride == source.config.encoder_stride


def require_same(to: str, found: Mapping[str, Any], source: Mapping[str, Any], bits: Any) -> None:
    """The same tensors, bit for bit; of big_vision's, the class token is a sum."""
    if to == "big-vision":
        np.testing.assert_equal({name: tensor.numpy() for name, tensor in found.items()}, folded(source))
    else:
        assert bits(found) == bits(source)


def without_class_position(folder: Path) -> Path:
    """The checkpoint, whose class token has no position of its own, which big_vision's models lack."""
    tensors = load_file(folder / "model.safetensors")
    tensors["vit.embeddings.position_embeddings"][:, 0] = 0
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_every_format_that_keeps_a_model_gives_back_its_bytes(write_checkpoint: Folder, tmp_path: Path) -> None:
    source = without_class_position(write_checkpoint(tmp_path / "source", num_labels=3))
    original, last = content(source), source
    for number, to in enumerate([*OF_VIT, *reversed(OF_VIT)]):
        if to == "dino":
            continue
        conversion.convert(last, tmp_path / str(number), to)
        conversion.convert(tmp_path / str(number), tmp_path / f"{number} back")
        back = content(tmp_path / f"{number} back")
        assert back["model.safetensors"] == original["model.safetensors"], to
        assert back[CONFIG_NAME] == original[CONFIG_NAME], to
        last = tmp_path / str(number)


@pytest.mark.parametrize("to", [to for to in OF_VIT if to not in ("dino", "big-vision")])  # which do not keep all
def test_what_the_reference_wrote_comes_back_as_its_bytes(
    fixture_folder: Path, convert: Any, tmp_path: Path, to: str
) -> None:
    source = fixture_folder / "hf_vit_classifier"
    back = convert(convert(source, to), "transformers", "back")
    assert (back / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert json.loads((back / PROCESSOR_NAME).read_text()) == json.loads((source / PROCESSOR_NAME).read_text())


def test_converting_twice_gives_the_same_bytes(fixture_folder: Path, convert: Any) -> None:
    for to in OF_VIT:
        one = convert(fixture_folder / "hf_vit_classifier", to, f"one {to}")
        other = convert(fixture_folder / "hf_vit_classifier", to, f"other {to}")
        assert content(one) == content(other), to


def test_shards_are_written_and_read(write_checkpoint: Folder, convert: Any, tmp_path: Path, bits: Any) -> None:
    source = write_checkpoint(tmp_path / "source")
    folder = convert(source, "transformers", "shards", max_shard_size="2KB")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 3
    assert bits(conversion.load(folder).tensors) == bits(conversion.load(source).tensors)
    with pytest.raises(ValueError, match="max_shard_size is 'much'"):
        conversion.convert(source, tmp_path / "never", max_shard_size="much")
    assert not (tmp_path / "never").exists()


# What a format has no place for


@pytest.mark.parametrize("to", ["timm", "dino"])
def test_a_classifier_that_reads_its_pooler_is_refused(write_checkpoint: Folder, tmp_path: Path, to: str) -> None:
    folder = write_checkpoint(tmp_path / "model", **POOLING, pooler_output_size=7)
    with pytest.raises(ValueError, match="the classifier reads a pooler .*convert to transformers, google"):
        conversion.convert(folder, tmp_path / "out", to)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", [to for to in OF_VIT if not to.startswith("transformers")])
def test_pruned_heads_are_refused_where_all_have_one_width(write_checkpoint: Folder, tmp_path: Path, to: str) -> None:
    folder = write_checkpoint(tmp_path / "model", pruned_heads={0: [1]})
    with pytest.raises(ValueError, match="attention heads are pruned, .* convert to transformers"):
        conversion.convert(folder, tmp_path / "out", to)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", [to for to in WRITABLE if to.startswith("transformers")])
@pytest.mark.parametrize("is_file", [False, True])
def test_pruned_heads_go_where_each_layer_has_its_own_shape(
    write_checkpoint: Folder, tmp_path: Path, bits: Any, to: str, is_file: bool
) -> None:
    folder = write_checkpoint(tmp_path / "model", pruned_heads={0: [1]})
    destination = tmp_path / "out" / (FILES[to] if is_file else "")
    conversion.convert(folder, destination, to)
    source = conversion.load(folder)
    told = {"num_attention_heads": 3, "pruned_heads": {0: [1]}} if is_file else {}
    found = conversion.load(destination, **told)
    assert found.config.pruned_heads == {0: [1]}
    assert bits(found.tensors) == bits(source.tensors)


def test_what_is_left_out_is_named(write_checkpoint: Folder, tmp_path: Path) -> None:
    masked = write_checkpoint(tmp_path / "masked", "masked-image-modeling")
    made = conversion.convert(masked, tmp_path / "timm", "timm")
    assert "timm has no place for embeddings.mask_token, decoder.0.weight, decoder.0.bias; left out" in made.notes
    assert conversion.load(tmp_path / "timm").task == "model"
    classifier = write_checkpoint(tmp_path / "classifier")
    made = conversion.convert(classifier, tmp_path / "dino", "dino")
    assert "DINO has no place for classifier.weight, classifier.bias; left out" in made.notes


def test_what_else_reads_a_format_computes_with_its_conventions(write_checkpoint: Folder, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", hidden_act="relu", layer_norm_eps=1e-6)

    def notes(to: str, name: str) -> str:
        return " ".join(conversion.convert(folder, tmp_path / name, to).notes)

    assert "computes with hidden_act=gelu_pytorch_tanh; this model has relu" in notes("google", "google")
    assert "layer_norm_eps" not in notes("torchvision", "torchvision")
    assert notes("transformers", "transformers") == ""  # its config.json tells
    assert "computes with hidden_act=gelu; this model has relu" in notes("transformers", "alone.safetensors")
    assert notes("timm", "timm") == ""


# Other dtypes


@pytest.mark.parametrize("to", ["transformers", "transformers-bin", "transformers-flax", "google", "timm", "keras-hub"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_weights_become_the_nearest_of_another_dtype(
    write_checkpoint: Folder, convert: Any, tmp_path: Path, to: str, dtype: str
) -> None:
    numpy_dtype = dtype
    if dtype == "bfloat16":
        numpy_dtype = pytest.importorskip("ml_dtypes").bfloat16
    folder = write_checkpoint(tmp_path / "model")
    found = conversion.load(convert(folder, to, dtype=dtype))
    for name, tensor in conversion.load(folder).tensors.items():
        expected = tensor.read().astype(numpy_dtype)
        assert found.tensors[name].read().tobytes() == expected.tobytes(), name


def test_bfloat16_rounds_to_the_even_neighbour_and_keeps_infinity(write_checkpoint: Folder, tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    folder = write_checkpoint(tmp_path / "model", num_labels=2**16)
    tensors = load_file(folder / "model.safetensors")
    every = np.arange(2**16, dtype=np.uint32) << np.uint32(16)  # each bfloat16, then something of what lies between
    between = np.random.default_rng(0).choice([0x0000, 0x7FFF, 0x8000, 0x8001, 0xFFFF], 2**16).astype(np.uint32)
    values = (every | between).view(np.float32)
    fits = ~np.isnan(values) & (np.isinf(values) | (np.abs(values) < 3.39e38))
    tensors["classifier.bias"] = np.where(fits, values, np.float32(0))
    save_file(tensors, folder / "model.safetensors")
    conversion.convert(folder, tmp_path / "out", dtype="bfloat16")
    found = conversion.load(tmp_path / "out").tensors["classifier.bias"].read()
    np.testing.assert_array_equal(found, tensors["classifier.bias"].astype(ml_dtypes.bfloat16).view(np.uint16))


@pytest.mark.parametrize(
    ("start", "dtype", "value"),
    [
        ("float32", "float16", 1e5),
        ("float32", "float16", 65520.0),  # the least that is rounded to infinity
        ("float32", "bfloat16", 3.4e38),
        ("float64", "float32", 1e39),
        ("float64", "bfloat16", 1e39),
        ("float64", "float16", -1e300),
    ],
)
def test_a_value_that_a_dtype_cannot_hold_is_refused(
    write_checkpoint: Folder, tmp_path: Path, start: str, dtype: str, value: float
) -> None:
    folder = write_checkpoint(tmp_path / "model", dtype=start)
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"][1] = value
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=f"classifier.bias has values up to .*, which {dtype} cannot hold"):
        conversion.convert(folder, tmp_path / "out", dtype=dtype)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("start", "dtype", "value"),
    [("float32", "float16", 65519.0), ("float32", "float16", np.inf), ("float64", "float32", -np.inf)],
)
def test_infinity_and_the_largest_value_of_a_dtype_are_kept(
    write_checkpoint: Folder, tmp_path: Path, start: str, dtype: str, value: float
) -> None:
    folder = write_checkpoint(tmp_path / "model", dtype=start)
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"][1] = value
    save_file(tensors, folder / "model.safetensors")
    conversion.convert(folder, tmp_path / "out", dtype=dtype)
    assert load_file(tmp_path / "out" / "model.safetensors")["classifier.bias"][1] == np.array(value, dtype)


# NaN

NANS = {
    "float16": np.array([0x7E00, 0xFE01, 0x7C01], np.uint16).view(np.float16),  # the last is a signaling one
    "float32": np.array([0x7FC00000, 0xFFC00001, 0x7F800001], np.uint32).view(np.float32),
    "float64": np.array([0x7FF8 << 48, (0xFFF8 << 48) + 1, (0x7FF0 << 48) + 1], np.uint64).view(np.float64),
}


@pytest.fixture(params=NANS)
def with_nan(request: pytest.FixtureRequest, write_checkpoint: Folder, tmp_path: Path) -> Path:
    folder = write_checkpoint(tmp_path / "nan", dtype=request.param, num_labels=9)
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"][2:5] = NANS[request.param]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("compare", [False, True])
def test_nan_is_refused_by_name(with_nan: Path, tmp_path: Path, compare: bool) -> None:
    with pytest.raises(
        ValueError, match="^classifier.bias has NaN, 3 of its values; allow_nan=True .--allow-nan. converts it"
    ):
        conversion.convert(with_nan, tmp_path / "out", "google", compare=compare)
    assert not (tmp_path / "out").exists()


def test_nan_that_is_allowed_is_converted_bit_for_bit(with_nan: Path, tmp_path: Path) -> None:
    for to in ("google", "timm", "transformers-flax", "transformers"):
        conversion.convert(with_nan, tmp_path / to, to, allow_nan=True)
        conversion.convert(tmp_path / to, tmp_path / f"{to} back", allow_nan=True)
        back = tmp_path / f"{to} back" / "model.safetensors"
        assert back.read_bytes() == (with_nan / "model.safetensors").read_bytes()


# Where it goes


def test_a_folder_is_complete(fixture_folder: Path, convert: Any) -> None:
    for to in OF_VIT:
        form = WRITABLE[to]
        folder = convert(fixture_folder / "google_jax/published.npz", to)
        assert set(content(folder)) == {next(iter(form.files.values())), CONFIG_NAME, PROCESSOR_NAME}


def test_what_was_done_is_told(fixture_folder: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    source, folder = fixture_folder / "hf_vit_classifier", tmp_path / "new" / "inner"
    made = conversion.convert(source, folder, "google", progress=lambda *each: told.append(each))
    assert (made.destination, made.format, made.source.format) == (folder, "google", "transformers")
    assert made.files == {file.name: file.stat().st_size for file in folder.iterdir()}
    assert made.compared == 56
    assert conversion.convert(source, tmp_path / "fast", "google", compare=False).compared == 0
    size = sum(tensor.nbytes for tensor in made.source.tensors.values())
    assert {total for _, _, total in told} == {size}
    assert [name for name, _, _ in told] == list(made.source.tensors)


@pytest.mark.parametrize(
    ("source", "to"), [("timm_vit", "torchvision"), ("hf_vit_classifier", "big-vision"), ("timm_vit", "google")]
)
def test_progress_goes_from_nothing_towards_all(fixture_folder: Path, tmp_path: Path, source: str, to: str) -> None:
    done: list[int] = []
    totals = set()

    def progress(name: str, so_far: int, total: int) -> None:
        done.append(so_far)
        totals.add(total)

    conversion.convert(fixture_folder / source, tmp_path / "out", to, progress=progress, num_attention_heads=4)
    (total,) = totals
    assert done[0] == 0
    assert done == sorted(done)
    assert done[-1] < total


@pytest.fixture
def occupied(tmp_path: Path, write_checkpoint: Folder) -> Path:
    """A folder with a model that must not be lost."""
    return write_checkpoint(tmp_path / "occupied", seed=7)


def test_a_destination_that_exists_is_kept_byte_for_byte(occupied: Path, fixture_folder: Path, tmp_path: Path) -> None:
    before = content(occupied)
    source = fixture_folder / "hf_vit_classifier"
    with pytest.raises(
        FileExistsError, match=r"holds config\.json and is kept; overwrite=True .--overwrite. replaces it"
    ):
        conversion.convert(source, occupied)
    file = tmp_path / "vit.npz"
    file.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=r"vit\.npz exists and is kept; overwrite=True .--overwrite. replaces it"):
        conversion.convert(source, file, "google")
    assert (content(occupied), file.read_bytes()) == (before, b"precious")
    (tmp_path / "notes").write_text("a note")
    with pytest.raises(NotADirectoryError, match="notes is a file; name a folder"):
        conversion.convert(source, tmp_path / "notes", "google")


def test_an_empty_folder_is_free(fixture_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    conversion.convert(fixture_folder / "hf_vit_classifier", tmp_path / "empty", "google")
    assert conversion.load(tmp_path / "empty").format == "google"


def test_what_may_be_overwritten_is_replaced(occupied: Path, fixture_folder: Path, tmp_path: Path) -> None:
    source = fixture_folder / "hf_vit_classifier"
    (occupied / "README.md").write_text("kept")
    conversion.convert(source, occupied, overwrite=True)
    assert (occupied / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert (occupied / "README.md").read_text() == "kept"
    conversion.convert(occupied, occupied, overwrite=True, dtype="float16")  # in place
    assert json.loads((occupied / "config.json").read_text())["torch_dtype"] == "float16"
    file = tmp_path / "vit.npz"
    file.write_bytes(b"old")
    conversion.convert(source, file, "google", overwrite=True)
    assert conversion.load(file, hidden_act="gelu").format == "google"


@pytest.mark.parametrize(
    ("before", "to"),
    [
        *((name, name) for name in ("transformers", "google", "timm", "keras-hub")),
        *itertools.permutations(["transformers", "google", "big-vision", "dino"], 2),
        ("transformers-bin", "transformers"),
        ("transformers", "transformers-bin"),
        ("google", "transformers-tf"),
        ("transformers-flax", "google"),
        ("keras-hub", "timm"),
        ("timm", "transformers"),
    ],
)
def test_a_folder_that_was_overwritten_is_one_model(
    write_checkpoint: Folder, tmp_path: Path, before: str, to: str
) -> None:
    """It opens as the new model, or other weights are there and nothing is touched."""
    source = write_checkpoint(tmp_path / "source", num_hidden_layers=1)
    folder = tmp_path / "folder"
    conversion.convert(source, folder, before, compare=False)
    old = content(folder)
    try:
        conversion.convert(source, folder, to, overwrite=True, compare=False)
    except FileExistsError as error:
        assert "remove it first" in str(error)  # noqa: PT017 - either is right
        assert content(folder) == old
    else:
        read = conversion.load(folder)
        assert read.format == ("transformers" if to == "transformers-bin" else to)


@pytest.mark.parametrize("failing", ["reading back", "writing"])
def test_a_failure_leaves_what_was_there(
    monkeypatch: pytest.MonkeyPatch, occupied: Path, fixture_folder: Path, tmp_path: Path, failing: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = content(occupied)
    if failing == "writing":
        monkeypatch.setattr("os.fsync", refuse)
    else:
        monkeypatch.setattr("numpy.array_equal", lambda *_: False)
    for destination in (tmp_path / "new" / "inner", occupied):
        with pytest.raises(OSError, match="No space left|does not come back from what was written"):
            conversion.convert(fixture_folder / "hf_vit_classifier", destination, "google", overwrite=True)
    assert content(occupied) == before
    assert not (tmp_path / "new").exists()


def test_a_destination_that_cannot_be_written_is_one_sentence(fixture_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for name in ("file/model", "file/vit.npz"):
        with pytest.raises(OSError, match="file") as caught:
            conversion.convert(fixture_folder / "hf_vit_classifier", tmp_path / name, "google")
        assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "no folder"


@pytest.mark.parametrize(
    ("name", "to", "needed"),
    [
        ("vit.npz", "timm", r"\.safetensors or \.bin or \.pth or \.pt or \.ckpt"),
        ("vit.safetensors", "google", r"\.npz"),
        ("vit.h5", "transformers-flax", r"\.msgpack"),
        ("vit.msgpack", "keras-hub", r"\.h5 or \.hdf5"),
        ("VIT.PTH", "big-vision", r"\.npz"),
    ],
)
def test_a_file_whose_name_is_of_another_format_is_refused(
    fixture_folder: Path, tmp_path: Path, name: str, to: str, needed: str
) -> None:
    with pytest.raises(ValueError, match=f"cannot hold the format '{to}', whose files end in {needed};"):
        conversion.convert(fixture_folder / "hf_vit_classifier", tmp_path / name, to)
    assert not (tmp_path / name).exists()


def test_formats_and_dtypes_that_do_not_exist_are_refused(fixture_folder: Path, tmp_path: Path) -> None:
    source = fixture_folder / "hf_vit_classifier"
    for to in ("onnx", "ijepa", "deit", ""):
        with pytest.raises(ValueError, match=f"to is {to!r}; choose one of transformers, .*keras-hub"):
            conversion.convert(source, tmp_path / "out", to)
    with pytest.raises(ValueError, match="dtype is 'int8'; choose one of"):
        conversion.convert(source, tmp_path / "out", dtype="int8")
    assert not (tmp_path / "out").exists()


KILLED = """
import os, signal, sys
import conversion
source, destination, to, last = sys.argv[1:]
left = int(last)
def progress(name, done, total):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
if left == 0:
    os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    left = 10**9
conversion.convert(source, destination, to, overwrite=True, progress=progress)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
@pytest.mark.parametrize(
    ("to", "name", "tensors"),
    [("google", "google.npz", 1), ("transformers", "model.safetensors", 0)],
    ids=["at the second tensor", "before the rename"],  # at other times, tests/attacks
)
def test_a_process_that_is_killed_leaves_what_was_there(
    fixture_folder: Path, tmp_path: Path, occupied: Path, to: str, name: str, tensors: int
) -> None:
    source, before = fixture_folder / "hf_vit_classifier", content(occupied)
    for destination in (tmp_path / "new", occupied):
        arguments = [sys.executable, "-c", KILLED, str(source), str(destination), to, str(tensors)]
        killed = subprocess.run(arguments, capture_output=True, timeout=60)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = {file.name: file.read_bytes() for file in occupied.iterdir() if file.is_file()}
    assert kept == before
    assert not any(file.is_file() for file in (tmp_path / "new").iterdir())
    conversion.convert(source, tmp_path / "new", to, overwrite=True)
    assert set(os.listdir(tmp_path / "new")) == {name, CONFIG_NAME, PROCESSOR_NAME}  # and nothing of the dead process


# What is beside the weights


def test_the_config_of_timm_builds_the_model(write_checkpoint: Folder, convert: Any, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", hidden_size=12, intermediate_size=19, hidden_act="quick_gelu")
    config = json.loads((convert(folder, "timm") / CONFIG_NAME).read_text())
    arguments = config["model_args"]
    assert (arguments["embed_dim"], arguments["depth"], arguments["num_heads"]) == (12, 2, 3)
    assert int(arguments["embed_dim"] * arguments["mlp_ratio"]) == 19  # as timm computes it
    assert (arguments["act_layer"], arguments["qkv_bias"]) == ("quick_gelu", True)
    assert (config["num_classes"], config["label_names"]) == (5, [f"LABEL_{number}" for number in range(5)])
    assert config["pretrained_cfg"]["input_size"] == [3, 16, 16]


@given(wide=st.integers(1, 20_000), narrow=st.integers(1, 5_000))
def test_the_ratio_of_an_mlp_gives_its_width_again(wide: int, narrow: int) -> None:
    assert int(narrow * timm_config.ratio(wide, narrow)) == wide


@pytest.mark.parametrize(("fraction", "mode"), [(0.9, "center"), (0.875, "center"), (1.0, "center"), (1.0, "squash")])
def test_what_timm_says_of_preprocessing_comes_back(
    fixture_folder: Path, tmp_path: Path, convert: Any, fraction: float, mode: str
) -> None:
    source = tmp_path / "timm"
    source.mkdir()
    config = json.loads((fixture_folder / "timm_vit" / CONFIG_NAME).read_text())
    config["pretrained_cfg"] |= {"crop_pct": fraction, "crop_mode": mode, "mean": [0.1, 0.2, 0.3]}
    (source / CONFIG_NAME).write_text(json.dumps(config))
    (source / "model.safetensors").write_bytes((fixture_folder / "timm_vit/model.safetensors").read_bytes())
    read = conversion.load(source).preprocessing
    written = json.loads((convert(source, "timm") / CONFIG_NAME).read_text())["pretrained_cfg"]
    assert (written["crop_mode"], written["mean"]) == (mode, [0.1, 0.2, 0.3])
    assert written["crop_pct"] == pytest.approx(fraction, abs=1 / 32)
    (convert(source, "timm", "again") / PROCESSOR_NAME).unlink()
    assert conversion.load(tmp_path / "again").preprocessing == read


def test_the_config_says_the_dtype(write_checkpoint: Folder, convert: Any, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    for dtype in ("float16", "bfloat16"):
        converted = convert(folder, "transformers", dtype, dtype=dtype)
        assert json.loads((converted / "config.json").read_text())["torch_dtype"] == dtype
