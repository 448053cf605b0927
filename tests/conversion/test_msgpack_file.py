import io
import os
import struct
import sys
import tracemalloc

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversion.containers import msgpack_file
from conversion.containers.msgpack_file import read_msgpack, write_msgpack
from vit_core.safetensors_file import map_safetensors
from vit_core.stored_tensor import DTYPES, StoredTensor, from_numpy

SLOW_OR_SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
property_test = settings(max_examples=60, suppress_health_check=SLOW_OR_SHARED)
PUBLISHED = ["hf_vit_classifier", "hf_vit_model"]
NAMES = {
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


def extension(shape, dtype, data, code=1):
    """An array as `flax.serialization` packs it."""
    return msgpack.ExtType(code, msgpack.packb((shape, dtype, data), use_bin_type=True))


def packed(tensor):
    return extension(tensor.shape, NAMES[tensor.dtype], tensor.read().tobytes())


def array(*values):
    return extension((len(values),), "float32", struct.pack(f"<{len(values)}f", *values))


def nested(flat):
    tree = {}
    for name, value in flat.items():
        *groups, last = name.split("/")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    return tree


def raw_file(path, content):
    path.write_bytes(content if isinstance(content, bytes) else msgpack.packb(content))
    return path


def refusal(path):
    """What is said of a file that is refused: one sentence that names it."""
    with pytest.raises(ValueError, match="is no msgpack file that can be read here") as caught:
        read_msgpack(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 500
    return message


@st.composite
def stored_tensors(draw):
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4) | st.lists(st.integers(120, 260), max_size=1)))
    count = int(np.prod(shape)) * np.dtype(DTYPES[dtype]).itemsize
    bits = np.random.default_rng(draw(st.integers(0, 99))).bytes(count)
    if dtype == "BOOL":
        bits = bytes(byte & 1 for byte in bits)
    array = np.frombuffer(bits, DTYPES[dtype]).reshape(shape)
    return StoredTensor(dtype, shape, lambda: array)


parts = st.text(alphabet="ab_0é", max_size=3) | st.text(alphabet="ab", min_size=30, max_size=40)
paths = st.lists(parts, min_size=1, max_size=4).map("/".join)


@st.composite
def tensor_sets(draw):
    """Tensors by path, where no path leads through another one."""
    found = draw(st.dictionaries(paths, stored_tensors(), max_size=20))
    return {name: value for name, value in found.items() if not any(name.startswith(f"{other}/") for other in found)}


# Other people's files


@pytest.mark.parametrize("folder", PUBLISHED)
def test_published_weights_are_read_and_written_again_byte_for_byte(fixture_folder, tmp_path, folder):
    path = fixture_folder / folder / "flax_model.msgpack"
    tensors = read_msgpack(path)
    assert len(tensors) == 56
    write_msgpack(tmp_path / "again", tensors)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_published_weights_are_those_of_the_safetensors_file(fixture_folder):
    folder = fixture_folder / "hf_vit_classifier"
    tensors = {name: tensor.read() for name, tensor in read_msgpack(folder / "flax_model.msgpack").items()}
    expected = {name: tensor.read() for name, tensor in map_safetensors(folder / "model.safetensors").items()}
    layer, canonical_layer = "vit/encoder/layer/1", "vit.encoder.layer.1"
    for name, canonical, axes in [
        ("vit/embeddings/cls_token", "vit.embeddings.cls_token", None),
        (
            "vit/embeddings/patch_embeddings/projection/kernel",
            "vit.embeddings.patch_embeddings.projection.weight",
            (3, 2, 0, 1),
        ),
        (f"{layer}/attention/attention/query/kernel", f"{canonical_layer}.attention.attention.query.weight", (1, 0)),
        (f"{layer}/output/dense/bias", f"{canonical_layer}.output.dense.bias", None),
        ("vit/layernorm/scale", "vit.layernorm.weight", None),
        ("classifier/kernel", "classifier.weight", (1, 0)),
    ]:
        array = tensors[name] if axes is None else tensors[name].transpose(axes)
        np.testing.assert_array_equal(array, expected[canonical])


@pytest.fixture(scope="module")
def serialization():
    return pytest.importorskip("flax.serialization")


