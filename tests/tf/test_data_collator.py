"""The default data collator, in every framework that it knows; dtypes are those of transformers 4.47.1."""

import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf

from vit_tf import DefaultDataCollator, default_data_collator

#: Rows, and the dtypes of the batch in NumPy, TensorFlow and PyTorch.
DTYPES = [
    ({"label": 1}, {"labels": ("int64", "int64", "int64")}),
    ({"label": 0.5}, {"labels": ("float32", "float32", "float32")}),
    ({"label": True}, {"labels": ("int64", "int64", "int64")}),
    ({"label": np.int64(3)}, {"labels": ("int64", "int64", "int64")}),  # 4.47.1 makes floats of it
    ({"label_ids": [1.0, 0.0]}, {"labels": ("float32", "float32", "float32")}),
    ({"label_ids": [1, 0]}, {"labels": ("int64", "int64", "int64")}),
    ({"label_ids": np.zeros(2, "int32")}, {"labels": ("int32", "int64", "int32")}),
    ({"labels": 1}, {"labels": ("int64", "int64", "int64")}),
    ({"labels": np.zeros(2, "int32")}, {"labels": ("int32", "int64", "int32")}),
    ({"a": 1.5}, {"a": ("float64", "float32", "float32")}),
    ({"a": [1, 2]}, {"a": ("int64", "int32", "int64")}),
    ({"a": True}, {"a": ("bool", "bool", "bool")}),
    ({"a": np.float64(1.5)}, {"a": ("float64", "float64", "float64")}),
    ({"a": np.zeros((2, 3), "float32")}, {"a": ("float32", "float32", "float32")}),
]


def dtype_name(tensor):
    return getattr(tensor.dtype, "name", str(tensor.dtype)).removeprefix("torch.")


@pytest.mark.parametrize(("row", "dtypes"), DTYPES)
@pytest.mark.parametrize("framework", ["np", "tf", "pt"])
def test_dtypes_are_those_of_the_framework(row, dtypes, framework):
    if framework == "pt":
        pytest.importorskip("torch")
    batch = DefaultDataCollator(return_tensors=framework)([row, row])
    position = ("np", "tf", "pt").index(framework)
    assert {name: dtype_name(tensor) for name, tensor in batch.items()} == {k: v[position] for k, v in dtypes.items()}
    for name, tensor in batch.items():
        values = np.stack([np.asarray(next(iter(row.values())))] * 2)
        np.testing.assert_array_equal(np.asarray(tensor), values.astype(np.asarray(tensor).dtype), err_msg=name)


def test_rows_may_be_tensors_or_objects_and_strings_are_left_out():
    @dataclass
    class Row:
        pixel_values: object
        label: int
        file: str = "a.png"
        nothing: object = None

    batch = default_data_collator([Row(tf.ones((2, 2)) * i, i) for i in range(3)], return_tensors="tf")
    assert set(batch) == {"labels", "pixel_values"}
    assert isinstance(batch["pixel_values"], tf.Tensor)
    np.testing.assert_array_equal(batch["labels"], [0, 1, 2])
    np.testing.assert_array_equal(batch["pixel_values"][2], [[2, 2], [2, 2]])


def test_the_call_may_name_another_framework():
    rows = [{"pixel_values": np.zeros(2, "float32")}]
    collator = DefaultDataCollator(return_tensors="tf")
    assert isinstance(collator(rows)["pixel_values"], tf.Tensor)
    assert isinstance(collator(rows, return_tensors="np")["pixel_values"], np.ndarray)
    assert DefaultDataCollator().return_tensors == "pt"


def test_rows_that_make_no_batch_are_refused():
    rows = [{"pixel_values": np.zeros((3, 4, 4))}, {"pixel_values": np.zeros((3, 4, 5))}]
    with pytest.raises(ValueError, match=r"shape \(3, 4, 4\) in rows\[0\] and \(3, 4, 5\) in rows\[1\]"):
        default_data_collator(rows, "np")
    with pytest.raises(ValueError, match=r"rows\[0\] has label and rows\[1\] has not"):
        default_data_collator([{"label": 1}, {"label": None}], "np")
    with pytest.raises(ValueError, match="there are no rows"):
        default_data_collator([], "np")
    with pytest.raises(ValueError, match="return_tensors is 'jax'"):
        default_data_collator(rows, "jax")


def test_torch_is_imported_only_for_torch_tensors():
    code = (
        "import sys\n"
        "from vit_tf import default_data_collator as collate\n"
        "assert 'torch' not in sys.modules; sys.modules['torch'] = None\n"
        "rows = [{'label': 1}]\n"
        "print(int(collate(rows, 'tf')['labels'][0]), int(collate(rows, 'np')['labels'][0]))\n"
        "try: collate(rows)\n"
        "except ImportError as error: print(error)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert result.stdout.splitlines()[0] == "1 1", result.stderr
    assert 'return_tensors="pt" needs torch, which is not installed' in result.stdout
