import argparse
import collections
import io
import math
import mmap
import os
import pathlib
import pickle
import struct
import tracemalloc
import types
import weakref
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversion.containers import torch_file, zip_file
from conversion.containers.torch_file import read_torch_file, write_torch_file
from vit_core.safetensors_file import map_safetensors
from vit_core.stored_tensor import DTYPES, StoredTensor, from_numpy

#: dtype -> PyTorch's name of it.
TORCH_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
#: PyTorch's types of storages -> dtype.
STORAGES = {"BoolStorage": "BOOL", "HalfStorage": "F16", "FloatStorage": "F32", "LongStorage": "I64"}
PUBLISHED = {
    "hf_vit_classifier/pytorch_model.bin": 56,
    "dino_vit/backbone.pth": 42,
    "dino_vit/full_checkpoint.pth": 90,
    "mae_vit/pretrain.pth": 74,
    "torchvision_vit/vit.pth": 44,
}

property_test = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


class ReferenceUnpickler(pickle.Unpickler):
    """Python's own unpickler on a file that is trusted, with numpy in the place of PyTorch."""

    def __init__(self, archive):
        self.archive = archive
        self.folder = archive.namelist()[0].split("/")[0]
        super().__init__(io.BytesIO(archive.read(f"{self.folder}/data.pkl")))

    def find_class(self, module, name):
        if name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: np.lib.stride_tricks.as_strided(
                storage[offset:], shape, [stride * storage.itemsize for stride in strides]
            )
        assert (module, name) == ("collections", "OrderedDict")
        return collections.OrderedDict

    def persistent_load(self, identity):
        kind, dtype, key, _, count = identity
        assert kind == "storage"
        return np.frombuffer(self.archive.read(f"{self.folder}/data/{key}"), DTYPES[dtype], count)


def flattened(value, prefix=""):
    """The arrays in dictionaries, by their joined keys."""
    if isinstance(value, np.ndarray):
        return {prefix[1:]: value}
    items = value.items() if isinstance(value, dict) else ()
    return {name: array for key, inner in items for name, array in flattened(inner, f"{prefix}/{key}").items()}


def save(torch, value, path, **options):
    torch.save(value, path, **options)
    return path


def bits(torch, tensor):
    """A tensor's bytes, row by row."""
    flat = tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if len(flat) else b""


def agree(torch, read, expected):
    """Whether tensors were read as PyTorch has them, bit for bit."""
    assert list(read) == list(expected)
    for name, tensor in expected.items():
        assert TORCH_NAMES[read[name].dtype] == str(tensor.dtype).removeprefix("torch.")
        assert read[name].shape == tuple(tensor.shape)
        array = read[name].read()
        assert (array.shape, array.dtype) == (read[name].shape, np.dtype(DTYPES[read[name].dtype]))
        assert array.flags.aligned
        assert array.tobytes() == bits(torch, tensor)


def refusal(path):
    """What is said of a file that is refused: one sentence that begins with its name."""
    with pytest.raises(ValueError, match=".") as caught:
        read_torch_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 500
    return message


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def older_file(path, objects, storages, machine=None):
    """A file as PyTorch wrote it before 1.6, from the pickle of its objects; {key: (number of values, bytes)}."""
    head = [0x1950A86A20F9469CFC6C, 1001, machine or {"little_endian": True, "protocol_version": 1001}]
    with open(path, "wb") as file:
        file.write(b"".join(pickle.dumps(value, 2) for value in head))
        file.write(objects)
        file.write(pickle.dumps(list(storages), 2))
        for count, content in storages.values():
            file.write(struct.pack("<q", count) + content)
    return path


