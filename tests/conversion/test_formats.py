"""Which names each format gives its tensors, and how a file's format is found out from them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import conversion
from conversion.containers.weights_file import SUFFIXES, read_weights
from conversion.format_names import WRITABLE_NAMES
from conversion.formats import WRITABLE
from vit_core.hub import WEIGHT_SUFFIXES

HEADS = {"num_attention_heads": 4}
MAE_HEADS = {"decoder_num_attention_heads": 2}
Arrays = dict[str, np.ndarray]


def arrays(path: Path) -> Arrays:
    return {name: tensor.numpy() for name, tensor in read_weights(path).items()}


def require_same(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


# Names


def test_the_command_line_knows_the_formats_that_can_be_written() -> None:
    assert tuple(WRITABLE) == WRITABLE_NAMES


def test_names_that_never_go_to_the_hub_end_like_the_files_that_are_read() -> None:
    assert set(WEIGHT_SUFFIXES) == set(SUFFIXES)


#: A source in one format, another format, and the same weights as that format's own code wrote them.
TWINS = [
    ("hf_vit_classifier", "transformers-bin", "hf_vit_classifier/pytorch_model.bin"),
    ("hf_vit_classifier", "transformers-tf", "hf_vit_classifier/tf_model.h5"),
    ("hf_vit_classifier", "transformers-flax", "hf_vit_classifier/flax_model.msgpack"),
    ("hf_vit_classifier/tf_model.h5", "transformers", "hf_vit_classifier/model.safetensors"),
    ("hf_vit_classifier/flax_model.msgpack", "transformers", "hf_vit_classifier/model.safetensors"),
    ("hf_vit_model", "transformers-bin", "hf_vit_model/pytorch_model.bin"),
    ("hf_vit_model", "transformers-tf", "hf_vit_model/tf_model.h5"),
    ("hf_vit_model", "transformers-flax", "hf_vit_model/flax_model.msgpack"),
    ("hf_vit_model/tf_model.h5", "transformers", "hf_vit_model/model.safetensors"),
    ("hf_vit_model/flax_model.msgpack", "transformers", "hf_vit_model/model.safetensors"),
    ("google_jax/published.npz", "google-linen", "google_jax/linen.npz"),
    ("google_jax/linen.npz", "google", "google_jax/published.npz"),
    ("google_jax_representation/published.npz", "google-linen", "google_jax_representation/linen.npz"),
    ("google_jax_representation/linen.npz", "google", "google_jax_representation/published.npz"),
]


@pytest.mark.parametrize(("source", "to", "twin"), TWINS)
def test_one_model_in_another_format_is_what_its_own_code_wrote(
    fixture_folder: Path, convert: Callable[..., Path], source: str, to: str, twin: str
) -> None:
    folder = convert(fixture_folder / source, to)
    (weights,) = (folder / name for name in WRITABLE[to].files.values() if (folder / name).is_file())
    require_same(arrays(weights), arrays(fixture_folder / twin))


def texts(value: Any) -> list[str]:
    """An attribute's text or texts; of the two ways to store a text, Keras has used both and reads both."""
    return [each.decode() if isinstance(each, bytes) else str(each) for each in np.ravel(value).tolist()]


@pytest.mark.parametrize("source", ["hf_vit_classifier", "hf_vit_model"])
def test_keras_finds_layers_and_weights_in_the_order_in_which_it_wrote_them(
    fixture_folder: Path, convert: Callable[..., Path], source: str
) -> None:
    written = convert(fixture_folder / source, "transformers-tf", "tf_model.h5")
    with h5py.File(written) as ours, h5py.File(fixture_folder / source / "tf_model.h5") as own:
        assert set(ours) == set(own)
        for group in ["/", *own]:
            found, wanted = ours[group].attrs, own[group].attrs
            assert {name: texts(found[name]) for name in found} == {name: texts(wanted[name]) for name in wanted}


