import itertools
import os
import struct
import sys
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversion.containers import hdf5_library, hdf5_structure
from conversion.containers.hdf5_file import read_hdf5, write_hdf5
from vit_core.safetensors_file import map_safetensors
from vit_core.stored_tensor import DTYPES, StoredTensor, from_numpy

SLOW_OR_SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
property_test = settings(max_examples=60, suppress_health_check=SLOW_OR_SHARED)
NUMPY_CODES = [code for name, code in DTYPES.items() if name != "BF16"]
PUBLISHED = ["hf_vit_classifier", "hf_vit_model"]


@pytest.fixture(autouse=True)
def without_the_library(monkeypatch):
    """Other layouts, too, are looked at here alone; see test_hdf5_library.py."""
    monkeypatch.setattr(hdf5_library, "is_there", lambda: False)


def reading(path):
    """What h5py reads: {path of a dataset: its values}."""
    found = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def refusal(path):
    """What is said of a file that is refused when it is opened: one sentence that names it."""
    with pytest.raises(ValueError, match="is no HDF5 file that can be read here") as caught:
        read_hdf5(path)
    return sentence(caught, path)


def late_refusal(path, name):
    """What is said of a dataset that is refused when it is read."""
    tensor = read_hdf5(path)[name]
    with pytest.raises(ValueError, match="get the file again") as caught:
        tensor.read()
    return sentence(caught, path)


def sentence(caught, path):
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 500
    return message


def patched(path, old, new, number=0):
    """Change bytes of a file where they occur for the number-th time."""
    content = path.read_bytes()
    start = -1
    for _ in range(number + 1):
        start = content.index(old, start + 1)
    path.write_bytes(content[:start] + new + content[start + len(new) :])


# Other people's files


@pytest.mark.parametrize("folder", PUBLISHED)
def test_published_weights_are_read_as_h5py_reads_them(fixture_folder, folder):
    tensors = read_hdf5(fixture_folder / folder / "tf_model.h5")
    expected = reading(fixture_folder / folder / "tf_model.h5")
    assert list(tensors) == list(expected)
    assert len(tensors) == 56
    for name, array in expected.items():
        assert (tensors[name].dtype, tensors[name].shape) == ("F32", array.shape)
        np.testing.assert_array_equal(tensors[name].read(), array)


def test_published_weights_are_those_of_the_safetensors_file(fixture_folder):
    folder = fixture_folder / "hf_vit_classifier"
    tensors = {name: tensor.read() for name, tensor in read_hdf5(folder / "tf_model.h5").items()}
    expected = {name: tensor.read() for name, tensor in map_safetensors(folder / "model.safetensors").items()}
    vit = "vit/tf_vi_t_for_image_classification/vit"
    layer = f"{vit}/encoder/layer_._1"
    for name, canonical, axes in [
        (f"{vit}/embeddings/cls_token:0", "vit.embeddings.cls_token", None),
        (
            f"{vit}/embeddings/patch_embeddings/projection/kernel:0",
            "vit.embeddings.patch_embeddings.projection.weight",
            (3, 2, 0, 1),
        ),
        (
            f"{layer}/attention/attention/query/kernel:0",
            "vit.encoder.layer.1.attention.attention.query.weight",
            (1, 0),
        ),
        (f"{layer}/output/dense/bias:0", "vit.encoder.layer.1.output.dense.bias", None),
        (f"{vit}/layernorm/gamma:0", "vit.layernorm.weight", None),
        ("classifier/tf_vi_t_for_image_classification/classifier/kernel:0", "classifier.weight", (1, 0)),
    ]:
        array = tensors[name] if axes is None else tensors[name].transpose(axes)
        np.testing.assert_array_equal(array, expected[canonical])


@st.composite
def arrays(draw):
    code = draw(st.sampled_from(NUMPY_CODES))
    order = draw(st.sampled_from("<>"))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 2, shape) * 100
    return np.asarray(values).astype(np.dtype(code).newbyteorder(order))


parts = st.text(alphabet="abz:._0", min_size=1, max_size=4).filter(lambda part: part.strip("."))
paths = st.lists(parts, min_size=1, max_size=3).map("/".join)


@st.composite
def path_dictionaries(draw, values):
    """Values by path, where no path leads through another one."""
    found = draw(st.dictionaries(paths, values, max_size=8))
    return {
        name: value
        for name, value in found.items()
        if not any(f"{other}/" in f"{name}/" for other in found if other != name)
    }


