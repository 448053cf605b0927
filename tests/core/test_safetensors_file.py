import io
import json
import os
import shutil
import struct

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vit_core.safetensors_file import map_safetensors, write_safetensors
from vit_core.stored_tensor import DTYPES, StoredTensor, from_numpy

#: The safetensors package's names for the dtypes, for what it writes.
PACKAGE_NAMES = {
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

property_test = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def stored_tensors(draw):
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4)))
    count = int(np.prod(shape)) * np.dtype(DTYPES[dtype]).itemsize
    bits = draw(st.binary(min_size=count, max_size=count))
    if dtype == "BOOL":
        bits = bytes(byte & 1 for byte in bits)
    array = np.frombuffer(bits, DTYPES[dtype]).reshape(shape)
    return StoredTensor(dtype, shape, lambda: array)


names = st.text(max_size=12).filter(lambda name: name != "__metadata__")
tensor_sets = st.dictionaries(names, stored_tensors(), max_size=8)


def package_file(tensors):
    """The bytes that the safetensors package writes."""
    arrays = {name: np.ascontiguousarray(tensor.read()) for name, tensor in tensors.items()}
    specs = {
        name: safetensors.TensorSpec(
            dtype=PACKAGE_NAMES[tensor.dtype],
            shape=list(tensor.shape),
            data_ptr=arrays[name].ctypes.data,
            data_len=arrays[name].nbytes,
        )
        for name, tensor in tensors.items()
    }
    return bytes(safetensors.serialize(specs, {"format": "pt"}))