@pytest.mark.parametrize("largest_piece", [2**30, 64])
@property_test
@given(tensors=tensor_sets())
def test_files_are_byte_for_byte_those_of_flax(tmp_path, serialization, largest_piece, tensors):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    arrays = {
        name: tensor.read().view(bfloat16) if tensor.dtype == "BF16" else tensor.read()
        for name, tensor in tensors.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serialization, "MAX_CHUNK_SIZE", largest_piece)
        patch.setattr(msgpack_file, "LARGEST_PIECE", largest_piece)
        write_msgpack(tmp_path / "file", tensors)
        assert (tmp_path / "file").read_bytes() == serialization.to_bytes(nested(arrays))
    read = read_msgpack(tmp_path / "file")
    assert read.keys() == tensors.keys()
    for name, tensor in read.items():
        assert (tensor.dtype, tensor.shape) == (tensors[name].dtype, tensors[name].shape)
        assert tensor.read().shape == tensor.shape
        assert tensor.read().tobytes() == tensors[name].read().tobytes()


def test_all_that_flax_serializes_beside_arrays_is_left_out(tmp_path, serialization):
    state = {
        "step": 3,
        "rate": 1e-3,
        "negative": [-1, -100, -1000, -100_000, -(2**40)],
        "large": [200, 2**15, 2**31, 2**40],
        "complex": 1 + 2j,
        "none": None,
        "flag": True,
        "name": "vit" * 30,
        "params": {"kernel": np.ones((2, 2), "f4")},
        "scalar": np.float32(2.5),
        "list": [np.zeros(1, "i4"), np.ones(1, "i4")],
    }
    (tmp_path / "file").write_bytes(serialization.msgpack_serialize(state))
    read = {name: (tensor.dtype, tensor.read().tolist()) for name, tensor in read_msgpack(tmp_path / "file").items()}
    assert read == {
        "params/kernel": ("F32", [[1, 1], [1, 1]]),
        "scalar": ("F32", 2.5),
        "list/0": ("I32", [0]),
        "list/1": ("I32", [1]),
    }


# Without Flax: MessagePack's own package says what bytes mean


@property_test
@given(tensor_sets())
def test_what_flax_would_write_is_read(tmp_path, tensors):
    raw_file(tmp_path / "file", nested({name: packed(tensor) for name, tensor in tensors.items()}))
    read = read_msgpack(tmp_path / "file")
    assert read.keys() == tensors.keys()
    for name, tensor in read.items():
        assert (tensor.dtype, tensor.shape) == (tensors[name].dtype, tensors[name].shape)
        assert tensor.read().dtype == np.dtype(DTYPES[tensor.dtype])
        assert tensor.read().flags.aligned
        assert tensor.read().tobytes() == tensors[name].read().tobytes()
    write_msgpack(tmp_path / "again", tensors)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "file").read_bytes()


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(width=32)
    | st.text(max_size=40)
    | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner, max_size=20),
    max_leaves=20,
)


@property_test
@given(st.dictionaries(st.text(max_size=3), plain, max_size=3), st.booleans())
def test_all_that_is_no_array_is_left_out(tmp_path, content, is_single):
    content = {"first": array(1), **content, "last": array(2)}
    raw_file(tmp_path / "file", msgpack.packb(content, use_single_float=is_single))
    assert {name: tensor.read().tolist() for name, tensor in read_msgpack(tmp_path / "file").items()} == {
        "first": [1],
        "last": [2],
    }


@pytest.mark.parametrize("size", [15, 16, 70_000])
def test_maps_lists_and_texts_of_every_length_are_read(tmp_path, size):
    content = {"map": dict.fromkeys(map(str, range(size)), 1), "list": [1] * size, "text": "x" * size, "x": array(1)}
    assert list(read_msgpack(raw_file(tmp_path / "file", content))) == ["x"]


def test_names_with_slashes_are_the_names_of_nested_maps(tmp_path):
    assert list(read_msgpack(raw_file(tmp_path / "file", {"a/b": array(1), "a": {"c": array(1)}}))) == ["a/b", "a/c"]


def test_a_file_without_tensors_is_read_and_written(tmp_path):
    write_msgpack(tmp_path / "file", {})
    assert (tmp_path / "file").read_bytes() == msgpack.packb({})
    assert read_msgpack(tmp_path / "file") == {}


def pieces(shape, *arrays, mark=True):
    chunks = {str(i): array for i, array in enumerate(arrays)}
    shape = {str(i): size for i, size in enumerate(shape)}
    return {"x": {"__msgpack_chunked_array__": mark, "shape": shape, "chunks": chunks}}


def test_split_arrays_are_joined(tmp_path):
    raw_file(tmp_path / "file", pieces((3, 2), array(1, 2, 3, 4), array(5), array(6)))
    tensor = read_msgpack(tmp_path / "file")["x"]
    assert (tensor.shape, tensor.read().tolist()) == ((3, 2), [[1, 2], [3, 4], [5, 6]])
    raw_file(tmp_path / "file", pieces((1, 1), array(7)))
    assert read_msgpack(tmp_path / "file")["x"].read().tolist() == [[7]]