@property_test
@given(path_dictionaries(arrays()))
def test_what_h5py_writes_is_read(tmp_path, arrays):
    with h5py.File(tmp_path / "file", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    tensors = read_hdf5(tmp_path / "file")
    assert list(tensors) == list(reading(tmp_path / "file"))
    for name, array in arrays.items():
        read = tensors[name].read()
        assert tensors[name].shape == read.shape == array.shape
        assert read.dtype == np.dtype(DTYPES[tensors[name].dtype]) == array.dtype.newbyteorder("<")
        assert read.flags.aligned
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("shape", [(1,), (103, 57), (7, 1, 5, 3)])
def test_chunks_are_read_however_they_are_compressed(tmp_path, compression, shuffle, shape):
    random = np.random.default_rng(0)
    values = {
        "noise": random.normal(size=shape).astype("f4"),
        "zeros": np.zeros(shape, "i8"),
        "repetitions": (np.arange(np.prod(shape)) // 7 % 50).reshape(shape).astype(">u2"),
        "rounded": random.normal(size=shape).astype("f2").astype("f8"),
    }
    with h5py.File(tmp_path / "file", "w") as file:
        for (name, array), step in itertools.product(values.items(), [1, 10, 200]):
            chunks = tuple(min(step, length) for length in shape)
            options = {"compression": compression, "shuffle": shuffle, "chunks": chunks if step > 1 else True}
            file.create_dataset(f"{name}/{step}", data=array, **options)
        file.create_dataset("growing", data=values["noise"], maxshape=(None,) * len(shape), chunks=(9,) * len(shape))
    tensors = read_hdf5(tmp_path / "file")
    expected = reading(tmp_path / "file")
    assert len(tensors) == len(expected) == 13
    for name, array in expected.items():
        assert tensors[name].read().dtype == array.dtype.newbyteorder("<")
        np.testing.assert_array_equal(tensors[name].read(), array)


def test_chunks_that_were_not_filtered_are_read(tmp_path):
    array = np.arange(8, dtype="f4").reshape(4, 2)
    with h5py.File(tmp_path / "file", "w") as file:
        dataset = file.create_dataset("x", (4, 2), "f4", chunks=(2, 2), compression="gzip", shuffle=True)
        dataset.id.write_direct_chunk((0, 0), array[:2].tobytes(), filter_mask=3)
        shuffled = np.frombuffer(array[2:].tobytes(), "u1").reshape(4, 4).T.tobytes()
        dataset.id.write_direct_chunk((2, 0), shuffled, filter_mask=2)
    np.testing.assert_array_equal(reading(tmp_path / "file")["x"], array)
    np.testing.assert_array_equal(read_hdf5(tmp_path / "file")["x"].read(), array)


def test_groups_of_thousands_and_deep_ones_are_read_in_order(tmp_path):
    with h5py.File(tmp_path / "file", "w") as file:
        for i in range(2000):
            file[f"many/{i}"] = np.float32(i)
        file["/".join("abcdefghij" * 4)] = np.float32(-1)
    tensors = read_hdf5(tmp_path / "file")
    assert list(tensors) == list(reading(tmp_path / "file"))
    assert [float(tensors[f"many/{i}"].read()) for i in range(2000)] == list(range(2000))


def test_attributes_and_empty_groups_do_not_disturb(tmp_path):
    with h5py.File(tmp_path / "file", "w") as file:
        file["a/x"] = np.ones(3, "f4")
        for i in range(30):
            file["a/x"].attrs[f"name {i}"] = "text " * i
            file["a"].attrs[f"name {i}"] = np.arange(i)
        file.create_group("b/c")
        file["type"] = np.dtype("f4")  # a datatype with a name, which has no values
    assert {name: tensor.read().tolist() for name, tensor in read_hdf5(tmp_path / "file").items()} == {"a/x": [1, 1, 1]}


@pytest.mark.parametrize("size", [512, 4096])
def test_something_else_before_the_file_is_skipped(tmp_path, size):
    with h5py.File(tmp_path / "file", "w", userblock_size=size) as file:
        file["x"] = np.arange(5.0)
        file.create_dataset("y", data=np.arange(5.0), chunks=(2,), compression="gzip")
    tensors = read_hdf5(tmp_path / "file")
    assert [tensor.read().tolist() for tensor in tensors.values()] == [[0, 1, 2, 3, 4]] * 2


def test_values_among_the_descriptions_are_read(tmp_path):
    with h5py.File(tmp_path / "file", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((3,))
        dataset = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, properties)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([1, 2, 3], "f4"))
    assert read_hdf5(tmp_path / "file")["x"].read().tolist() == [1, 2, 3]


@pytest.mark.parametrize("mark", ["bfloat16", np.bytes_(b"bfloat16"), b"bfloat16"])
def test_bfloat16_as_keras_marks_it_is_that(tmp_path, mark):
    bits = np.array([0x3F80, 0xC020, 0x0000], "<u2")
    with h5py.File(tmp_path / "file", "w") as file:
        dataset = file.create_dataset("x", data=bits.view("V2"))
        for i in range(20):
            dataset.attrs[f"dtype {i}"] = f"other {i}"
        dataset.attrs["dtype"] = mark
    tensor = read_hdf5(tmp_path / "file")["x"]
    assert (tensor.dtype, tensor.read().tolist()) == ("BF16", bits.tolist())
    assert tensor.numpy().tolist() == [1.0, -2.5, 0.0]


@pytest.mark.parametrize("mark", [None, "float8", "bfloat16 ", "bfloat1", 16, np.float32(1)])
def test_two_bytes_that_are_not_marked_are_refused(tmp_path, mark):
    with h5py.File(tmp_path / "file", "w") as file:
        dataset = file.create_dataset("x", data=np.zeros(3, "V2"))
        if mark is not None:
            dataset.attrs["dtype"] = mark
    assert "'x' in it holds something else than numbers" in refusal(tmp_path / "file")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of TensorFlow with numpy 2
def test_keras_reads_what_is_written_and_what_it_writes_is_read(tmp_path):
    keras = pytest.importorskip("keras")
    from keras.src.legacy.saving.legacy_h5_format import load_attributes_from_hdf5_group

    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2, dtype="bfloat16"), keras.layers.Dense(4)])
    model.save_weights(tmp_path / "model.weights.h5")
    tensors = read_hdf5(tmp_path / "model.weights.h5")
    expected = {
        f"layers/{layer}/vars/{i}": np.asarray(keras.ops.convert_to_numpy(weight), "f4")
        for layer, part in zip(["dense", "dense_1"], model.layers, strict=True)
        for i, weight in enumerate(part.weights)
    }
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        name: "BF16" if "dense/" in name else "F32" for name in expected
    }
    for name, array in expected.items():
        np.testing.assert_array_equal(tensors[name].numpy(), array)
    before = [np.asarray(keras.ops.convert_to_numpy(weight), "f4") for weight in model.weights]
    model.set_weights([np.zeros(weight.shape) for weight in model.weights])
    names = [f"layer_{i}/{'long ' * 20}" for i in range(2000)]
    write_hdf5(tmp_path / "again.weights.h5", tensors, {"": {"layer_names": names}, "x": {"weight_names": names[:9]}})
    model.load_weights(tmp_path / "again.weights.h5")
    after = [np.asarray(keras.ops.convert_to_numpy(weight), "f4") for weight in model.weights]
    for one, two in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, two)
    with h5py.File(tmp_path / "again.weights.h5") as file:
        assert load_attributes_from_hdf5_group(file, "layer_names") == names
        assert load_attributes_from_hdf5_group(file["x"], "weight_names") == names[:9]