@pytest.mark.parametrize(
    ("source", "to", "twin"),
    [
        ("hf_vit_classifier", "timm", "timm_vit/model.safetensors"),
        ("hf_vit_classifier", "torchvision", "torchvision_vit/vit.pth"),
        ("hf_vit_classifier", "google", "google_jax/published.npz"),
        ("hf_vit_classifier", "google-linen", "google_jax/linen.npz"),
        ("hf_vit_model", "dino", "dino_vit/backbone.pth"),
        ("timm_vit", "torchvision", "torchvision_vit/vit.pth"),
        ("torchvision_vit/vit.pth", "timm", "timm_vit/model.safetensors"),
        ("google_jax/published.npz", "transformers", "hf_vit_classifier/model.safetensors"),
        ("dino_vit/full_checkpoint.pth", "dino", "dino_vit/backbone.pth"),
    ],
)
def test_another_model_of_the_same_depth_has_the_names_of_the_format(
    fixture_folder: Path, convert: Callable[..., Path], source: str, to: str, twin: str
) -> None:
    folder = convert(fixture_folder / source, to, **({} if "hf" in source or source == "timm_vit" else HEADS))
    (weights,) = (folder / name for name in WRITABLE[to].files.values() if (folder / name).is_file())
    found, own = arrays(weights), arrays(fixture_folder / twin)
    assert set(found) == set(own)
    assert {name: array.ndim for name, array in found.items()} == {name: array.ndim for name, array in own.items()}


def big_vision_names(layers: int, representation: bool) -> set[str]:
    """The parameters of big_vision/models/vit.py with `pool_type="tok"`."""
    both = ("kernel", "bias")
    block = [f"{norm}/{leaf}" for norm in ("LayerNorm_0", "LayerNorm_1") for leaf in ("scale", "bias")]
    block += [f"MlpBlock_0/{dense}/{leaf}" for dense in ("Dense_0", "Dense_1") for leaf in both]
    attention = "MultiHeadDotProductAttention_0"
    block += [f"{attention}/{part}/{leaf}" for part in ("query", "key", "value", "out") for leaf in both]
    names = {f"Transformer/encoderblock_{layer}/{name}" for layer in range(layers) for name in block}
    names |= {"cls", "pos_embedding", "embedding/kernel", "embedding/bias", "head/kernel", "head/bias"}
    names |= {"Transformer/encoder_norm/scale", "Transformer/encoder_norm/bias"}
    return names | ({"pre_logits/kernel", "pre_logits/bias"} if representation else set())


@pytest.mark.parametrize(("source", "representation"), [("google_jax", False), ("google_jax_representation", True)])
def test_names_of_big_vision(
    fixture_folder: Path, convert: Callable[..., Path], source: str, representation: bool
) -> None:
    file = convert(fixture_folder / source / "published.npz", "big-vision", "vit.npz")
    with np.load(file) as stored:
        assert set(stored) == big_vision_names(3, representation)
        assert stored["pos_embedding"].shape == (1, 16, 32)


def keras_hub_names(layers: int) -> set[str]:
    """What Keras' saving_lib.py makes of the attributes of keras_hub's ViTImageClassifier."""
    backbone = "layers/vi_t_backbone/layers"
    names = {f"{backbone}/vi_t_patching_and_embedding/{name}" for name in ("vars/0", "position_embedding/vars/0")}
    names |= {f"{backbone}/vi_t_patching_and_embedding/patch_embedding/vars/{number}" for number in (0, 1)}
    names |= {f"{backbone}/vi_t_encoder/layer_norm/vars/{number}" for number in (0, 1)}
    names |= {f"layers/dense/vars/{number}" for number in (0, 1)}
    parts = ["layer_norm_1", "layer_norm_2", "mlp/dense_1", "mlp/dense_2"]
    parts += [f"mha/{part}_dense" for part in ("query", "key", "value", "output")]
    for layer in range(layers):
        block = "vi_t_encoder_block" + (f"_{layer}" if layer else "")
        inner = f"{backbone}/vi_t_encoder/encoder_layers/{block}"
        names |= {f"{inner}/{part}/vars/{number}" for part in parts for number in (0, 1)}
    return names


