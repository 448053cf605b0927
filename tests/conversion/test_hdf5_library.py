from pathlib import Path

import h5py
import numpy as np
import pytest

import conversion
from conversion.containers import hdf5_library
from conversion.containers.hdf5_file import read_hdf5
from conversion.containers.weights_file import described_in

pytestmark = pytest.mark.skipif(not hdf5_library.is_there(), reason="limits of processes are Linux's")


@pytest.mark.parametrize("options", [{"libver": "latest"}, {"track_order": True}])
def test_files_in_newer_layouts_are_read_as_h5py_reads_them(tmp_path: Path, options: dict) -> None:
    random = np.random.default_rng(0)
    values = {f"layers/dense_{i}/kernel": random.normal(size=(3, 4)).astype("f4") for i in range(20)}  # a dense group
    values |= {
        "big": np.arange(6, dtype=">f8"),
        "one": np.float32(3),
        "none": np.zeros((0, 3), "i4"),
        "is": np.ones(2, "?"),
    }
    filters = {"compression": "lzf"}, {"fletcher32": True}, {"scaleoffset": 0}, {"compression": "gzip", "shuffle": True}
    with h5py.File(tmp_path / "file", "w", **options) as file:
        for name, array in values.items():
            file[name] = array
        for number, each in enumerate(filters):
            values[f"filtered/{number}"] = np.arange(1000) // 7
            file.create_dataset(f"filtered/{number}", data=values[f"filtered/{number}"], chunks=(300,), **each)
        file.create_dataset("marked", data=np.array([0x3F80, 0xC000], "<u2").view("V2")).attrs["dtype"] = "bfloat16"
    tensors = read_hdf5(tmp_path / "file")
    assert sorted(tensors) == sorted([*values, "marked"])
    for name, array in values.items():
        np.testing.assert_array_equal(tensors[name].read(), array)
    np.testing.assert_array_equal(tensors["marked"].numpy(), [1.0, -2.0])


def test_a_published_model_opens_in_the_latest_layout(fixture_folder: Path, tmp_path: Path) -> None:
    source = fixture_folder / "hf_vit_classifier/tf_model.h5"
    with h5py.File(source) as old, h5py.File(tmp_path / "tf_model.h5", "w", libver="latest") as new:
        for name in old:
            old.copy(name, new)
    (tmp_path / "config.json").write_bytes((source.parent / "config.json").read_bytes())
    tensors, expected = conversion.load(tmp_path).tensors, conversion.load(source).tensors
    assert tensors.keys() == expected.keys()
    assert all(np.array_equal(tensors[name].read(), expected[name].read()) for name in expected)
    assert described_in(tmp_path / "tf_model.h5") == {}