# Reading is lazy


def test_four_gigabytes_open_without_taking_memory(tmp_path):
    count = 2**30
    with h5py.File(tmp_path / "file", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((count // 2, 2)), properties)
        file["x"][-1, -1] = 2.5
    tracemalloc.start()
    array = read_hdf5(tmp_path / "file")["x"].read()
    assert (array[0, 0], array[-1, -1]) == (0.0, 2.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21


def test_writing_into_a_tensor_never_changes_the_file(tmp_path):
    write_hdf5(tmp_path / "file", {"x": from_numpy(np.zeros(5000, "f4"))})
    before = (tmp_path / "file").read_bytes()
    array = read_hdf5(tmp_path / "file")["x"].read()
    assert array.flags.writeable
    array += 1.0
    assert array.sum() == 5000.0
    assert (tmp_path / "file").read_bytes() == before


def test_opened_tensors_stay_when_the_file_is_replaced_or_removed(tmp_path):
    for options in ({}, {"compression": "gzip"}):
        for name, value in (("file", 1.0), ("new", 2.0)):
            with h5py.File(tmp_path / name, "w") as file:
                file.create_dataset("x", data=np.full(5000, value, "f4"), **options)
        tensor = read_hdf5(tmp_path / "file")["x"]
        os.replace(tmp_path / "new", tmp_path / "file")
        np.testing.assert_array_equal(tensor.read(), np.full(5000, 1.0, "f4"))
        os.unlink(tmp_path / "file")
        np.testing.assert_array_equal(tensor.read(), np.full(5000, 1.0, "f4"))


def test_reading_needs_no_library(fixture_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert len(read_hdf5(fixture_folder / "hf_vit_model" / "tf_model.h5")) == 56


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
@given(path_dictionaries(stored_tensors()))
def test_h5py_and_this_project_read_what_is_written(tmp_path, tensors):
    write_hdf5(tmp_path / "file", tensors)
    expected, again = reading(tmp_path / "file"), read_hdf5(tmp_path / "file")
    assert expected.keys() == again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        numpy_dtype = np.dtype("V2" if tensor.dtype == "BF16" else DTYPES[tensor.dtype])
        assert (expected[name].dtype, expected[name].shape) == (numpy_dtype, tensor.shape)
        assert (again[name].dtype, again[name].shape) == (tensor.dtype, tensor.shape)
        assert expected[name].tobytes() == again[name].read().tobytes() == tensor.read().tobytes()


def test_tensors_lie_in_the_file_in_the_order_given(tmp_path):
    write_hdf5(tmp_path / "file", {name: from_numpy(np.full(100, i, "f4")) for i, name in enumerate("cab")})
    with h5py.File(tmp_path / "file") as file:
        assert sorted("abc", key=lambda name: file[name].id.get_offset()) == ["c", "a", "b"]


@pytest.mark.parametrize("order", ["transposed", "strided", "reversed"])
def test_arrays_are_written_row_by_row_however_they_lie_in_memory(tmp_path, order):
    array = np.arange(24, dtype="f4").reshape(4, 6)
    array = {"transposed": array.T, "strided": array[:, ::2], "reversed": array[::-1]}[order]
    write_hdf5(tmp_path / "file", {"x": from_numpy(array)})
    np.testing.assert_array_equal(reading(tmp_path / "file")["x"], array)


def test_attributes_are_text_of_fixed_length_and_numbers(tmp_path):
    attributes = {
        "": {"layer_names": ["vit", "classifier"], "backend": "tensorflow", "empty": "", "größe": 3},
        "vit": {"weight_names": ["vit/é:0", "b"], "shape": [2, 3]},
        "top_level_model_weights": {"weight_names": []},
        "vit/x": {"note": "of a dataset"},
    }
    write_hdf5(tmp_path / "file", {"vit/x": from_numpy(np.ones(2, "f4"))}, attributes)
    with h5py.File(tmp_path / "file") as file:
        assert set(file) == {"vit", "top_level_model_weights"}
        assert file.attrs["layer_names"].tolist() == [b"vit", b"classifier"]
        assert file.attrs["layer_names"].dtype == "S10"
        assert (file.attrs["backend"], file.attrs["empty"], file.attrs["größe"]) == (b"tensorflow", b"", 3)
        assert [name.decode() for name in file["vit"].attrs["weight_names"]] == ["vit/é:0", "b"]
        assert file["vit"].attrs["shape"].tolist() == [2, 3]
        assert list(file["top_level_model_weights"].attrs["weight_names"]) == []
        assert file["vit/x"].attrs["note"] == b"of a dataset"
    assert list(read_hdf5(tmp_path / "file")) == ["vit/x"]


def test_long_attributes_are_split_as_keras_splits_them(tmp_path):
    names = [f"encoder/layer_._{i}/" + "x" * 90 for i in range(1300)]
    write_hdf5(tmp_path / "file", {}, {"vit": {"weight_names": names}})
    with h5py.File(tmp_path / "file") as file:
        stored = dict(file["vit"].attrs)
    # Keras cuts into the fewest parts, of equal length, that are no longer than 64512 bytes: here 1300 * 111 / 3
    assert {name: part.nbytes for name, part in stored.items()} == {
        "weight_names0": 434 * 111,
        "weight_names1": 433 * 111,
        "weight_names2": 433 * 111,
    }
    assert [name.decode() for part in stored.values() for name in part] == names


@pytest.mark.parametrize("value", ["x" * 64513, ["a", "x" * 64513]])
def test_attribute_that_no_part_can_hold_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match="the attribute 'config' has 64513 bytes in one piece"):
        write_hdf5(tmp_path / "file", {}, {"": {"config": value}})


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "a/./b", ".", "a\0b", "x" * 600, "/".join("a" * 65), "é", "\ud800"]
)
def test_name_that_is_no_path_is_refused_before_anything_is_written(tmp_path, name):
    with pytest.raises(ValueError, match="HDF5 has no place for the name"):
        write_hdf5(tmp_path / "file", {name: from_numpy(np.zeros(2, "f4"))})
    assert not (tmp_path / "file").exists()


def test_tensor_inside_of_a_tensor_is_refused_before_anything_is_written(tmp_path):
    tensor = from_numpy(np.zeros(2, "f4"))
    for names in (["a/b", "a/b/c/d"], ["a/b/c/d", "a/b"]):
        with pytest.raises(ValueError, match="'a/b/c/d' would be inside of 'a/b'"):
            write_hdf5(tmp_path / "file", dict.fromkeys(names, tensor))
    assert not (tmp_path / "file").exists()


def test_the_same_tensors_are_the_same_file_and_it_says_no_time(tmp_path, fixture_folder):
    tensors = read_hdf5(fixture_folder / "hf_vit_model" / "tf_model.h5")
    attributes = {"": {"layer_names": ["vit"]}}
    for name in ("one", "two"):
        write_hdf5(tmp_path / name, tensors, attributes)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with h5py.File(tmp_path / "one") as file:
        times = []
        file.visititems(lambda _, item: times.append(h5py.h5o.get_info(item.id).mtime))
        assert set(times) == {0}


def test_a_written_file_is_flushed_to_the_disk_when_it_is_whole(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_size))
    write_hdf5(tmp_path / "file", {"x": from_numpy(np.zeros(3, "f4"))})
    assert flushed == [(tmp_path / "file").stat().st_size]


def test_writing_takes_one_tensor_at_a_time(tmp_path):
    tensors = {f"{i}": StoredTensor("F32", (2**20,), lambda: np.ones(2**20, "f4")) for i in range(8)}
    tracemalloc.start()
    write_hdf5(tmp_path / "file", tensors)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 2**22


# Files that are not what they say


def test_missing_file_and_folder_are_named(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(OSError, match=str(path)):
            read_hdf5(path)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a", bytes(5000), b"PK\x03\x04" * 200]
)
def test_something_else_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert "signature" in refusal(tmp_path / "file") or content.startswith(hdf5_structure.SIGNATURE)


def store_elsewhere(file, path):
    (path.parent / "canary").write_bytes(bytes(100))
    file.create_dataset("x", (3,), "f4", external=[(path.parent / "canary", 0, 12)])


def store_virtually(file, path):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource(path.parent / "canary", "x", (3,))
    file.create_virtual_dataset("x", layout)


def link_to(link):
    def make(file, path):
        file["a"] = np.ones(3, "f4")
        file["x"] = link

    return make


def link_in_a_circle(file, path):
    file["a/b/c"] = np.ones(3, "f4")
    file["a/b/again"] = file["a"]


def link_to_the_root(file, path):
    file["a/b"] = file["/"]


def link_twice(file, path):
    file["a"] = np.ones(3, "f4")
    file["x"] = file["a"]


def link_groups_twice(file, path):
    group = file.create_group("a")
    for _ in range(40):  # which is 2**40 paths
        inner = group.create_group("b")
        group["c"] = inner
        group = inner


def use_a_named_type(file, path):
    file["type"] = np.dtype("f4")
    file.create_dataset("x", (3,), file["type"])


def nest_deeply(file, path):
    file["/".join("a" * 66)] = np.ones(3, "f4")


def name_at_length(file, path):
    file["/".join(["name" * 50] * 3)] = np.ones(3, "f4")


def dataset(*arguments, **options):
    def make(file, path):
        file.create_dataset("x", *arguments, **options)

    return make


OTHER_VALUES = "'x' in it holds something else than numbers"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (store_elsewhere, "the values of 'x' are in other files, which are not opened"),
        (store_virtually, "stored in version 4 of the layouts"),
        (link_to(h5py.ExternalLink("/etc/passwd", "/x")), "links that may lead to other places or files"),
        (link_to(h5py.SoftLink("/a")), "'x' in it links to another place, which is not followed"),
        (link_to(h5py.SoftLink("/x")), "'x' in it links to another place, which is not followed"),
        (link_in_a_circle, "'a/b/again' is in it a second time"),
        (link_to_the_root, "'a/b' is in it a second time"),
        (link_twice, "'x' is in it a second time"),
        (link_groups_twice, "is in it a second time"),
        (use_a_named_type, "'x' in it is not described as an array should be"),
        (nest_deeply, "more than 64 deep"),
        (name_at_length, "names of more than 512 characters"),
        (dataset((10**6,), "f4"), "takes 4000000 bytes"),
        (dataset((10**12, 10**6), "f8"), "takes"),
        (dataset((2**40,), "f4", chunks=(100,)), "has 0 chunks of"),
        (dataset((10**6,), "f4", chunks=(100,), compression="gzip"), "has 0 chunks of 10000"),
        (dataset((2**20, 2**20), "f4", chunks=(2**10, 2**10)), "has 0 chunks of"),
        (dataset(data=h5py.Empty("f4")), "has no shape"),
        (dataset(data="text"), OTHER_VALUES),
        (dataset(data=["a", "b"]), OTHER_VALUES),
        (dataset(data=np.array([b"ab", b"c"])), OTHER_VALUES),
        (dataset((3,), h5py.vlen_dtype("f4")), OTHER_VALUES),
        (dataset((3,), h5py.ref_dtype), OTHER_VALUES),
        (dataset((3,), h5py.regionref_dtype), OTHER_VALUES),
        (dataset((3,), h5py.enum_dtype({"A": 0, "B": 1})), OTHER_VALUES),
        (dataset((3,), np.dtype([("a", "f4")])), OTHER_VALUES),
        (dataset((3,), np.dtype(("f4", (2,)))), OTHER_VALUES),
        (dataset(data=np.ones(3, "c8")), OTHER_VALUES),
        (dataset(data=np.ones(3, "g")), OTHER_VALUES),
        (dataset(data=np.ones(3, "V3")), OTHER_VALUES),
        (dataset(data=np.ones(9), fletcher32=True), "went through the filters [3]"),
        (dataset(data=np.ones(9), compression="gzip", fletcher32=True), "went through the filters [1, 3]"),
        (dataset(data=np.arange(9), scaleoffset=3), "went through the filters [6]"),
        (dataset(data=np.ones(9), compression="lzf"), "went through the filters [32000]"),
        (dataset(data=np.ones(9), chunks=(9,), compression=32001, allow_unknown_filter=True), "filters [32001]"),
    ],
)
def test_file_that_leads_elsewhere_or_holds_no_numbers_is_refused(tmp_path, make, words):
    with h5py.File(tmp_path / "file", "w") as file:
        make(file, tmp_path / "file")
    tracemalloc.start()
    message = refusal(tmp_path / "file")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert words in message
    assert peak < 2**23