def pickled_tensor(storage="FloatStorage", key="0", count=4, shape=(4,), offset=0, view=b"", spell=text):
    """The instructions of a tensor whose rows lie one behind the other."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    numbers = [b"(" + b"".join(b"J" + struct.pack("<i", size) for size in sizes) + b"t" for sizes in (shape, strides)]
    identity = spell("storage") + f"ctorch\n{storage}\n".encode() + spell(key) + spell("cuda:0")
    identity += b"J" + struct.pack("<i", count) + view
    start = b"J" + struct.pack("<i", offset)
    return b"ctorch._utils\n_rebuild_tensor_v2\n((" + identity + b"tQ" + start + b"".join(numbers) + b"\x89NtR"


# What other people's code wrote


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_are_read_as_python_itself_unpickles_them(fixture_folder, name):
    with zipfile.ZipFile(fixture_folder / name) as archive:
        expected = flattened(ReferenceUnpickler(archive).load())
    read = read_torch_file(fixture_folder / name)
    assert list(read) == list(expected)
    assert len(read) == PUBLISHED[name]
    for tensor_name, array in expected.items():
        assert read[tensor_name].shape == array.shape
        assert read[tensor_name].read().dtype == array.dtype
        assert read[tensor_name].read().tobytes() == array.tobytes()


def test_the_same_weights_in_a_pickle_and_in_safetensors_are_equal_bit_for_bit(fixture_folder):
    pickled = read_torch_file(fixture_folder / "hf_vit_classifier/pytorch_model.bin")
    safe = map_safetensors(fixture_folder / "hf_vit_classifier/model.safetensors")
    assert pickled.keys() == safe.keys()
    for name, tensor in safe.items():
        assert (pickled[name].dtype, pickled[name].shape) == (tensor.dtype, tensor.shape)
        assert pickled[name].read().tobytes() == tensor.read().tobytes()


def test_the_teacher_in_a_training_checkpoint_is_the_published_backbone(fixture_folder):
    whole = read_torch_file(fixture_folder / "dino_vit/full_checkpoint.pth")
    backbone = read_torch_file(fixture_folder / "dino_vit/backbone.pth")
    assert {name for name in whole if name.startswith("teacher/backbone.")} == {
        f"teacher/backbone.{name}" for name in backbone
    }
    for name, tensor in backbone.items():
        np.testing.assert_array_equal(whole[f"teacher/backbone.{name}"].read(), tensor.read())


# What PyTorch writes


both_formats = pytest.mark.parametrize("zipped", [True, False], ids=["archive", "before 1.6"])


@both_formats
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_read_bit_for_bit(torch, tmp_path, dtype, zipped):
    drawn = torch.from_numpy(np.random.default_rng(0).integers(0, 256, 48, np.uint8))
    kind = getattr(torch, TORCH_NAMES[dtype])
    flat = (drawn % 2).bool() if dtype == "BOOL" else drawn.view(kind)
    tensors = {
        "vector": flat.clone(),
        "matrix": flat.reshape(2, -1).clone(),
        "scalar": flat[5].clone(),
        "empty": flat[:0].reshape(3, 0).clone(),
        "no scalar": flat[:1].reshape(1, 1).clone(),
    }
    save(torch, tensors, tmp_path / "file", _use_new_zipfile_serialization=zipped)
    agree(torch, read_torch_file(tmp_path / "file"), tensors)


@both_formats
def test_views_of_one_storage_are_read_as_what_they_show(torch, tmp_path, zipped):
    whole = torch.arange(60.0).reshape(3, 4, 5)
    tensors = {
        "whole": whole,
        "part": whole[1:, 2:, 1:4],
        "row": whole[2, 3],
        "transposed": whole.permute(2, 0, 1),
        "every second": whole[::2, :, ::3],
        "expanded": whole[0, 0].expand(7, 5),
        "channels last": whole[None].contiguous(memory_format=torch.channels_last),
        "diagonal": torch.diagonal(whole, dim1=1, dim2=2),
        "overlapping": whole.reshape(-1).unfold(0, 6, 2),
        "tied": whole.view(15, 4),
        "scalar": whole[1, 1, 1],
        "nothing": whole[:, :, 5:],
    }
    save(torch, tensors, tmp_path / "file", _use_new_zipfile_serialization=zipped)
    agree(torch, read_torch_file(tmp_path / "file"), tensors)


@st.composite
def windows(draw):
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    strides = draw(st.lists(st.integers(0, 7), min_size=len(shape), max_size=len(shape)))
    offset = draw(st.integers(0, 9))
    return shape, strides, offset


@settings(property_test, max_examples=40)
@given(window=windows(), zipped=st.booleans())
def test_any_window_on_a_storage_is_read_as_what_it_shows(torch, tmp_path, window, zipped):
    tensors = {"window": torch.arange(300, dtype=torch.int32).as_strided(*window)}  # no window claims more
    save(torch, tensors, tmp_path / "file", _use_new_zipfile_serialization=zipped)
    agree(torch, read_torch_file(tmp_path / "file"), tensors)


@both_formats
def test_parameters_buffers_and_tensors_with_attributes_are_read_as_tensors(torch, tmp_path, zipped):
    marked = torch.arange(4.0)
    marked.is_shared = True
    parameter = torch.nn.Parameter(torch.arange(6.0))
    parameter.sequence_parallel = "yes"
    tensors = {
        "parameter": torch.nn.Parameter(torch.arange(3.0)),
        "frozen": torch.nn.Parameter(torch.arange(2.0), requires_grad=False),
        "parameter with attribute": parameter,
        "tensor with attribute": marked,
        "buffer": torch.nn.Buffer(torch.arange(5.0)),
        "short with attribute": torch.arange(3).to(torch.uint16),
    }
    tensors["short with attribute"].unit = "mm"
    save(torch, tensors, tmp_path / "file", _use_new_zipfile_serialization=zipped)
    agree(torch, read_torch_file(tmp_path / "file"), tensors)


@both_formats
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_training_checkpoint_gives_its_tensors_and_nothing_else(torch, tmp_path, protocol, zipped):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    checkpoint = {
        "model": model.state_dict(),  # with its _metadata
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "epoch": 7,
        "best": np.float64(0.75),
        "args": argparse.Namespace(lr=1e-3, data=pathlib.PurePosixPath("/data"), size=(224, 224), betas=None, on=True),
        "history": [0.5, 0.25, {"top1": float("nan")}],
        "ema": (torch.arange(2.0), [torch.arange(3.0)]),
        "rng": torch.arange(5, dtype=torch.uint8),
        "numpy_rng": ("MT19937", np.arange(624, dtype=np.uint32), 624, 0, 0.0),
        "shape": torch.Size([2, 3]),
        "device": torch.device("cpu"),
        "dtype": [torch.float32, torch.bfloat16, np.dtype("f4")],
        "seen": {1, 2},
        "frozen": frozenset("ab"),
        "window": collections.deque([0.5], maxlen=20),
        "counts": collections.Counter("aab"),
        "meters": collections.defaultdict(float, {"loss": 1.0}),
        "moments": collections.defaultdict(dict, {0: {"mean": torch.arange(4.0)}}),
        "bytes": [b"\xff\x00", b"", bytearray(b"abc")],
        "numbers": [0, 255, 65535, 2**31 - 1, -1, -(2**31), 2**40, 2**100, -(2**70), 1j],
        "more": [None, True, slice(2), range(3), "\N{SNOWMAN}" * 300, types.SimpleNamespace(a=1)],
        ("a", 1): "a key that leads to no tensor may be anything",
    }
    if protocol > 3:
        checkpoint["names"] = ["x" * 70_000]
    save(torch, checkpoint, tmp_path / "file", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    expected = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        expected |= {f"optimizer/state/{number}/{name}": tensor for name, tensor in state.items()}
    expected |= {"ema/0": torch.arange(2.0), "ema/1/0": torch.arange(3.0), "rng": torch.arange(5, dtype=torch.uint8)}
    expected["moments/0/mean"] = torch.arange(4.0)
    assert len(expected) == 7 + 4 * 3 + 4
    agree(torch, read_torch_file(tmp_path / "file"), expected)


@both_formats
def test_tensors_are_found_in_lists_and_tuples_by_their_place(torch, tmp_path, zipped):
    value = [torch.arange(2.0), "text", (torch.arange(3.0), {"x": torch.arange(4.0)})]
    save(torch, value, tmp_path / "file", _use_new_zipfile_serialization=zipped)
    expected = {"0": torch.arange(2.0), "2/0": torch.arange(3.0), "2/1/x": torch.arange(4.0)}
    agree(torch, read_torch_file(tmp_path / "file"), expected)


def test_a_dictionary_under_two_names_is_read_under_both(torch, tmp_path):
    weights = {"w": torch.arange(3.0)}
    save(torch, {"model": weights, "ema": weights}, tmp_path / "file")
    agree(torch, read_torch_file(tmp_path / "file"), {"model/w": weights["w"], "ema/w": weights["w"]})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda torch: torch.ones(2, dtype=torch.complex64), "complex numbers"),
        (lambda torch: torch.ones(2, dtype=torch.complex128), "complex numbers"),
        (lambda torch: torch.ones(2).to(torch.float8_e4m3fn), "tensors of eight bits"),
        (lambda torch: torch.ones(2).to_sparse(), "sparse tensors"),
        (lambda torch: torch.ones(2, device="meta"), "tensors without values"),
        (lambda torch: torch._neg_view(torch.ones(2)), "negated"),
        (lambda torch: torch.nn.Linear(2, 2), "asks to run torch.nn.modules.linear.Linear"),
    ],
)
def test_what_is_no_plain_tensor_is_refused_by_its_kind(torch, tmp_path, make, words):
    save(torch, {"x": make(torch)}, tmp_path / "file")
    assert words in refusal(tmp_path / "file")


@both_formats
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda torch: torch.ones(2), "one tensor without a name"),
        (lambda torch: {}, "holds no tensors"),
        (lambda torch: 5, "holds no tensors"),
        (lambda torch: {"args": argparse.Namespace(tensor=torch.ones(2))}, "holds no tensors"),
        (lambda torch: {(1, 2): torch.ones(2)}, "under the key (1, 2)"),
        (lambda torch: {"a": {None: torch.ones(2)}}, "under the key None"),
        (lambda torch: {True: torch.ones(2)}, "under the key True"),
        (lambda torch: {"a/b": torch.ones(2), "a": {"b": torch.ones(3)}}, "two tensors named 'a/b'"),
        (lambda torch: {1: torch.ones(2), "1": torch.ones(3)}, "two tensors named '1'"),
    ],
)
def test_tensors_without_a_name_of_their_own_are_refused(torch, tmp_path, make, words, zipped):
    save(torch, make(torch), tmp_path / "file", _use_new_zipfile_serialization=zipped)
    assert words in refusal(tmp_path / "file")


# The format before PyTorch 1.6, and Python 2


def test_the_older_format_is_what_its_description_says(tmp_path):
    values = {"0": np.arange(4, dtype="<f4"), "1": np.arange(3, dtype="<i8")}
    objects = b"\x80\x02}(" + text("a") + pickled_tensor() + text("b") + pickled_tensor("LongStorage", "1", 3, (3,))
    storages = {key: (len(array), array.tobytes()) for key, array in values.items()}
    for order in (["0", "1"], ["1", "0"]):
        older_file(tmp_path / "file", objects + b"u.", {key: storages[key] for key in order})
        read = read_torch_file(tmp_path / "file")
        assert {name: tensor.read().tolist() for name, tensor in read.items()} == {"a": [0, 1, 2, 3], "b": [0, 1, 2]}
        assert [tensor.dtype for tensor in read.values()] == ["F32", "I64"]
        assert all(tensor.read().flags.aligned for tensor in read.values())


def test_what_python_2_wrote_is_read(tmp_path):
    def spell(value):
        return b"U" + bytes([len(value)]) + value.encode()

    pair = b"](" + spell("w") + pickled_tensor(spell=spell) + b"e"
    attributes = b"}" + spell("note") + b"U\x02\xff\xfes"
    objects = b"\x80\x02ccollections\nOrderedDict\n](" + pair + b"e\x85R" + attributes + b"b."
    older_file(tmp_path / "file", objects, {"0": (4, np.arange(4, dtype="<f4").tobytes())})
    read = read_torch_file(tmp_path / "file")
    assert {name: tensor.read().tolist() for name, tensor in read.items()} == {"w": [0, 1, 2, 3]}


def test_storages_that_are_parts_of_others_are_read_from_there(tmp_path):
    view = b"(" + text("part") + b"J" + struct.pack("<i", 3) + b"J" + struct.pack("<i", 5) + b"t"
    objects = b"\x80\x02}(" + text("a") + pickled_tensor(count=9, offset=1, view=view)
    objects += text("b") + pickled_tensor(count=9, shape=(3, 3), view=b"N") + b"u."
    older_file(tmp_path / "file", objects, {"0": (9, np.arange(9, dtype="<f4").tobytes())})
    read = read_torch_file(tmp_path / "file")
    assert read["a"].read().tolist() == [4, 5, 6, 7]
    assert read["b"].read().tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_names_that_older_versions_gave_the_same_things_are_understood(tmp_path):
    new = pickled_tensor()
    arguments = new.removeprefix(b"ctorch._utils\n_rebuild_tensor_v2\n").removesuffix(b"R")
    typed = b"ctorch._utils\n_rebuild_tensor_v2\nctorch\nTensor\n" + arguments + b"}tR"
    objects = {
        "first function": new.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor").replace(b"\x89NtR", b"tR"),
        "on a GPU": new.replace(b"ctorch\nFloatStorage", b"ctorch.cuda\nFloatStorage"),
        "older module": b"ctorch.tensor\n_rebuild_from_type\n(" + typed,
        "older form": b"ctorch._tensor\n_rebuild_from_type\n(" + typed,
        "with attributes": b"ctorch._tensor\n_rebuild_from_type_v2\n(" + typed,
    }
    pickled = b"\x80\x02}(" + b"".join(text(name) + value for name, value in objects.items()) + b"u."
    older_file(tmp_path / "file", pickled, {"0": (4, np.arange(4, dtype="<f4").tobytes())})
    read = read_torch_file(tmp_path / "file")
    assert {name: tensor.read().tolist() for name, tensor in read.items()} == {name: [0, 1, 2, 3] for name in objects}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keys": ["1"]}, "does not list the storages"),
        ({"keys": ["0", "0"]}, "does not list the storages"),
        ({"keys": []}, "does not list the storages"),
        ({"keys": [0]}, "something else than keys"),
        ({"keys": "0"}, "something else than keys"),
        ({"count": 3}, "3 values instead of 4"),
        ({"count": -4}, "-4 values instead of 4"),
        ({"count": 2**62}, "4611686018427387904 values instead of 4"),
        ({"content": bytes(15)}, "truncated"),
        ({"content": bytes(17)}, "1 bytes behind its last storage"),
        ({"magic": 5}, "magic number"),
        ({"magic": {"w": 1}}, "magic number"),
        ({"version": 1000}, "version 1001"),
        ({"machine": {"little_endian": False}}, "little-endian"),
        ({"machine": {}}, "little-endian"),
        ({"machine": [("little_endian", True)]}, "little-endian"),
    ],
)
def test_older_file_that_contradicts_itself_is_refused(tmp_path, change, words):
    parts = {"magic": 0x1950A86A20F9469CFC6C, "version": 1001, "machine": {"little_endian": True}, "keys": ["0"]}
    parts |= {"count": 4, "content": bytes(16), **change}
    head = b"".join(pickle.dumps(parts[part], 2) for part in ("magic", "version", "machine"))
    objects = b"\x80\x02}" + text("w") + pickled_tensor() + b"s."
    tail = pickle.dumps(parts["keys"], 2) + struct.pack("<q", parts["count"]) + parts["content"]
    (tmp_path / "file").write_bytes(head + objects + tail)
    assert words in refusal(tmp_path / "file")


def test_two_files_in_one_are_refused_rather_than_half_read(torch, tmp_path):
    with open(tmp_path / "file", "wb") as file:
        for _ in range(2):
            torch.save({"w": torch.ones(3)}, file, _use_new_zipfile_serialization=False)
    assert "behind its last storage; save each object to a file of its own" in refusal(tmp_path / "file")


# Writing


@st.composite
def stored_tensors(draw):
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4)))
    count = int(np.prod(shape)) * np.dtype(DTYPES[dtype]).itemsize
    content = draw(st.binary(min_size=count, max_size=count))
    if dtype == "BOOL":
        content = bytes(byte & 1 for byte in content)
    array = np.frombuffer(content, DTYPES[dtype]).reshape(shape)
    return StoredTensor(dtype, shape, lambda: array)


tensor_sets = st.dictionaries(st.text(max_size=12), stored_tensors(), min_size=1, max_size=8)


@property_test
@given(tensors=tensor_sets)
def test_what_is_written_is_read_back(tmp_path, tensors):
    write_torch_file(tmp_path / "file", tensors)
    read = read_torch_file(tmp_path / "file")
    assert list(read) == list(tensors)
    for name, tensor in read.items():
        assert (tensor.dtype, tensor.shape) == (tensors[name].dtype, tensors[name].shape)
        assert tensor.read().tobytes() == tensors[name].read().tobytes()


@property_test
@given(tensors=tensor_sets, mapped=st.booleans())
def test_what_is_written_is_loaded_by_torch(torch, tmp_path, tensors, mapped):
    write_torch_file(tmp_path / "file", tensors)
    loaded = torch.load(tmp_path / "file", weights_only=True, mmap=mapped)
    assert type(loaded) is dict
    assert list(loaded) == list(tensors)
    for name, tensor in loaded.items():
        assert TORCH_NAMES[tensors[name].dtype] == str(tensor.dtype).removeprefix("torch.")
        assert tuple(tensor.shape) == tensors[name].shape
        assert tensor.stride() == torch.empty(tensors[name].shape).stride()
        assert bits(torch, tensor) == tensors[name].read().tobytes()


def test_an_empty_file_is_written_and_loaded_by_torch(torch, tmp_path):
    write_torch_file(tmp_path / "file", {})
    assert torch.load(tmp_path / "file", weights_only=True) == {}


def test_records_are_those_of_torch_stored_checked_and_aligned(tmp_path):
    tensors = {f"layer.{number}": from_numpy(np.arange(number, dtype="f4")) for number in range(12)}
    write_torch_file(tmp_path / "file", tensors)
    content = (tmp_path / "file").read_bytes()
    with zipfile.ZipFile(tmp_path / "file") as archive:
        assert archive.testzip() is None
        records = {info.filename: info for info in archive.infolist()}
        names = [f"archive/data/{number}" for number in range(12)]
        assert list(records) == ["archive/data.pkl", "archive/byteorder", *names, "archive/version"]
        assert archive.read("archive/byteorder") == b"little"
        assert archive.read("archive/version") == b"3\n"
        for info in records.values():
            assert info.compress_type == zipfile.ZIP_STORED
            name_length, extra_length = struct.unpack_from("<HH", content, info.header_offset + 26)
            assert (info.header_offset + 30 + name_length + extra_length) % 64 == 0
        for number, name in enumerate(names):
            assert archive.read(name) == np.arange(number, dtype="<f4").tobytes()


def test_the_pickle_is_one_that_python_understands(tmp_path):
    array = np.arange(6, dtype="f4").reshape(2, 1, 3)
    write_torch_file(tmp_path / "file", {"a": from_numpy(array), "b": from_numpy(np.array(7))})
    with zipfile.ZipFile(tmp_path / "file") as archive:
        loaded = ReferenceUnpickler(archive).load()
    assert type(loaded) is dict
    np.testing.assert_array_equal(loaded["a"], array)
    assert (loaded["b"].shape, loaded["b"]) == ((), 7)


def test_the_same_tensors_are_the_same_bytes_whatever_the_time_and_the_path(tmp_path, monkeypatch):
    tensors = {"a": from_numpy(np.arange(5, dtype="f4")), "b": from_numpy(np.ones((2, 2), "?"))}
    write_torch_file(tmp_path / "one", tensors)
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_torch_file(tmp_path / "two.pth", tensors)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two.pth").read_bytes()


@pytest.mark.parametrize("order", ["F", "strided", "reversed"])
def test_arrays_are_written_row_by_row_however_they_lie_in_memory(tmp_path, order):
    array = {
        "F": np.asfortranarray(np.arange(12, dtype="f4").reshape(3, 4)),
        "strided": np.arange(24, dtype="f4").reshape(3, 8)[:, ::2],
        "reversed": np.arange(12, dtype="f4").reshape(3, 4)[::-1],
    }[order]
    write_torch_file(tmp_path / "file", {"x": from_numpy(array)})
    np.testing.assert_array_equal(read_torch_file(tmp_path / "file")["x"].read(), array)


def test_sizes_of_four_gigabytes_and_more_are_spelled_as_torch_understands_them(torch, tmp_path):
    huge = StoredTensor("I8", (2**33, 0, 2**20), lambda: np.empty((2**33, 0, 2**20), "i1"))
    write_torch_file(tmp_path / "file", {"x": huge})
    loaded = torch.load(tmp_path / "file", weights_only=True)["x"]
    assert tuple(loaded.shape) == huge.shape
    assert read_torch_file(tmp_path / "file")["x"].read().shape == huge.shape


def test_archive_with_wide_headers_is_read_here_by_python_and_by_torch(torch, tmp_path, monkeypatch):
    monkeypatch.setattr(zip_file, "ZIP64_FROM", 100)
    monkeypatch.setattr(zip_file, "ZIP64_COUNT", 3)
    array = np.arange(100, dtype="<f4")
    write_torch_file(tmp_path / "file", {"x": from_numpy(array), "y": from_numpy(array[:3])})
    assert b"PK\x06\x06" in (tmp_path / "file").read_bytes()  # the sign of zip64
    with zipfile.ZipFile(tmp_path / "file") as archive:
        assert archive.read("archive/data/0") == array.tobytes()
    np.testing.assert_array_equal(torch.load(tmp_path / "file", weights_only=True)["x"].numpy(), array)
    np.testing.assert_array_equal(read_torch_file(tmp_path / "file")["x"].read(), array)


def test_one_tensor_is_in_memory_at_a_time(tmp_path):
    alive = []

    def read():
        assert not alive or alive[-1]() is None
        array = np.ones(1000, "f4")
        alive.append(weakref.ref(array))
        return array

    write_torch_file(tmp_path / "file", {str(number): StoredTensor("F32", (1000,), read) for number in range(5)})
    assert len(alive) == 5


def test_a_written_file_is_flushed_to_the_disk_when_it_is_whole(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_size))
    write_torch_file(tmp_path / "file", {"x": from_numpy(np.zeros(3, "f4"))})
    assert flushed == [(tmp_path / "file").stat().st_size]


def test_name_that_no_file_can_spell_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="surrogates"):
        write_torch_file(tmp_path / "file", {"\ud800": from_numpy(np.zeros(2, "f4"))})
    assert not (tmp_path / "file").exists()


# Reading is lazy


def write_both(folder):
    """The same two tensors in both formats."""
    write_torch_file(folder / "archive", {"x": from_numpy(np.full(5000, 1.0, "f4"))})
    objects = b"\x80\x02}" + text("x") + pickled_tensor(count=5000, shape=(5000,)) + b"s."
    older_file(folder / "older", objects, {"0": (5000, np.full(5000, 1.0, "<f4").tobytes())})
    return folder / "archive", folder / "older"


def test_archives_are_mapped_and_not_read(tmp_path):
    path, _ = write_both(tmp_path)
    array = read_torch_file(path)["x"].read()
    bases = [array]
    while bases[-1] is not None:
        bases.append(getattr(bases[-1], "base", None))
    assert isinstance(bases[-2], mmap.mmap)


@pytest.mark.parametrize("strided", [False, True])
def test_four_gigabytes_open_without_taking_memory(tmp_path, strided):
    count = 2**30
    objects = b"\x80\x02}" + text("x") + pickled_tensor(count=count, shape=(count // 2, 2)) + b"s."
    if strided:  # every second row of the first half
        old, new = struct.pack("<iBi", count // 2, ord("J"), 2), struct.pack("<iBi", count // 8, ord("J"), 2)
        assert objects.count(old) == 1
        strides = [b"J" + struct.pack("<i", stride) for stride in (2, 1)]
        assert objects.count(strides[0] + strides[1]) == 1
        objects = objects.replace(old, new).replace(strides[0] + strides[1], b"J" + struct.pack("<i", 4) + strides[1])
    for spaces in range(4):  # such files put their values where they come to lie; here that is at a multiple of four
        older_file(tmp_path / "file", objects, {"0": (count, b"")}, {"little_endian": True, "": " " * spaces})
        if (start := (tmp_path / "file").stat().st_size) % 4 == 0:
            break
    os.truncate(tmp_path / "file", start + 4 * count)
    with open(tmp_path / "file", "r+b") as file:
        file.seek(-4, io.SEEK_END)
        file.write(struct.pack("<f", 2.5))
    tracemalloc.start()
    try:
        tensor = read_torch_file(tmp_path / "file")["x"]
        assert tensor.nbytes == (count if strided else 4 * count)
        if not strided:
            array = tensor.read()
            assert (array[0, 0], array[-1, -1]) == (0.0, 2.5)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_writing_into_a_tensor_never_changes_the_file(tmp_path):
    for path in write_both(tmp_path):
        before = path.read_bytes()
        array = read_torch_file(path)["x"].read()
        assert array.flags.writeable
        array += 1.0
        assert array.sum() == 10000.0
        del array
        assert path.read_bytes() == before
        assert read_torch_file(path)["x"].read().sum() == 5000.0


def test_opened_tensors_stay_when_the_file_is_replaced_or_removed(tmp_path):
    for path in write_both(tmp_path):
        tensor = read_torch_file(path)["x"]
        (tmp_path / "new").write_bytes(b"other")
        os.replace(tmp_path / "new", path)
        np.testing.assert_array_equal(tensor.read(), np.full(5000, 1.0, "f4"))
        os.unlink(path)
        np.testing.assert_array_equal(tensor.read(), np.full(5000, 1.0, "f4"))


def test_strides_of_axes_of_length_one_do_not_matter(torch, tmp_path):
    tensors = {
        "ids": torch.arange(5).expand(1, -1),
        "odd": torch.arange(6.0).as_strided((1, 6, 1), (2**62, 1, 2**62)),
        "every second": torch.arange(6.0).as_strided((3, 1), (2, 2**62)),
    }
    save(torch, tensors, tmp_path / "file")
    read = read_torch_file(tmp_path / "file")
    agree(torch, read, tensors)
    for name in ("ids", "odd"):  # mapped, not copied
        assert np.shares_memory(read[name].read(), read[name].read())


def test_tied_tensors_share_their_memory_and_strided_ones_are_copies(torch, tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    save(torch, {"a": whole, "b": whole.view(12), "c": whole.T}, tmp_path / "file")
    read = read_torch_file(tmp_path / "file")
    arrays = {name: tensor.read() for name, tensor in read.items()}
    assert np.shares_memory(arrays["a"], arrays["b"])
    assert not np.shares_memory(arrays["a"], arrays["c"])
    assert all(array.flags.c_contiguous and array.flags.writeable for array in arrays.values())


# Files that are not what they say


def test_missing_file_and_folder_are_named(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(OSError, match=str(path)):
            read_torch_file(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "begins with b''"),
        (b"version https://git-lfs.github.com/spec/v1\n", "begins with b'version https://'"),
        (b"<!DOCTYPE html>\n", "as no file of PyTorch does"),
        (b"\x00" * 257 + b"ustar\x0000" + b"\x00" * 300, "a tar archive of PyTorch 0.1.9 or before"),
        (b"\x80", "truncated"),
        (b"\x80\x02}.", "magic number"),
        (b"PK\x03\x04", "is no PyTorch file that can be read here"),
    ],
)
def test_what_is_no_file_of_torch_is_refused(tmp_path, content, words):
    (tmp_path / "file").write_bytes(content)
    assert words in refusal(tmp_path / "file")


def test_every_truncation_of_a_file_is_refused(tmp_path):
    for path in write_small(tmp_path):
        for length in reversed(range(path.stat().st_size)):
            os.truncate(path, length)
            assert refusal(path)


def write_small(folder):
    tensors = {"x": from_numpy(np.arange(6, dtype="f4").reshape(2, 3)), "y.z": from_numpy(np.ones(2, "?"))}
    write_torch_file(folder / "archive", tensors)
    objects = b"\x80\x02}(" + text("x") + pickled_tensor(shape=(2, 2))
    objects += text("y.z") + pickled_tensor("BoolStorage", "1", 2, (2,)) + b"u."
    storages = {"0": (4, np.arange(4, dtype="<f4").tobytes()), "1": (2, b"\x01\x00")}
    older_file(folder / "older", objects, storages)
    return folder / "archive", folder / "older"


def read_or_refuse(path):
    """Whatever the file says, its tensors are as described or it is refused in one sentence."""
    try:
        tensors, message = read_torch_file(path), ""
    except (ValueError, OSError) as error:
        tensors, message = {}, str(error)
    assert "\n" not in message
    for tensor in tensors.values():
        array = tensor.read()
        assert array.shape == tensor.shape
        assert array.dtype == np.dtype(DTYPES[tensor.dtype])
        array.tobytes()  # all of it can be touched


@pytest.mark.parametrize("number", [0, 1])
def test_every_byte_changed_is_refused_or_harmless(tmp_path, number):
    path = write_small(tmp_path)[number]
    with open(path, "r+b", buffering=0) as file:
        for position, byte in enumerate(path.read_bytes()):
            for change in (0xFF, 0x01):
                os.pwrite(file.fileno(), bytes([byte ^ change]), position)
                read_or_refuse(path)
            os.pwrite(file.fileno(), bytes([byte]), position)


@pytest.fixture
def small_files(tmp_path):
    """The bytes of a small file in each format."""
    return [path.read_bytes() for path in write_small(tmp_path)]


edits = st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), min_size=1, max_size=6)


@settings(property_test, max_examples=300)
@given(changes=edits, number=st.integers(0, 1), cut=st.integers(0, 40))
def test_changed_bytes_anywhere_are_refused_or_harmless(tmp_path, small_files, changes, number, cut):
    changed = bytearray(small_files[number])
    for position, byte in changes:
        changed[position % len(changed)] = byte
    (tmp_path / "file").write_bytes(changed[: len(changed) - cut] if cut < 4 else changed)
    read_or_refuse(tmp_path / "file")


def test_a_file_of_torch_with_changed_bytes_is_refused_or_harmless(fixture_folder, tmp_path):
    whole = bytearray((fixture_folder / "torchvision_vit/vit.pth").read_bytes())
    draw = np.random.default_rng(7)
    for _ in range(150):
        changed = whole.copy()
        for position in draw.integers(0, 7600, 3):  # the pickle and its header
            changed[position] = draw.integers(0, 256)
        (tmp_path / "file").write_bytes(changed)
        read_or_refuse(tmp_path / "file")


def test_reading_takes_no_names_from_the_module_pickle():
    sources = [pathlib.Path(torch_file.__file__).with_name(f"torch_{part}.py") for part in ("file", "names", "pickle")]
    for source in sources:
        lines = source.read_text().splitlines()
        imported = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
        assert imported.isdisjoint({"pickle", "_pickle", "pickletools", "importlib", "builtins", "marshal", "torch"})
