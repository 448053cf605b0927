import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversion.containers.npz_file import read_npz, write_npz
from vit_core.safetensors_file import map_safetensors
from vit_core.stored_tensor import DTYPES, StoredTensor, from_numpy

SLOW_OR_SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
property_test = settings(max_examples=60, suppress_health_check=SLOW_OR_SHARED)
NUMPY_CODES = [code for name, code in DTYPES.items() if name != "BF16"]

#: A published folder -> the number of its tensors.
PUBLISHED = {"google_jax": 56, "google_jax_representation": 58}


def npy(header, values=b"", version=1, length=None):
    """An array as a file, whose header says whatever it is told to."""
    text = header.encode("latin-1") if isinstance(header, str) else header
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + values


def header(descr="<f4", fortran_order="False", shape="(2,)"):
    return f"{{'descr': {descr!r}, 'fortran_order': {fortran_order}, 'shape': {shape}, }}"


def raw_file(path, files, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def refusal(path):
    """What is said of a file that is refused: one sentence that names it."""
    with pytest.raises(ValueError, match=".") as caught:
        read_npz(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 500
    return message


# Other people's files


@pytest.mark.parametrize("folder", PUBLISHED)
def test_published_weights_are_read_as_numpy_reads_them(fixture_folder, folder):
    path = fixture_folder / folder / "published.npz"
    tensors = read_npz(path)
    assert len(tensors) == PUBLISHED[folder]
    assert tensors["Transformer/encoderblock_0/LayerNorm_0/scale"].shape == (32,)
    with np.load(path, allow_pickle=False) as file:
        assert list(tensors) == file.files
        for name, array in file.items():
            assert (tensors[name].dtype, array.dtype) == ("F32", np.float32)
            np.testing.assert_array_equal(tensors[name].read(), array)


def test_compressed_archives_of_results_are_read_as_numpy_reads_them(fixture_folder):
    path = fixture_folder / "image_processing_arrays" / "expected.npz"
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: array for name, array in file.items() if array.dtype.kind != "U"}
    tensors = read_npz(path)
    for name, array in arrays.items():
        assert tensors[name].read().dtype == array.dtype
        np.testing.assert_array_equal(tensors[name].read(), array)


@st.composite
def arrays(draw):
    code = draw(st.sampled_from(NUMPY_CODES))
    order = draw(st.sampled_from("<>"))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 2, shape) * 100
    array = np.asarray(values).astype(np.dtype(code).newbyteorder(order))
    return np.asfortranarray(array) if draw(st.booleans()) and shape else array


names = st.text(max_size=12).filter(
    lambda name: "\0" not in name and not name.endswith(".npy") and name not in ("file", "self")
)


@property_test
@given(st.dictionaries(names, arrays(), max_size=6), st.sampled_from([np.savez, np.savez_compressed]))
def test_what_numpy_writes_is_read(tmp_path, arrays, save):
    save(tmp_path / "file.npz", **arrays)
    tensors = read_npz(tmp_path / "file.npz")
    assert list(tensors) == list(arrays)
    for name, array in arrays.items():
        read = tensors[name].read()
        assert tensors[name].shape == read.shape == array.shape
        assert read.dtype == np.dtype(DTYPES[tensors[name].dtype]) == array.dtype.newbyteorder("<")
        assert read.flags.aligned
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(tmp_path, version):
    array = np.arange(6, dtype="<f4").reshape(2, 3)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version)
    assert buffer.getvalue()[6] == version[0]
    raw_file(tmp_path / "file", {"x.npy": buffer.getvalue()})
    np.testing.assert_array_equal(read_npz(tmp_path / "file")["x"].read(), array)


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 1L), }\n",  # as Python 2 on Windows wrote it
        "{'shape': (2, 1), 'fortran_order': False, 'descr': '<f4'}",
        '{"descr": "<f4", "fortran_order": False, "shape": (2, 1)}',
        "  { 'descr' :'<f4' ,'fortran_order':False,\t'shape':( 2,1 ,) } \n",
    ],
)
def test_header_is_read_as_other_writers_spell_it(tmp_path, text):
    raw_file(tmp_path / "file", {"x.npy": npy(text, struct.pack("<2f", 1, 2))})
    assert read_npz(tmp_path / "file")["x"].read().tolist() == [[1.0], [2.0]]