@pytest.mark.parametrize("options", [{"libver": "latest"}, {"libver": "v110"}, {"track_order": True}])
def test_newer_layouts_are_refused_with_what_to_do(tmp_path, options):
    with h5py.File(tmp_path / "file", "w", **options) as file:
        file["a/x"] = np.ones(3, "f4")
    message = refusal(tmp_path / "file")
    assert "as h5py does by default, without libver or track_order" in message
    assert 'or have h5py read it, on Linux: pip install "trivit[cli]"' in message


def small_file(path):
    """A file with something of all that is read."""
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.arange(6, dtype="<f4").reshape(2, 3)
        marked = file.create_dataset("layers/dense/vars/1", data=np.ones(3, "V2"))
        marked.attrs["dtype"] = "bfloat16"
        file.create_dataset("gzip", data=np.arange(100.0), chunks=(40,), compression="gzip", shuffle=True)
        file.create_dataset("shuffled", data=np.zeros((9, 9), ">i4"), chunks=(4, 4), shuffle=True)
        file.attrs["layer_names"] = ["dense"]


LAYOUT_OF_X = struct.pack("<BB", 3, 1)  # version and class, before address and size


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"\x89HDF\r\n\x1a\n\0", b"\x89HDF\r\n\x1a\n\x01", "version 1 of HDF5's layout"),
        (b"\x89HDF\r\n\x1a\n\0", b"\x89HDF\r\n\x1a\n\x03", "version 3 of HDF5's layout"),
        (b"\0\x08\x08\0", b"\0\x04\x08\0", "version 0 of HDF5's layout"),
        (b"\xff" * 8, b"\xff" * 8, ""),
        (b"TREE\0\0", b"TREE\0\x01", "a damaged tree"),
        (b"TREE\0\0", b"TREE\x01\0", "a damaged tree"),
        (b"TREE\0\0", b"TREF\0\0", "a damaged tree"),
        (b"HEAP", b"HEAQ", "has no names"),
        (b"SNOD", b"SNOE", "has no links"),
        (b"SNOD\x01\0\x01\0", b"SNOD\x01\0\xff\xff", ""),
        (b"x\0\0\0\0\0\0\0", b"/\0\0\0\0\0\0\0", "the name b'/'"),
        (b"x\0\0\0\0\0\0\0", b".\0\0\0\0\0\0\0", "the name b'.'"),
        (b"x\0\0\0\0\0\0\0", b"\xff\0\0\0\0\0\0\0", r"the name b'\xff'"),
        (b"x\0\0\0\0\0\0\0", b"\0\0\0\0\0\0\0\0", "the name b''"),
        (LAYOUT_OF_X, struct.pack("<BBQ", 3, 1, 2**64 - 1), "takes 12 bytes, but has 12"),
        (LAYOUT_OF_X, struct.pack("<BBQ", 3, 1, 2**64 - 2), "truncated or corrupt"),
        (LAYOUT_OF_X, struct.pack("<BBQ", 3, 1, 2**62), "truncated or corrupt"),
        (LAYOUT_OF_X, struct.pack("<BBQQ", 3, 1, 2048, 11), "takes 12 bytes, but has 11"),
        (LAYOUT_OF_X, struct.pack("<BBQQ", 3, 1, 2048, 2**63), "takes 12 bytes, but has"),
        (LAYOUT_OF_X, b"\x03\x03", "stored in version 3 of the layouts"),
        (LAYOUT_OF_X, b"\x02\x01", "stored in version 2 of the layouts"),
        (LAYOUT_OF_X, b"\x04\x01", "stored in version 4 of the layouts"),
    ],
)
def test_description_that_lies_is_refused_with_what_is_wrong(tmp_path, old, new, words):
    with h5py.File(tmp_path / "file", "w") as file:
        file["x"] = np.ones(3, "f4")
    patched(tmp_path / "file", old, new)
    if words:
        assert words in refusal(tmp_path / "file")
    else:
        open_or_refuse(tmp_path / "file")