# Reading is lazy


def test_four_gigabytes_open_without_taking_memory(tmp_path):
    # More than Flax itself would write in one piece, so that the numbers take all of their 32 bits.
    count = 2**30 - 100
    inner = msgpack.packb([[count // 2, 2], "float32"])[1:] + struct.pack(">BI", 0xC6, 4 * count)
    head = msgpack.packb({"x": 0})[:-1] + struct.pack(">BIb", 0xC9, 1 + len(inner) + 4 * count, 1) + b"\x93" + inner
    with open(tmp_path / "file", "wb") as file:
        file.write(head)
        file.seek(4 * count - 4, io.SEEK_CUR)
        file.write(struct.pack("<f", 2.5))
    tracemalloc.start()
    tensor = read_msgpack(tmp_path / "file")["x"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21
    assert tensor.shape == (count // 2, 2)


def test_aligned_arrays_are_mapped_and_others_copied_when_read(tmp_path):
    for surplus in range(4):
        raw_file(tmp_path / "file", {"n" * (surplus + 1): array(*range(2**18))})
        (tensor,) = read_msgpack(tmp_path / "file").values()
        tracemalloc.start()
        read = tensor.read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        start = (tmp_path / "file").read_bytes().index(struct.pack("<2f", 0, 1))
        assert read.flags.aligned
        assert read[-1] == 2**18 - 1
        assert (peak < 2**19) is (start % 4 == 0)


def test_writing_into_a_tensor_never_changes_the_file(tmp_path):
    for surplus in range(4):
        raw_file(tmp_path / "file", {"n" * (surplus + 1): array(*range(5000))})
        before = (tmp_path / "file").read_bytes()
        (tensor,) = read_msgpack(tmp_path / "file").values()
        values = tensor.read()
        values += 1
        assert values[-1] == 5000
        assert (tmp_path / "file").read_bytes() == before


def test_opened_tensors_stay_when_the_file_is_replaced_or_removed(tmp_path):
    raw_file(tmp_path / "file", {"x": array(*[1.0] * 5000)})
    raw_file(tmp_path / "new", {"x": array(2.0)})
    tensor = read_msgpack(tmp_path / "file")["x"]
    os.replace(tmp_path / "new", tmp_path / "file")
    np.testing.assert_array_equal(tensor.read(), np.full(5000, 1.0, "f4"))
    os.unlink(tmp_path / "file")
    np.testing.assert_array_equal(tensor.read(), np.full(5000, 1.0, "f4"))


def test_neither_reading_nor_writing_needs_a_package(fixture_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "msgpack", None)
    write_msgpack(tmp_path / "file", read_msgpack(fixture_folder / "hf_vit_model" / "flax_model.msgpack"))


# Writing


@pytest.mark.parametrize("order", ["transposed", "strided", "reversed"])
@pytest.mark.parametrize("largest_piece", [2**30, 40])
def test_arrays_are_written_row_by_row_however_they_lie_in_memory(tmp_path, monkeypatch, order, largest_piece):
    monkeypatch.setattr(msgpack_file, "LARGEST_PIECE", largest_piece)
    array = np.arange(24, dtype="f4").reshape(4, 6)
    array = {"transposed": array.T, "strided": array[:, ::2], "reversed": array[::-1]}[order]
    write_msgpack(tmp_path / "file", {"x": from_numpy(array)})
    np.testing.assert_array_equal(read_msgpack(tmp_path / "file")["x"].read(), array)


def test_writing_takes_one_tensor_at_a_time(tmp_path):
    tensors = {f"{i}": StoredTensor("F32", (2**20,), lambda: np.ones(2**20, "f4")) for i in range(8)}
    tracemalloc.start()
    write_msgpack(tmp_path / "file", tensors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 2**22


def test_a_written_file_is_flushed_to_the_disk_when_it_is_whole(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_size))
    write_msgpack(tmp_path / "file", {"x": from_numpy(np.zeros(3, "f4"))})
    assert flushed == [(tmp_path / "file").stat().st_size]


@pytest.mark.parametrize(
    "names",
    [
        ["__msgpack_chunked_array__"],
        ["a/__msgpack_chunked_array__/b"],
        ["x" * 513],
        ["/".join("a" * 65)],
        ["a", "a/b"],
        ["a/b", "a"],
        ["\ud800"],
    ],
)
def test_names_that_cannot_be_nested_are_refused_before_anything_is_written(tmp_path, names):
    with pytest.raises(ValueError, match="has no place for|inside of another tensor|surrogates"):
        write_msgpack(tmp_path / "file", dict.fromkeys(names, from_numpy(np.zeros(2, "f4"))))
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("name", ["x" * 512, "/".join("a" * 64), "", "/", "a//b"])
def test_names_at_the_bounds_are_written_and_read(tmp_path, name):
    write_msgpack(tmp_path / "file", {name: from_numpy(np.zeros(2, "f4"))})
    assert list(read_msgpack(tmp_path / "file")) == [name]


# Files that are not what they say


def test_missing_file_and_folder_are_named(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(OSError, match=str(path)):
            read_msgpack(path)


def deep(levels):
    content = array(1)
    for _ in range(levels):
        content = {"a": content}
    return content


def with_extension(payload, code=1):
    return {"x": msgpack.ExtType(code, payload if isinstance(payload, bytes) else msgpack.packb(payload))}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it ends outside of the file"),
        (b"\xc1", "starts with the byte 0xc1"),
        (b"\x81\xa1x\xc1", "'x' in it starts with the byte 0xc1"),
        (array(1), "is no map of names"),
        (3, "is no map of names"),
        ("text", "is no map of names"),
        (msgpack.packb({"x": array(1)}) + b"\xc0", "has 1 bytes too many behind it"),
        (msgpack.packb({"x": array(1)}) * 2, "bytes too many behind it"),
        ({1: array(1)}, "has a name that is no text"),
        ({None: array(1)}, "has a name that is no text"),
        ({b"x": array(1)}, "has a name that is no text"),
        (b"\x81\xa2\xff\xfe\xc0", "has a name that is no UTF-8"),
        ({"x" * 513: array(1)}, "has more than 512 characters"),
        ({"x" * 5000: array(1)}, "has a name that is no text of up to 512"),
        ({"x" * 300: {"y" * 300: array(1)}}, "has more than 512 characters"),
        (b"\x82\xa1x\x01\xa1x\x01", "has 'x' twice"),
        ({"a/b": array(1), "a": {"b": array(2)}}, "it holds 'a/b' twice"),
        (deep(65), "nested deeper than 64"),
        (b"\x81\xa1a" * 100_000 + b"\xc0", "nested deeper than 64"),
        (b"\x81\xa1a" + b"\x91" * 100_000 + b"\xc0", "nested deeper than 64"),
        (b"\xdf\xff\xff\xff\xff\xa1x", "claims 4294967295 bytes or values"),
        (b"\xde\xff\xff" + bytes(70_000), "claims 65535 bytes or values"),
        (b"\x81\xa1x\xdd\xff\xff\xff\xff", "'x' in it claims 4294967295 bytes or values"),
        (b"\x81\xdb\xff\xff\xff\xff", "claims 4294967295 bytes or values"),
        (b"\x81\xa1x\xdb\xff\xff\xff\xff", "'x' in it claims 4294967295 bytes or values"),
        (b"\x81\xa1x\xc6\xff\xff\xff\xff", "'x' in it claims 4294967295 bytes or values"),
        (b"\x81\xa1x\xc9\xff\xff\xff\xff\x01", "'x' in it claims 4294967295 bytes or values"),
        (b"\x81\xa1x\xcb\x00", "claims 8 bytes or values"),
        (b"\x81\xa1x\xd8\x01", "claims 16 bytes or values"),
        (b"\x81\xa1x\xc7\x02\x01\x93", "ends outside of the file"),
        ({"x": msgpack.Timestamp(0)}, "is of type 255"),
        (with_extension(b"abcd", 4), "is of type 4"),
        (with_extension(b""), "ends outside of the file"),
        (with_extension([]), "is no array|of type 1"),
        (with_extension([[1], "float32"]), "of type 1"),
        (with_extension([[1], "float32", bytes(4), 1]), "of type 1"),
        (with_extension({1: 2}), "of type 1"),
        (with_extension([1, "float32", bytes(4)]), "has no shape"),
        (with_extension(["1", "float32", bytes(4)]), "has no shape"),
        (with_extension([["1"], "float32", bytes(4)]), "has no shape"),
        (with_extension([[-1], "float32", bytes(4)]), "has no shape"),
        (with_extension([[1.0], "float32", bytes(4)]), "has no shape"),
        (with_extension([[None], "float32", bytes(4)]), "has no shape"),
        (with_extension([[[1]], "float32", bytes(4)]), "has no shape"),
        (with_extension([[1] * 33, "float32", bytes(4)]), "has no shape"),
        (with_extension([[2**62, 4], "float32", bytes(0)]), "which no array has"),
        (with_extension([[0, 2**62, 4], "float32", bytes(0)]), "which no array has"),
        (with_extension([[2**64 - 1], "float32", bytes(4)]), "which no array has"),
        (with_extension([[1], 3, bytes(4)]), "has a dtype that is no text"),
        (with_extension([[1], b"float32", bytes(4)]), "has a dtype that is no text"),
        (with_extension([[1], "object", bytes(8)]), "of dtype 'object'; supported are bool, uint8"),
        (with_extension([[1], "complex64", bytes(8)]), "of dtype 'complex64'"),
        (with_extension([[1], "<f4", bytes(4)]), "of dtype '<f4'"),
        (with_extension([[1], "float8_e4m3fn", bytes(1)]), "of dtype 'float8_e4m3fn'"),
        (with_extension([[1], "\x1b[31m", bytes(4)]), r"of dtype '\x1b[31m'"),
        (with_extension([[1], "float32", "abcd"]), "has 4 bytes, but shape (1,) as float32 takes 4"),
        (with_extension([[1], "float32", [0] * 4]), "has 4 bytes"),
        (with_extension([[1], "float32", bytes(3)]), "has 3 bytes, but shape (1,) as float32 takes 4"),
        (with_extension([[1], "float32", bytes(5)]), "has 5 bytes, but"),
        (with_extension([[2**40], "float32", bytes(4)]), "has 4 bytes, but shape (1099511627776,)"),
        (with_extension(msgpack.packb([[1], "float32", bytes(4)]) + b"\0"), "that ends elsewhere"),
        (with_extension(msgpack.packb([[1], "float32", bytes(4)])[:-1]) | {"y": 1}, "that ends elsewhere"),
        (pieces((3,), array(1, 2)), "is split into 2 values"),
        (pieces((1,), array(1, 2)), "is split into 2 values"),
        (pieces((2**62, 4), array(1)), "not into pieces of one array"),
        (pieces((-1,), array(1)), "not into pieces of one array"),
        (pieces(("1",), array(1)), "not into pieces of one array"),
        (pieces((0,)), "not into pieces of one array"),
        (pieces((2,), array(1), {"a": array(2)}), "not into pieces of one array"),
        (pieces((2,), array(1), 2), "not into pieces of one array"),
        (pieces((2,), array(1), extension((1,), "int32", bytes(4))), "not into pieces of one array"),
        (pieces((2,), array(1), extension((1, 1), "float32", bytes(4))), "not into pieces of one array"),
        ({"x": {"__msgpack_chunked_array__": True}}, "not into pieces of one array"),
        (
            {"x": {"__msgpack_chunked_array__": True, "shape": {"0": 1}, "chunks": {"1": array(1)}}},
            "not into pieces of one array",
        ),
        ({"x": {"__msgpack_chunked_array__": True, "shape": [1], "chunks": 3}}, "not into pieces of one array"),
    ],
)
def test_file_that_lies_is_refused_with_what_is_wrong(tmp_path, content, words):
    raw_file(tmp_path / "file", content)
    tracemalloc.start()
    message = refusal(tmp_path / "file")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert any(word in message for word in words.split("|"))
    assert peak < 2**23


def test_too_many_values_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(msgpack_file, "LARGEST_COUNT", 1000)
    raw_file(tmp_path / "file", {"x": [0] * 990})
    assert read_msgpack(tmp_path / "file") == {}
    raw_file(tmp_path / "file", {"x": [0] * 1000})
    assert "more than 1000 values" in refusal(tmp_path / "file")


WHOLE = msgpack.packb({"a": {"b": array(1, 2), "n": 300}, **pieces((3,), array(1, 2), array(3)), "s": [None, "text"]})


def test_every_truncation_of_a_file_is_refused(tmp_path):
    for length in range(len(WHOLE)):
        refusal(raw_file(tmp_path / "part", WHOLE[:length]))


edits = st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4)


def open_or_refuse(path):
    """Whatever the file says, its tensors are as described or it is refused in one sentence."""
    message = ""
    try:
        for tensor in read_msgpack(path).values():
            assert tensor.read().shape == tensor.shape
    except ValueError as error:
        message = str(error)
    assert "\n" not in message


@settings(property_test, max_examples=300)
@given(edits)
def test_changed_bytes_are_refused_or_harmless(tmp_path, changes):
    content = bytearray(WHOLE)
    for position, byte in changes:
        content[position] = byte
    open_or_refuse(raw_file(tmp_path / "file", bytes(content)))


@settings(property_test, max_examples=300)
@given(st.binary(max_size=40))
def test_any_bytes_are_refused_or_harmless(tmp_path, content):
    open_or_refuse(raw_file(tmp_path / "file", b"\x82\xa1x" + content))