def test_bfloat16_that_jax_saves_is_that(tmp_path):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    array = np.array([[1.0, -2.5], [3e38, 0.0]], bfloat16)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "file.npz", x=array)
        tensor = read_npz(tmp_path / "file.npz")["x"]
        assert (tensor.dtype, tensor.read().tobytes()) == ("BF16", array.tobytes())
        np.testing.assert_array_equal(tensor.numpy(), array.astype("f4"))


def test_what_is_no_array_is_left_out(tmp_path):
    raw_file(tmp_path / "file", {"a.npy": npy(header(), bytes(8)), "README": b"weights", "b.npy/": b""})
    assert list(read_npz(tmp_path / "file")) == ["a"]


# Reading is lazy


def test_four_gigabytes_open_without_taking_memory(tmp_path):
    count = 2**30
    content = npy(header(shape=f"({count // 2}, 2)"))
    name = b"x.npy"
    size = len(content) + 4 * count
    wide = struct.pack("<HHQQ", 1, 16, size, size)
    start = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 45, 0, 0, 0, 0, 0, 2**32 - 1, 2**32 - 1, len(name), len(wide))
    entry = struct.pack("<4sHHHHHHIII", b"PK\x01\x02", 45, 45, 0, 0, 0, 0, 0, 2**32 - 1, 2**32 - 1)
    entry += struct.pack("<HHHHHII", len(name), len(wide), 0, 0, 0, 0, 0) + name + wide
    with open(tmp_path / "file", "wb") as file:
        file.write(start + name + wide + content)
        file.seek(4 * count - 4, io.SEEK_CUR)
        file.write(struct.pack("<f", 2.5))
        directory = file.tell()
        file.write(entry)
        file.write(struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(entry), directory))
        file.write(struct.pack("<4sIQI", b"PK\x06\x07", 0, directory + len(entry), 1))
        file.write(struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), 2**32 - 1, 0))
    with zipfile.ZipFile(tmp_path / "file") as file:
        assert file.getinfo("x.npy").file_size == size
    tracemalloc.start()
    tensor = read_npz(tmp_path / "file")["x"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21
    assert tensor.shape == (count // 2, 2)


def test_reading_aligned_arrays_copies_nothing_and_never_writes_to_the_file(tmp_path):
    write_npz(tmp_path / "file", {"a": from_numpy(np.ones(2**20, "f4")), "b": from_numpy(np.ones((2**10, 99), "f8"))})
    before = (tmp_path / "file").read_bytes()
    tracemalloc.start()
    read = {name: tensor.read() for name, tensor in read_npz(tmp_path / "file").items()}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21
    for array in read.values():
        assert array.flags.aligned
        array += 1
        assert (array == 2).all()
    assert (tmp_path / "file").read_bytes() == before


def test_opened_tensors_stay_when_the_file_is_replaced_or_removed(tmp_path):
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "file.npz", x=np.full(5000, 1.0, "f4"))
        save(tmp_path / "new.npz", x=np.full(9, 2.0, "f4"))
        tensor = read_npz(tmp_path / "file.npz")["x"]
        os.replace(tmp_path / "new.npz", tmp_path / "file.npz")
        np.testing.assert_array_equal(tensor.read(), np.full(5000, 1.0, "f4"))
        os.unlink(tmp_path / "file.npz")
        np.testing.assert_array_equal(tensor.read(), np.full(5000, 1.0, "f4"))


# Writing


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


@property_test
@given(st.dictionaries(names, stored_tensors(), max_size=8))
def test_numpy_and_this_project_read_what_is_written(tmp_path, tensors):
    write_npz(tmp_path / "file.npz", tensors)
    again = read_npz(tmp_path / "file.npz")
    with np.load(tmp_path / "file.npz", allow_pickle=False) as file:
        assert file.files == list(tensors) == list(again)
        for name, tensor in tensors.items():
            expected = np.dtype("V2" if tensor.dtype == "BF16" else DTYPES[tensor.dtype])
            assert (file[name].dtype, file[name].shape) == (expected, tensor.shape)
            assert (again[name].dtype, again[name].shape) == (tensor.dtype, tensor.shape)
            assert file[name].tobytes() == again[name].read().tobytes() == tensor.read().tobytes()


@pytest.mark.parametrize("order", ["transposed", "strided", "reversed"])
def test_arrays_are_written_row_by_row_however_they_lie_in_memory(tmp_path, order):
    array = np.arange(24, dtype="f4").reshape(4, 6)
    array = {"transposed": array.T, "strided": array[:, ::2], "reversed": array[::-1]}[order]
    write_npz(tmp_path / "file.npz", {"x": from_numpy(array)})
    with np.load(tmp_path / "file.npz", allow_pickle=False) as file:
        assert file["x"].flags.c_contiguous
        np.testing.assert_array_equal(file["x"], array)


def test_published_weights_are_written_and_read_again(fixture_folder, tmp_path):
    tensors = map_safetensors(fixture_folder / "hf_vit_classifier" / "model.safetensors")
    write_npz(tmp_path / "one.npz", tensors)
    write_npz(tmp_path / "two.npz", tensors)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with np.load(tmp_path / "one.npz", allow_pickle=False) as file:
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(file[name], tensor.read())


def test_writing_takes_one_tensor_at_a_time(tmp_path):
    tensors = {f"{i}": StoredTensor("F32", (2**20,), lambda: np.ones(2**20, "f4")) for i in range(8)}
    tracemalloc.start()
    write_npz(tmp_path / "file.npz", tensors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 2**22


# Files that are not what they say


def test_missing_file_and_folder_are_named(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(OSError, match=str(path)):
            read_npz(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "starts with b''"),
        (b"\x93NUMPX\x01\x00", "no array that is known"),
        (b"\x93NUMPY\x01\x00", "no array that is known"),
        (npy("", version=4), r"starts with b'\x93NUMPY\x04\x00'"),
        (npy("", version=0), "no array that is known"),
        (b"\x93NUMPY\x02\x00\x05\x00", "too few for an array"),
        (npy(header(), bytes(8), length=60_000), "claims a header of 60000 bytes"),
        (npy(header(), bytes(8), 2, length=2**32 - 1), "claims a header of 4294967295 bytes"),
        (npy(header().ljust(20_000), bytes(8)), "at most 10000 are accepted"),
        (npy(header("|O"), pickle.dumps([np.float32(0)] * 2)), "pickled objects, which could run code"),
        (npy(header("<U3"), bytes(24)), "has the dtype '<U3'; supported are b1, u1"),
        (npy(header("|S3"), bytes(6)), "has the dtype '|S3'"),
        (npy(header("<c8"), bytes(16)), "has the dtype '<c8'"),
        (npy(header("<M8[s]"), bytes(16)), "has the dtype '<M8[s]'"),
        (npy(header("<f16"), bytes(32)), "has the dtype '<f16'"),
        (npy(header(">V2"), bytes(4)), "has the dtype '>V2'"),
        (npy(header("|V4"), bytes(8)), "has the dtype '|V4'"),
        (npy(header("f4"), bytes(8)), "has the dtype 'f4'"),
        (npy(header("=f4"), bytes(8)), "has the dtype '=f4'"),
        (npy(header().replace("<f4", "\x1b[31m"), bytes(8)), r"dtype '\x1b[31m'"),
        (npy(header([("a", "<f4")]), bytes(8)), "no array of numbers"),
        (npy(header(("<f4", (2,))), bytes(8)), "no array of numbers"),
        (npy(header(fortran_order="None"), bytes(8)), "no array of numbers"),
        (npy(header(fortran_order="(2,)"), bytes(8)), "no array of numbers"),
        (npy(header(shape="True"), bytes(8)), "no array of numbers"),
        (npy(header(shape="[2]"), bytes(8)), "no array of numbers"),
        (npy(header(shape="2"), bytes(8)), "no array of numbers"),
        (npy(header(shape="(-2,)"), bytes(8)), "no array of numbers"),
        (npy(header(shape="(2.0,)"), bytes(8)), "no array of numbers"),
        (npy(header(shape="(0x2,)"), bytes(8)), "no array of numbers"),
        (npy(header(shape="(2,,)"), bytes(8)), "no array of numbers"),
        (npy(header(shape="(1 2)"), bytes(8)), "no array of numbers"),
        (npy(header(shape="(LL,)"), bytes(8)), "no array of numbers"),
        (npy(header(shape=f"({'9' * 20},)"), bytes(8)), "no array of numbers"),
        (npy(header(shape=f"({'9' * 5000},)"), bytes(8)), "no array of numbers"),
        (npy(header(shape=f"({'1,' * 33}2)"), bytes(8)), "no array of numbers"),
        (npy(header(shape="(4611686018427387904, 4)"), bytes(0)), "no array of numbers"),
        (npy(header(shape="(0, 4611686018427387904, 4)"), bytes(0)), "no array of numbers"),
        (npy(header(shape="(1099511627776,)"), bytes(8)), "has 8 bytes of values, but shape (1099511627776,)"),
        (npy(header(), bytes(7)), "has 7 bytes of values, but shape (2,) as F32 takes 8"),
        (npy(header(), bytes(9)), "has 9 bytes of values"),
        (npy("", bytes(8)), "no array of numbers"),
        (npy("{}", bytes(8)), "no array of numbers"),
        (npy("{'descr': '<f4'}", bytes(8)), "no array of numbers"),
        (npy(header()[:-1], bytes(8)), "no array of numbers"),
        (npy(header() + "()", bytes(8)), "no array of numbers"),
        (npy(header()[:-1] + "'x': 1}", bytes(8)), "no array of numbers"),
        (npy("{**" + header() + "}", bytes(8)), "no array of numbers"),
        (npy("{" * 9000, bytes(8)), "no array of numbers"),
        (npy("(" * 9000 + ")" * 900, bytes(8)), "no array of numbers"),
        (npy("-" * 9000 + "1", bytes(8)), "no array of numbers"),
        (npy("{'shape': (" + " " * 9000, bytes(8)), "no array of numbers"),
        (npy("__import__('os').abort()", bytes(8)), "no array of numbers"),
        (npy("\\N{", bytes(8)), "no array of numbers"),
        (npy(b"\xff" * 100, bytes(8)), "no array of numbers"),
    ],
)
def test_array_that_lies_is_refused_with_what_is_wrong(tmp_path, content, words, compression):
    message = refusal(raw_file(tmp_path / "file", {"a/b.npy": content}, compression))
    assert words in message
    assert "'a/b.npy'" in message or "'a/b'" in message


def test_pickled_objects_are_never_loaded(tmp_path):
    class Touch:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    np.savez(tmp_path / "file.npz", x=np.array([Touch()], object))
    assert "pickled objects, which could run code" in refusal(tmp_path / "file.npz")
    assert not (tmp_path / "canary").exists()
    with np.load(tmp_path / "file.npz", allow_pickle=True) as file:
        assert file["x"].shape == (1,)  # what numpy itself does with it
    assert (tmp_path / "canary").exists()


def test_an_archive_without_arrays_is_of_another_kind(tmp_path):
    raw_file(tmp_path / "file", {"archive/data.pkl": b"x", "archive/version": b"3"})
    assert "holds 'archive/data.pkl' and no .npy" in refusal(tmp_path / "file")


def test_an_archive_of_nothing_is_read(tmp_path):
    np.savez(tmp_path / "file.npz")
    assert read_npz(tmp_path / "file.npz") == {}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_truncation_of_a_file_is_refused(tmp_path, save):
    save(tmp_path / "whole.npz", x=np.ones((2, 3), "f4"), y=np.ones(1, "?"))
    whole = (tmp_path / "whole.npz").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "part").write_bytes(whole[:length])
        assert "truncated" in refusal(tmp_path / "part")