def test_names_that_are_there_twice_are_refused(tmp_path):
    with h5py.File(tmp_path / "file", "w") as file:
        for name in ("first", "other"):
            file[name] = np.ones(3, "f4")
    patched(tmp_path / "file", b"other\0", b"first\0")
    assert "its group '' holds 'first' twice" in refusal(tmp_path / "file")


def test_one_of_several_files_is_refused(tmp_path):
    with h5py.File(tmp_path / "file", "w") as file:
        file["x"] = np.ones(3, "f4")
    patched(
        tmp_path / "file", b"\xff" * 8, struct.pack("<Q", 2048), 1
    )  # the free space is the other address of nothing
    assert "it is one of several files" in refusal(tmp_path / "file")


@pytest.mark.parametrize("size", [2**64 - 1, 2**62])
def test_shape_that_no_array_has_is_refused(tmp_path, size):
    with h5py.File(tmp_path / "file", "w") as file:
        file["x"] = np.ones(333, "f4")
    patched(tmp_path / "file", struct.pack("<Q", 333), struct.pack("<Q", size))
    assert f"has the shape ({size},), which no array has" in refusal(tmp_path / "file")


@pytest.mark.parametrize("number", [0, 7])
def test_mark_that_is_not_where_it_should_be_is_none(tmp_path, number):
    with h5py.File(tmp_path / "file", "w") as file:
        file.create_dataset("x", data=np.zeros(3, "V2")).attrs["dtype"] = "bfloat16"
    content = (tmp_path / "file").read_bytes()
    text = content.index(b"bfloat16")
    patched(tmp_path / "file", content[text - 16 : text], struct.pack("<H", number))  # its number in the heap, from 1
    assert "'x' in it holds something else than numbers" in refusal(tmp_path / "file")
    (tmp_path / "file").write_bytes(content.replace(b"GCOL", b"GCOM"))
    assert "'x' in it holds something else than numbers" in refusal(tmp_path / "file")