def test_names_of_keras_hub(fixture_folder: Path, convert: Callable[..., Path]) -> None:
    file = convert(fixture_folder / "hf_vit_classifier", "keras-hub", "model.weights.h5")
    assert set(read_weights(file)) == keras_hub_names(3)


# Recognition

RECOGNISED = [
    ("hf_vit_classifier", "transformers", "image-classification"),
    ("hf_vit_classifier/pytorch_model.bin", "transformers", "image-classification"),
    ("hf_vit_classifier/tf_model.h5", "transformers-tf", "image-classification"),
    ("hf_vit_classifier/flax_model.msgpack", "transformers-flax", "image-classification"),
    ("hf_vit_model/tf_model.h5", "transformers-tf", "model"),
    ("hf_vit_model/flax_model.msgpack", "transformers-flax", "model"),
    ("hf_vit_masked", "transformers", "masked-image-modeling"),
    ("hf_vit_sharded", "transformers", "image-classification"),
    ("hf_vit_mae", "transformers", "pre-training"),
    ("google_jax/published.npz", "google", "image-classification"),
    ("google_jax/linen.npz", "google-linen", "image-classification"),
    ("google_jax_representation/published.npz", "google", "image-classification"),
    ("timm_vit", "timm", "image-classification"),
    ("torchvision_vit/vit.pth", "torchvision", "image-classification"),
    ("dino_vit/backbone.pth", "dino", "model"),
    ("dino_vit/full_checkpoint.pth", "dino", "model"),
    ("mae_vit/pretrain.pth", "mae", "pre-training"),
]


@pytest.mark.parametrize(("source", "form", "task"), RECOGNISED)
def test_a_format_is_recognised(fixture_folder: Path, source: str, form: str, task: str) -> None:
    found = conversion.load(fixture_folder / source, **HEADS, **(MAE_HEADS if "mae" in source else {}))
    assert (found.format, found.task) == (form, task)


@pytest.mark.parametrize(
    ("source", "form"),
    [(source, form) for source, form, _ in RECOGNISED if "." in source],
)
@pytest.mark.parametrize("name", ["weights", "model.safetensors", "pytorch_model.bin", "vit.npz", "tf_model.h5"])
def test_a_file_is_what_it_holds_and_not_what_it_is_called(
    tmp_path: Path, fixture_folder: Path, source: str, form: str, name: str
) -> None:
    shutil.copy(fixture_folder / source, tmp_path / name)
    assert conversion.load(tmp_path / name, **HEADS, **(MAE_HEADS if "mae" in source else {})).format == form


@pytest.fixture
def lone(tmp_path: Path) -> Callable[[Arrays], Path]:
    """Writes tensors into a file by itself, with the safetensors package."""

    def write(tensors: Arrays) -> Path:
        file = tmp_path / "vit.safetensors"
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, file)
        return file

    return write