def test_compressed_array_that_was_changed_is_refused_when_it_is_read(tmp_path):
    np.savez_compressed(tmp_path / "file.npz", x=np.random.default_rng(0).normal(size=500))
    whole = bytearray((tmp_path / "file.npz").read_bytes())
    whole[2000] ^= 1
    (tmp_path / "file.npz").write_bytes(whole)
    tensor = read_npz(tmp_path / "file.npz")["x"]
    with pytest.raises(ValueError, match="'x.npy' in .* is corrupt, get the file again"):
        tensor.read()


edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4)


@settings(property_test, max_examples=300)
@given(st.sampled_from([np.savez, np.savez_compressed]), edits)
def test_changed_bytes_are_refused_or_harmless(tmp_path, save, changes):
    save(tmp_path / "file.npz", x=np.ones((2, 3), "f4"), y=np.asfortranarray(np.eye(2)))
    content = bytearray((tmp_path / "file.npz").read_bytes())
    for position, byte in changes:
        content[int(position * len(content))] = byte
    (tmp_path / "file.npz").write_bytes(content)
    message = ""
    try:
        for tensor in read_npz(tmp_path / "file.npz").values():
            assert tensor.read().shape == tensor.shape
    except ValueError as error:
        message = str(error)
    assert "\n" not in message


@settings(property_test, max_examples=300)
@given(st.text(alphabet="{}()[]'\",:0123456789L <>|=bfiuVdescrfortran_ordershapeTrueFalse\n\\", max_size=90))
def test_any_text_in_a_header_is_refused_or_harmless(tmp_path, text):
    raw_file(tmp_path / "file", {"x.npy": npy(text, bytes(8))})
    message = ""
    try:
        read_npz(tmp_path / "file")["x"].read()
    except ValueError as error:
        message = str(error)
    assert "\n" not in message