@pytest.mark.parametrize("itemsize", [0, 2, 8])
def test_chunks_of_other_items_are_refused(tmp_path, itemsize):
    file, dataset = chunked(tmp_path / "file", shuffle=True)
    dataset[:] = 1
    file.close()
    before = (tmp_path / "file").read_bytes()
    patched(tmp_path / "file", struct.pack("<II", 40, 4), struct.pack("<II", 40, itemsize))
    assert f"has chunks of shape (40,) of {itemsize} bytes each" in refusal(tmp_path / "file")
    (tmp_path / "file").write_bytes(before)
    patched(tmp_path / "file", b"shuffle\0" + struct.pack("<I", 4), b"shuffle\0" + struct.pack("<I", itemsize))
    assert "shuffled in another way" in refusal(tmp_path / "file")


def test_datasets_that_share_bytes_are_refused(tmp_path):
    with h5py.File(tmp_path / "file", "w") as file:
        for name in "xy":
            file[name] = np.ones(100, "f4")
        first, second = (file[name].id.get_offset() for name in "xy")
    patched(tmp_path / "file", struct.pack("<QQ", second, 400), struct.pack("<Q", first + 200))
    assert "'y' in it shares bytes with another dataset" in refusal(tmp_path / "file")


def chunked(path, **options):
    """A file with one dataset of 100 numbers in chunks of 40, and the h5py dataset to write them with."""
    file = h5py.File(path, "w")
    return file, file.create_dataset("x", (100,), "f4", chunks=(40,), **options)