WRAPPERS = [
    "model/",  # DeiT, MAE
    "state_dict/",  # timm's train.py, PyTorch Lightning
    "state_dict/model.",
    "state_dict/module.",  # torch.nn.DataParallel
    "module.",
    "_orig_mod.",  # torch.compile
    "module._orig_mod.",
    "state_dict/_orig_mod.module.",
    "_fsdp_wrapped_module.",
    "state_dict_ema/",
    "backbone.",
    "encoder.",
    "model_state_dict/",
    "net/my_vit.",  # whatever a script calls it
]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize(
    "source", ["timm_vit/model.safetensors", "torchvision_vit/vit.pth", "hf_vit_classifier/model.safetensors"]
)
def test_a_wrapper_around_the_names_changes_nothing(
    fixture_folder: Path, lone: Any, bits: Any, source: str, wrapper: str
) -> None:
    plain = conversion.load(lone(arrays(fixture_folder / source)), **HEADS)
    expected = bits(plain.tensors)
    wrapped = {wrapper + name: array for name, array in arrays(fixture_folder / source).items()}
    found = conversion.load(lone(wrapped), **HEADS)
    assert found.wrapper.startswith(wrapper)
    assert (found.task, found.left_out, bits(found.tensors)) == (plain.task, (), expected)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("teacher/backbone.", "student/module.backbone."),
        ("model_ema/", "model/"),
        ("state_dict_ema/", "state_dict/"),
        ("ema.", "model."),
    ],
)
@pytest.mark.parametrize("first", ["better", "worse"])
def test_of_two_models_the_one_that_is_evaluated_is_taken(
    fixture_folder: Path, lone: Any, better: str, worse: str, first: str
) -> None:
    tensors = arrays(fixture_folder / "dino_vit/backbone.pth")
    both = [
        {better + name: array for name, array in tensors.items()},
        {worse + name: array + 1 for name, array in tensors.items()},
    ]
    one, other = both if first == "better" else both[::-1]
    found = conversion.load(lone(one | other), **HEADS)
    assert found.wrapper == better
    np.testing.assert_array_equal(found.tensors["embeddings.cls_token"].read(), tensors["cls_token"])


@pytest.mark.parametrize("wrapper", ["opt/0/mu/", "optimizer/exp_avg.", "opt_state/1/nu/", "gradients."])
def test_averages_of_an_optimizer_are_no_model(fixture_folder: Path, lone: Any, wrapper: str) -> None:
    for source in ("google_jax/published.npz", "timm_vit/model.safetensors"):
        tensors = arrays(fixture_folder / source)
        with pytest.raises(ValueError, match="is in no format that Trivit knows"):
            conversion.load(lone({wrapper + name: array for name, array in tensors.items()}), **HEADS)


@pytest.mark.parametrize("wrapper", ["", "params/", "opt/target/", "target/"])
def test_a_model_beside_its_optimizer_is_the_model(fixture_folder: Path, lone: Any, wrapper: str) -> None:
    tensors = arrays(fixture_folder / "google_jax/published.npz")
    stored = {(wrapper or "params/") + name: array for name, array in tensors.items()}
    stored |= {f"opt/state/{name}/grad_ema": np.zeros_like(array) for name, array in tensors.items()}
    found = conversion.load(lone(stored))
    assert found.left_out == ()
    np.testing.assert_array_equal(found.tensors["vit.embeddings.cls_token"].read(), tensors["cls"])


def test_models_of_big_vision_are_read_with_and_without_params_and_scanned(
    fixture_folder: Path, tmp_path: Path, convert: Any, lone: Any, bits: Any
) -> None:
    source = conversion.load(convert(fixture_folder / "google_jax/published.npz", "big-vision", "vit.npz"))
    expected = bits(source.tensors)
    plain = arrays(tmp_path / "vit.npz")
    scanned: Arrays = {name: array for name, array in plain.items() if "encoderblock" not in name}
    for name in plain:
        if "encoderblock_0/" in name:
            layers = [plain[name.replace("encoderblock_0", f"encoderblock_{layer}")] for layer in range(3)]
            scanned[name.replace("encoderblock_0", "encoderblock")] = np.stack(layers)
    for stored in (plain, scanned):
        for wrapper in ("", "params/"):
            found = conversion.load(lone({wrapper + name: array for name, array in stored.items()}))
            assert (found.format, found.wrapper, found.config.num_attention_heads) == ("big-vision", wrapper, 4)
            assert bits(found.tensors) == expected