def raw_file(path, header, data=b"", header_length=None):
    """Write a file whose header says whatever it is told to; bytes are taken as they are, the rest is padded."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    if not isinstance(header, bytes):
        text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text) if header_length is None else header_length) + text + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def refusal(path):
    """What is said of a file that is refused: one sentence that names it."""
    with pytest.raises((ValueError, OSError)) as caught:
        map_safetensors(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 500
    return message


# Bytes


@property_test
@given(tensors=tensor_sets)
def test_files_are_byte_for_byte_those_of_the_safetensors_package(tmp_path, tensors):
    write_safetensors(tmp_path / "file", tensors)
    assert (tmp_path / "file").read_bytes() == package_file(tensors)


def test_every_dtype_has_the_place_in_the_file_that_the_package_gives_it(tmp_path):
    arrays = {dtype: np.ones(3, code) for dtype, code in DTYPES.items()}
    tensors = {f"as {dtype}": StoredTensor(dtype, (3,), arrays[dtype].copy) for dtype in DTYPES}
    write_safetensors(tmp_path / "file", tensors)
    assert (tmp_path / "file").read_bytes() == package_file(tensors)


def test_the_format_is_what_its_description_says(tmp_path):
    write_safetensors(tmp_path / "file", {"b": from_numpy(np.array([1.0], "<f4")), "a": from_numpy(np.array(7, "u1"))})
    header = (
        b'{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"U8","shape":[],"data_offsets":[4,5]}}'
    )
    padding = b" " * (-len(header) % 8)
    expected = struct.pack("<Q", len(header + padding)) + header + padding + b"\x00\x00\x80\x3f\x07"
    assert (tmp_path / "file").read_bytes() == expected


@pytest.mark.parametrize("order", ["C", "F", "strided", "reversed"])
def test_arrays_are_written_row_by_row_however_they_lie_in_memory(tmp_path, order):
    array = {
        "C": np.arange(12, dtype="f4").reshape(3, 4),
        "F": np.asfortranarray(np.arange(12, dtype="f4").reshape(3, 4)),
        "strided": np.arange(24, dtype="f4").reshape(3, 8)[:, ::2],
        "reversed": np.arange(12, dtype="f4").reshape(3, 4)[::-1],
    }[order]
    write_safetensors(tmp_path / "file", {"x": from_numpy(array)})
    np.testing.assert_array_equal(safetensors.numpy.load_file(tmp_path / "file")["x"], array)


@property_test
@given(tensors=tensor_sets)
def test_what_the_package_writes_is_read_back(tmp_path, tensors):
    (tmp_path / "file").write_bytes(package_file(tensors))
    read = map_safetensors(tmp_path / "file")
    assert read.keys() == tensors.keys()
    for name, tensor in read.items():
        assert (tensor.dtype, tensor.shape) == (tensors[name].dtype, tensors[name].shape)
        assert tensor.nbytes == tensors[name].read().nbytes
        assert tensor.read().dtype == np.dtype(DTYPES[tensor.dtype])
        assert tensor.read().shape == tensor.shape
        assert tensor.read().tobytes() == tensors[name].read().tobytes()


def test_published_files_are_written_again_byte_for_byte(fixture_folder, tmp_path):
    files = sorted(fixture_folder.glob("hf_vit_*/*.safetensors"))
    assert len(files) >= 10
    for file in files:
        write_safetensors(tmp_path / "again", map_safetensors(file))
        assert (tmp_path / "again").read_bytes() == file.read_bytes(), file


def test_a_file_without_tensors_is_read_and_written(tmp_path):
    write_safetensors(tmp_path / "file", {})
    assert (tmp_path / "file").read_bytes() == package_file({})
    assert map_safetensors(tmp_path / "file") == {}


def test_header_without_padding_leaves_tensors_that_frameworks_can_take(tmp_path):
    values = np.arange(4, dtype="<f8")
    header = json.dumps({"x": entry("F64", [4], [0, 32])}).encode()
    for spaces in range(8):
        raw_file(tmp_path / "file", header + b" " * spaces, values.tobytes())
        read = map_safetensors(tmp_path / "file")["x"].read()
        assert read.flags.aligned
        np.testing.assert_array_equal(read, values)


def test_bfloat16_becomes_the_float32_of_the_same_value():
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x0001, 0x8000, 0x4049], "<u2")
    tensor = StoredTensor("BF16", bits.shape, lambda: bits)
    expected = np.array([1.0, -2.0, np.inf, 2.0**-133, -0.0, 3.140625], "f4")
    assert tensor.numpy().tobytes() == expected.tobytes()
    assert bits[0] == 0x3F80  # the stored values are left alone


def test_bfloat16_without_axes_stays_an_array():
    value = StoredTensor("BF16", (), lambda: np.array(0xC000, "<u2")).numpy()
    assert isinstance(value, np.ndarray)
    assert (value.shape, value.dtype, value) == ((), np.float32, -2.0)


@pytest.mark.parametrize("dtype", ["c8", ">f4", "U3", "O", "M8[s]"])
def test_dtype_that_has_no_place_in_a_file_is_a_type_error(dtype):
    with pytest.raises(TypeError, match="convert them to float32"):
        from_numpy(np.zeros(2, dtype))


@pytest.mark.parametrize("name", ["__metadata__", "\ud800"])
def test_name_that_a_file_cannot_hold_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(ValueError, match="__metadata__|surrogates"):
        write_safetensors(tmp_path / "file", {name: from_numpy(np.zeros(2, "f4"))})
    assert not (tmp_path / "file").exists()


def test_a_written_file_is_flushed_to_the_disk_when_it_is_whole(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_size))
    write_safetensors(tmp_path / "file", {"x": from_numpy(np.zeros(3, "f4"))})
    assert flushed == [(tmp_path / "file").stat().st_size]


# Reading is lazy


def test_four_gigabytes_open_without_taking_memory(tmp_path, taking_no_memory):
    count = 2**30
    raw_file(tmp_path / "file", {"x": entry("F32", [count // 2, 2], [0, 4 * count])})
    with open(tmp_path / "file", "r+b") as file:
        start = file.seek(0, io.SEEK_END)
        file.truncate(start + 4 * count)
        file.seek(-4, io.SEEK_END)
        file.write(struct.pack("<f", 2.5))
    with taking_no_memory():
        array = map_safetensors(tmp_path / "file")["x"].read()
        assert array.shape == (count // 2, 2)
        assert (array[0, 0], array[-1, -1]) == (0.0, 2.5)


def test_writing_into_a_tensor_never_changes_the_file(tmp_path):
    write_safetensors(tmp_path / "file", {"x": from_numpy(np.zeros(5000, "f4"))})
    before = (tmp_path / "file").read_bytes()
    array = map_safetensors(tmp_path / "file")["x"].read()
    assert array.flags.writeable
    array += 1.0
    assert array.sum() == 5000.0
    del array
    assert (tmp_path / "file").read_bytes() == before
    assert map_safetensors(tmp_path / "file")["x"].read().sum() == 0.0


def test_opened_tensors_stay_when_the_file_is_replaced_or_removed(tmp_path):
    write_safetensors(tmp_path / "file", {"x": from_numpy(np.full(5000, 1.0, "f4"))})
    write_safetensors(tmp_path / "new", {"x": from_numpy(np.full(9, 2.0, "f4"))})
    tensor = map_safetensors(tmp_path / "file")["x"]
    os.replace(tmp_path / "new", tmp_path / "file")
    np.testing.assert_array_equal(tensor.read(), np.full(5000, 1.0, "f4"))
    os.unlink(tmp_path / "file")
    np.testing.assert_array_equal(tensor.read(), np.full(5000, 1.0, "f4"))


def replacing_after_the_header(monkeypatch, replace):
    """Have another file take the place of the one that is being opened, once its header was read."""
    really_load = json.loads

    def load(*arguments, **options):
        replace()
        return really_load(*arguments, **options)

    monkeypatch.setattr(json, "loads", load)


def test_file_replaced_while_it_is_being_opened_is_read_as_one_of_the_two(tmp_path, monkeypatch):
    write_safetensors(tmp_path / "file", {"x": from_numpy(np.full(4, 1.0, "f4"))})
    write_safetensors(tmp_path / "new", {"y": from_numpy(np.full(4, 2.0, "f4")), "z": from_numpy(np.zeros(9, "f4"))})

    def replace():
        if (tmp_path / "new").exists():
            os.replace(tmp_path / "new", tmp_path / "file")

    replacing_after_the_header(monkeypatch, replace)
    tensors = map_safetensors(tmp_path / "file")
    assert {name: tensor.read().tolist() for name, tensor in tensors.items()} == {"y": [2.0] * 4, "z": [0.0] * 9}


def test_file_that_is_replaced_without_end_is_refused(tmp_path, monkeypatch):
    write_safetensors(tmp_path / "file", {"x": from_numpy(np.full(4, 1.0, "f4"))})

    def replace():
        shutil.copy(tmp_path / "file", tmp_path / "new")
        os.replace(tmp_path / "new", tmp_path / "file")

    replacing_after_the_header(monkeypatch, replace)
    with pytest.raises(OSError, match="is replaced again and again while it is opened"):
        map_safetensors(tmp_path / "file")


# Files that are not what they say


def test_missing_file_and_folder_are_named(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(OSError, match=str(path)):
            map_safetensors(path)


def test_every_truncation_of_a_file_is_refused(tmp_path):
    write_safetensors(tmp_path / "whole", {"x": from_numpy(np.ones((2, 3), "f4")), "y": from_numpy(np.ones(1, "?"))})
    whole = (tmp_path / "whole").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "part").write_bytes(whole[:length])
        assert "truncated" in refusal(tmp_path / "part")


def test_bytes_behind_the_tensors_are_refused(tmp_path):
    write_safetensors(tmp_path / "file", {"x": from_numpy(np.ones(3, "f4"))})
    with open(tmp_path / "file", "ab") as file:
        file.write(b"\0")
    assert "file not fully covered" in refusal(tmp_path / "file")


WHOLE = package_file({name: from_numpy(np.arange(6, dtype=code)) for name, code in [("x", "f4"), ("y.z", "i8")]})
HEADER_END = 8 + struct.unpack("<Q", WHOLE[:8])[0]
edits = st.lists(st.tuples(st.integers(0, HEADER_END - 1), st.integers(0, 255)), min_size=1, max_size=4)


def open_or_refuse(path):
    """Whatever the file says, its tensors are as described or it is refused in one sentence."""
    try:
        tensors, message = map_safetensors(path), ""
    except (ValueError, OSError) as error:
        tensors, message = {}, str(error)
    assert "\n" not in message
    for tensor in tensors.values():
        assert tensor.read().shape == tensor.shape


@settings(property_test, max_examples=400)
@given(changes=edits)
def test_changed_bytes_in_the_header_are_refused_or_harmless(tmp_path, changes):
    changed = bytearray(WHOLE)
    for position, byte in changes:
        changed[position] = byte
    (tmp_path / "file").write_bytes(changed)
    open_or_refuse(tmp_path / "file")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 12) | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BOOL", "F8_E4M3"]) | json_values,
        "shape": st.lists(st.integers(0, 3) | json_values, max_size=3) | json_values,
        "data_offsets": st.sampled_from([[0, 0], [0, 8], [8, 12]]) | json_values,
    }
)


@settings(property_test, max_examples=400)
@given(header=st.dictionaries(st.text(max_size=3), entries | json_values, max_size=3) | json_values)
def test_any_json_in_the_header_is_refused_or_harmless(tmp_path, header):
    open_or_refuse(raw_file(tmp_path / "file", header, bytes(12)))


WHOLE_ENTRY = entry(shape=[3], offsets=[0, 12])


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"", "corrupt header"),
        (b"hello", "corrupt header"),
        (b"\xff\xfe", "corrupt header"),
        ('{"x": 1}'.encode("utf-16"), "corrupt header"),
        (b'{"x": ' * 100_000, "corrupt header"),
        (b'{"x": ' + b"[" * 500 + b"]" * 500 + b"}", "are more than 64 deep"),
        (b'{"x": ' + b"9" * 5000 + b"}", "corrupt header"),
        (json.dumps({"x": entry(), "y": entry()}).replace("y", "x").encode(), "it has a name twice"),
        (json.dumps({"x": WHOLE_ENTRY, "y": WHOLE_ENTRY}).replace('"y"', r'"\u0078"').encode(), "it has a name twice"),
        (json.dumps({"x": entry()}).replace("F32", 'F32","dtype":"I32').encode(), "it has a name twice"),
        ([], "invalid type: sequence"),
        (None, "invalid type: null"),
        ({"x": {}}, "missing field `dtype`"),
        ({"x": None}, "invalid type: null"),
        ({"x": [1, 2, 3]}, "invalid type: integer"),
        ({"x": {**entry(), "shape": None}}, "invalid type: null"),
        ({"x": entry("F99")}, "unknown variant `F99`"),
        ({"x": entry("F32" * 10_000)}, "unknown variant `F32F32"),
        ({"x" * 10_000: entry("F99")}, "unknown variant `F99`"),
        ({"x\x1b[31m\n": entry(offsets=[4, 12])}, r"invalid offset for tensor `x\x1b[31m\n`"),
        ({"x": entry(shape="22")}, 'invalid type: string "22"'),
        ({"x": entry(shape=[-1, -2])}, "invalid value: integer `-1`"),
        ({"x": entry(shape=[2.0])}, "invalid type: floating point"),
        ({"x": entry(shape=[True, 2])}, "invalid type: boolean"),
        ({"x": entry(shape=[3] * 1_000_000)}, "overflow computing"),
        ({"x": entry(shape=[10**4000])}, "number out of range"),
        ({"x": entry(shape=[2**62, 4])}, "overflow computing"),
        ({"x": entry(offsets=[0])}, "invalid length 1"),
        ({"x": entry(offsets=[8, 0])}, "invalid offset for tensor `x`"),
        ({"x": entry(offsets=[0, 4])}, "invalid shape, data type, or offset"),
        ({"x": entry(shape=[2**40], offsets=[0, 2**42])}, "file not fully covered"),
        ({"x": entry(), "y": entry(offsets=[4, 12])}, "invalid offset for tensor `y`"),
        ({"x": entry(), "y": entry(offsets=[9, 17])}, "invalid offset for tensor `y`"),
        ({"x": entry()}, "file not fully covered"),
        ({}, "file not fully covered"),
        # What the package lets through:
        ({"x": entry("F8_E4M3", [12], [0, 12])}, "holds 'x' as 'F8_E4M3'; supported are BOOL, U8"),
        ({"x": entry(shape=[1] * 33 + [3], offsets=[0, 12])}, "gives 'x' the shape"),
        ({"a": entry(shape=[0, 2**62, 4], offsets=[0, 0]), "x": WHOLE_ENTRY}, "gives 'a' the shape (0, 4611"),
        ({"a": entry(shape=[0, 2**64 - 1], offsets=[0, 0]), "x": WHOLE_ENTRY}, "gives 'a' the shape (0, 1844"),
    ],
)
def test_header_that_lies_is_refused_with_what_is_wrong(tmp_path, header, words):
    assert words in refusal(raw_file(tmp_path / "file", header, bytes(12)))


@pytest.mark.parametrize("claimed", [2**32, 2**40, 2**63, 2**64 - 1])
def test_header_of_gigabytes_is_refused_without_taking_memory(tmp_path, taking_no_memory, claimed):
    raw_file(tmp_path / "file", b"{}", header_length=claimed)
    os.truncate(tmp_path / "file", 2**33)
    with taking_no_memory():
        assert f"claims a header of {claimed} bytes" in refusal(tmp_path / "file")


def test_header_that_promises_terabytes_takes_no_memory(tmp_path, taking_no_memory):
    size = 2**42
    raw_file(tmp_path / "file", {"x": entry("U8", [size], [0, size])}, bytes(12))
    with taking_no_memory():
        assert "truncated" in refusal(tmp_path / "file")