def good_chunks(dataset):
    for start in (0, 40, 80):
        dataset.id.write_direct_chunk((start,), zlib.compress(np.ones(40, "f4").tobytes()))


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (zlib.compress(bytes(161)), "does not decompress to 160 bytes"),
        (zlib.compress(bytes(159)), "does not decompress to 160 bytes"),
        (zlib.compress(bytes(2**24)), "does not decompress to 160 bytes"),
        (zlib.compress(bytes(range(160)))[:-5], "does not decompress to 160 bytes"),
        (b"something else", "Error -3"),
        (zlib.compress(bytes(160))[:-1] + b"x", "Error -3"),
    ],
)
def test_compressed_chunk_that_lies_is_refused_and_takes_no_memory(tmp_path, chunk, words):
    file, dataset = chunked(tmp_path / "file", compression="gzip")
    good_chunks(dataset)
    dataset.id.write_direct_chunk((40,), chunk)
    file.close()
    tracemalloc.start()
    message = late_refusal(tmp_path / "file", "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert words in message
    assert peak < 2**21


@pytest.mark.parametrize(("size", "options"), [(159, {}), (161, {}), (0, {"compression": "gzip"})])
def test_chunk_of_another_size_is_refused(tmp_path, size, options):
    file, dataset = chunked(tmp_path / "file", **options)
    dataset[:] = 1
    at = dataset.id.get_chunk_info(1)
    file.close()
    patched(tmp_path / "file", struct.pack("<IIQQ", at.size, 0, 40, 0), struct.pack("<I", size))
    assert f"a chunk of 'x' in it takes 160 bytes, but has {size}" in refusal(tmp_path / "file")


@pytest.mark.parametrize("origin", [0, 41, 400, 2**63])
def test_chunks_in_the_wrong_places_are_refused(tmp_path, origin):
    file, dataset = chunked(tmp_path / "file")
    dataset[:] = 1
    file.close()
    patched(tmp_path / "file", struct.pack("<IIQQ", 160, 0, 40, 0), struct.pack("<IIQ", 160, 0, origin))
    assert "chunks of 3" in refusal(tmp_path / "file")


def test_chunks_larger_than_the_file_can_hold_are_refused(tmp_path):
    file, dataset = chunked(tmp_path / "file", compression="gzip")
    dataset[:] = 1
    file.close()
    patched(tmp_path / "file", struct.pack("<II", 40, 4), struct.pack("<II", 2**31, 4))
    assert "'x' in it claims chunks of 8589934592 bytes" in refusal(tmp_path / "file")


def test_a_missing_chunk_is_refused(tmp_path):
    file, dataset = chunked(tmp_path / "file", compression="gzip")
    dataset[:50] = 1
    file.close()
    assert "'x' in it has 2 chunks of 3" in refusal(tmp_path / "file")


def test_the_bound_on_claims_is_a_hundred_times_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_structure, "HARMLESS_SIZE", 0)
    for count, is_accepted in ((2**15, True), (2**20, False)):
        with h5py.File(tmp_path / "file", "w") as file:
            file.create_dataset("x", data=np.zeros(count, "f8"), chunks=(2**13,), compression="gzip")
        assert (8 * count < 100 * (tmp_path / "file").stat().st_size) is is_accepted
        if is_accepted:
            assert not read_hdf5(tmp_path / "file")["x"].read().any()
        else:
            assert "claims to hold 8388608, more than 100 times" in refusal(tmp_path / "file")