def transformers_5_name(name: str) -> str:
    """What transformers 5 calls a module of transformers 4, after its `modeling_vit.py`."""
    for old, new in [
        (r"encoder\.layer\.", "layers."),
        (r"attention\.attention\.(query|key|value)", lambda match: f"attention.{match[1][0]}_proj"),
        (r"attention\.output\.dense", "attention.o_proj"),
        (r"intermediate\.dense", "mlp.fc1"),
        (r"(layers\.\d+)\.output\.dense", r"\1.mlp.fc2"),
    ]:
        name = re.sub(old, new, name)
    return name


@pytest.mark.parametrize(
    ("source", "spelling"),
    [
        *(
            (source, spelling)
            for source in ("hf_vit_classifier", "hf_vit_model")
            for spelling in ("tensorflow", "flax")
        ),
        *((source, "transformers 5") for source in ("hf_vit_classifier", "hf_vit_model", "hf_vit_masked")),
    ],
)
def test_safetensors_with_the_names_of_another_framework(
    fixture_folder: Path, tmp_path: Path, bits: Any, source: str, spelling: str
) -> None:
    folder = fixture_folder / source
    if spelling == "tensorflow":
        tensors = {name.split("/", 2)[2]: array for name, array in arrays(folder / "tf_model.h5").items()}
        assert "vit/embeddings/cls_token:0" in tensors
    elif spelling == "flax":
        tensors = {name.replace("/", "."): array for name, array in arrays(folder / "flax_model.msgpack").items()}
        assert any(name.endswith("embeddings.patch_embeddings.projection.kernel") for name in tensors)
    else:
        tensors = {transformers_5_name(name): each for name, each in load_file(folder / "model.safetensors").items()}
        assert any(name.endswith("layers.2.mlp.fc2.weight") for name in tensors)
    shutil.copy(folder / "config.json", tmp_path)
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, tmp_path / "model.safetensors")
    found, own = conversion.load(tmp_path), conversion.load(folder)
    assert bits(found.tensors) == bits(own.tensors)
    assert found.config == own.config


def test_a_file_in_no_known_format_is_told_what_was_looked_for(lone: Any) -> None:
    file = lone({"backbone.conv1.weight": np.zeros((2, 2), np.float32)})
    with pytest.raises(ValueError, match="is in no format that Trivit knows") as caught:
        conversion.load(file)
    message = str(caught.value)
    assert str(file) in message
    assert "backbone.conv1.weight" in message
    assert "names that end in embeddings.patch_embeddings.projection.weight, " in message
    assert len(message) < 500
    assert message.count("\n") == 0


def test_the_folder_of_timm_names_its_format_where_tensors_do_not(tmp_path: Path, fixture_folder: Path) -> None:
    """A backbone of timm has the tensors of DINO's."""
    tensors = load_file(fixture_folder / "timm_vit/model.safetensors")
    backbone = {name: array for name, array in tensors.items() if not name.startswith("head.")}
    save_file(backbone, tmp_path / "model.safetensors")
    assert conversion.load(tmp_path, **HEADS).format == "dino"
    config = json.loads((fixture_folder / "timm_vit/config.json").read_text()) | {"num_classes": 0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = conversion.load(tmp_path)
    assert (found.format, found.task) == ("timm", "model")


@pytest.mark.parametrize("length", [0x80 + 0x100 * high for high in range(2, 6)])
def test_safetensors_whose_header_begins_as_a_pickle_does_are_safetensors(tmp_path: Path, length: int) -> None:
    """The first bytes are the header's length: 640 is 80 02, what a pickle of protocol 2 starts with."""
    tensors = {"embeddings.cls_token": np.zeros((1, 1, 2), np.float32)}
    file = tmp_path / "vit.safetensors"
    save_file(tensors, file, {"padding": ""})
    short = int.from_bytes(file.read_bytes()[:8], "little")
    save_file(tensors, file, {"padding": "x" * (length - short)})
    assert file.read_bytes()[:8] == length.to_bytes(8, "little")
    assert set(read_weights(file)) == set(tensors)
