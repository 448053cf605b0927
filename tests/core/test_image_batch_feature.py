import copy
import pickle
import subprocess
import sys
from enum import Enum

import numpy as np
import pytest

from vit_core import ViTImageProcessor
from vit_core.batch_feature import BatchFeature


def test_items_are_attributes():
    batch = BatchFeature({"pixel_values": 3})
    assert batch.pixel_values == batch["pixel_values"] == batch.data["pixel_values"] == 3
    assert dict(**batch) == {"pixel_values": 3}
    with pytest.raises(AttributeError, match="no labels; it has pixel_values"):
        _ = batch.labels


def test_a_batch_survives_copying_and_pickling():
    batch = BatchFeature({"pixel_values": [1, 2]})
    for again in (copy.copy(batch), copy.deepcopy(batch), pickle.loads(pickle.dumps(batch))):
        assert isinstance(again, BatchFeature)
        assert again == batch


def test_lists_become_one_array():
    batch = BatchFeature({"pixel_values": [np.zeros((3, 2)), np.ones((3, 2))]}).convert_to_tensors("np")
    assert batch.pixel_values.shape == (2, 3, 2)
    assert BatchFeature({"labels": [1, 2]}, tensor_type="np").labels.tolist() == [1, 2]


def test_an_array_is_not_copied():
    array = np.zeros((2, 3))
    assert BatchFeature({"pixel_values": array}, tensor_type="np").pixel_values is array


def test_different_shapes_are_no_tensor():
    with pytest.raises(ValueError, match=r"pixel_values cannot be one tensor: images\[0\] .*\(2,\) and images\[1\]"):
        BatchFeature({"pixel_values": [np.zeros(2), np.zeros(3)]}, tensor_type="np")


def test_an_unknown_tensor_type_is_named():
    with pytest.raises(ValueError, match="return_tensors is 'mx'; it must be"):
        BatchFeature({}, tensor_type="mx")


@pytest.mark.parametrize(
    ("kind", "module", "package"), [("pt", "torch", "torch"), ("tf", "tensorflow", "tensorflow"), ("jax", "jax", "jax")]
)
def test_a_missing_framework_says_what_to_install(monkeypatch, kind, module, package):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f'return_tensors="{kind}" needs {package}.*pip install {package}'):
        BatchFeature({"pixel_values": np.zeros(3)}, tensor_type=kind)


def test_what_is_no_tensor_of_torch_stays_where_it_is():
    batch = BatchFeature({"pixel_values": np.zeros(3), "labels": [1], "file": "cat.png", "nothing": None})
    before = dict(batch)
    assert batch.to("cpu") is batch
    assert batch == before


@pytest.mark.parametrize("target", [None, 3.5, np.zeros(3)])
def test_what_is_neither_device_nor_dtype_is_named(target):
    with pytest.raises(ValueError, match="a batch cannot be moved to .*; give a device or a dtype"):
        BatchFeature({"labels": [1]}).to(target)


@pytest.mark.parametrize("index", [0, slice(0, 1), (0, 1), None])
def test_items_have_names_and_no_numbers(index):
    with pytest.raises(KeyError, match="is no name of an item; this batch has pixel_values, labels"):
        BatchFeature({"pixel_values": 1, "labels": 2})[index]


def test_assigning_to_an_item_s_attribute_replaces_the_item():
    batch = BatchFeature({"pixel_values": 1})
    batch.pixel_values = 2
    assert batch["pixel_values"] == 2
    batch.note = "not for the model"
    assert batch.note == "not for the model"
    assert dict(batch) == {"pixel_values": 2}


def test_all_items_are_replaced_at_once():
    batch = BatchFeature({"pixel_values": 1})
    batch.data["labels"] = 2
    assert dict(batch) == {"pixel_values": 1, "labels": 2}
    batch.data = {name: value + 1 for name, value in batch.data.items()}
    assert (batch.pixel_values, batch["labels"]) == (2, 3)
    batch.data = {"labels": 4}
    assert dict(batch) == {"labels": 4}


def test_copies_and_unions_are_batches():
    batch = BatchFeature({"pixel_values": 1})
    copied = batch.copy()
    copied["labels"] = 2
    assert dict(batch) == {"pixel_values": 1}
    assert type(copied) is type(batch | {"labels": 2}) is BatchFeature
    assert copied == batch | {"labels": 2} == {"pixel_values": 1, "labels": 2}


def test_numbers_become_tensors_and_the_rest_stays():
    batch = BatchFeature({"labels": 3, "weight": 0.5, "flags": (True, False), "empty": [], "file": "cat.png"}, "np")
    assert batch.labels.shape == batch.weight.shape == ()
    assert batch.flags.dtype == bool
    assert batch.empty.shape == (0,)
    assert batch.file == "cat.png"
    assert BatchFeature([("labels", [[1, 2], [3, 4]])], "np").labels.shape == (2, 2)


def test_what_cannot_become_a_tensor_is_named():
    with pytest.raises(
        ValueError, match=r"labels cannot become one tensor \(.*\); pass return_tensors=None to keep it"
    ):
        BatchFeature({"labels": [[1, 2], [3]]}, "np")


def test_transformers_enums_are_strings_too():
    """`from transformers import TensorType`, and ChannelDimension likewise, whose hash is not that of a string."""
    tensor_type = Enum("TensorType", {"NUMPY": "np"}, type=str)
    dimension = Enum("ChannelDimension", {"LAST": "channels_last"}, type=str)
    assert isinstance(BatchFeature({"labels": [1]}, tensor_type.NUMPY).labels, np.ndarray)
    options = {"return_tensors": tensor_type.NUMPY, "data_format": dimension.LAST, "input_data_format": dimension.LAST}
    assert ViTImageProcessor(size=4)(np.zeros((5, 5, 3), "uint8"), **options).pixel_values.shape == (1, 4, 4, 3)


def test_no_framework_is_loaded():
    code = (
        "import sys, numpy as np; from vit_core import ViTImageProcessor\n"
        "ViTImageProcessor(size=4)(np.zeros((4, 4, 3), 'uint8'), return_tensors='np')\n"
        "print({'torch', 'tensorflow', 'jax', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