def test_too_many_records_are_refused(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "file", "w") as file:
        for i in range(100):
            file[f"{i}"] = np.float32(i)
    assert len(read_hdf5(tmp_path / "file")) == 100
    monkeypatch.setattr(hdf5_structure, "LARGEST_COUNT", 1000)
    assert "more than 1000 records" in refusal(tmp_path / "file")


def test_a_tree_that_leads_back_to_itself_ends(tmp_path):
    with h5py.File(tmp_path / "file", "w") as file:
        for i in range(3000):
            file[f"{i:04}"] = np.float32(i)
    content = (tmp_path / "file").read_bytes()
    root = next(at for at in range(len(content)) if content[at : at + 5] == b"TREE\0" and content[at + 5] > 0)
    patched(tmp_path / "file", content[root + 32 : root + 40], struct.pack("<Q", root))
    assert "a damaged tree" in refusal(tmp_path / "file")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "file"
    small_file(path)
    return path.read_bytes()


def test_every_truncation_of_a_file_is_refused(tmp_path, small):
    for length in range(0, len(small), 37):
        (tmp_path / "part").write_bytes(small[:length])
        refusal(tmp_path / "part")


def open_or_refuse(path):
    """Whatever the file says, its tensors are as described or it is refused in one sentence."""
    message = ""
    try:
        for tensor in read_hdf5(path).values():
            assert tensor.read().shape == tensor.shape
    except ValueError as error:
        message = str(error)
    assert "\n" not in message


edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8)


@settings(property_test, max_examples=300)
@given(edits)
def test_changed_bytes_are_refused_or_harmless(tmp_path, small, changes):
    content = bytearray(small)
    written = [at for at, byte in enumerate(small) if byte]  # most bytes of the file are unused
    for position, byte in changes:
        content[written[int(position * len(written))]] = byte
    (tmp_path / "file").write_bytes(content)
    open_or_refuse(tmp_path / "file")
