"""From a dataset of rows, of the package `datasets` or of plain Python, to batches in TensorFlow's pipeline."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from vit_tf.data_collator import LABELS, default_data_collator

#: How many rows are collated in advance, to learn the shapes of a batch.
PROBES = 5
#: Kinds of numbers, as NumPy has them, and what they are in a batch.
DTYPES = {"b": "int64", "i": "int64", "u": "int64", "f": "float32"}

Row = Mapping[str, Any]


class Rows:
    """A sequence of rows, each a dict."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.names: Collection[str] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Some rows, with the columns that were selected; all unless some were."""
        rows = self._read(indices)
        return rows if self.names is None else [{k: v for k, v in row.items() if k in self.names} for row in rows]

    def select(self, names: Collection[str]) -> None:
        """Read only these columns from now on."""
        self.names = names

    def _read(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        rows = [self.rows[index] for index in indices]
        for index, row in zip(indices, rows, strict=True):
            if not isinstance(row, Mapping):
                raise TypeError(
                    f"rows[{index}] is a {type(row).__name__}; each row must be a dict, such as "
                    '{"pixel_values": ..., "labels": ...}.'
                )
        return [dict(row) for row in rows]


class ColumnRows(Rows):
    """Columns of one length, each an array or what makes one."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.columns = {name: np.asarray(column) for name, column in columns.items()}
        lengths = {name: len(column) if column.ndim else None for name, column in self.columns.items()}
        if len(set(lengths.values())) != 1 or None in lengths.values():
            raise ValueError(f"the columns must have one length, and they have {lengths}.")
        super().__init__(range(next(iter(lengths.values()))))  # type: ignore[arg-type]

    def _read(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        return _rows({name: column[list(indices)] for name, column in self.columns.items()})


class TableRows(Rows):
    """A `datasets.Dataset`, which reads from files, and may transform what it reads."""

    def __init__(self, table: Any) -> None:
        super().__init__(table)
        self.is_transformed = table.format["type"] == "custom"
        if not self.is_transformed:
            self.rows = table.with_format("numpy")

    def select(self, names: Collection[str]) -> None:
        """Read only these columns from now on; a transform goes on seeing them all."""
        super().select(names)
        if not self.is_transformed:
            self.rows = self.rows.with_format("numpy", columns=list(names))  # type: ignore[attr-defined]

    def _read(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        in_order = list(indices) == list(range(indices[0], indices[0] + len(indices)))
        # A table is much faster at slices.
        key = slice(int(indices[0]), int(indices[0]) + len(indices)) if in_order else [int(i) for i in indices]
        return _rows(self.rows[key])  # type: ignore[arg-type, index]


def batches_of_rows(
    dataset: Any,
    arguments: Sequence[str],
    batch_size: int,
    shuffle: bool,
    collate: Callable[..., Mapping[str, Any]] | None,
    collate_options: Mapping[str, Any],
    drop_remainder: bool,
    prefetch: bool,
) -> tf.data.Dataset:
    """Batch rows for a model; see `DatasetMethods.prepare_tf_dataset`.

    Args:
        dataset: the rows.
        arguments: names of what the model is called with.
        batch_size: rows in a batch.
        shuffle: whether each epoch has an order of its own.
        collate: makes a batch of a list of rows; the default collator unless given.
        collate_options: what else it is called with.
        drop_remainder: whether to leave out a last batch that is not full.
        prefetch: whether to make the next batch while the model is busy.

    Returns:
        A dataset of inputs, or of (inputs, labels).

    Raises:
        TypeError: it is no such dataset.
        ValueError: the dataset is empty, too small for a batch, or has nothing that the model takes.
    """
    rows = _open(dataset)
    count = len(rows)
    if count == 0:
        raise ValueError("the dataset is empty; there is nothing to make batches of.")
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}; it must be a whole number of rows, 1 or more.")
    if drop_remainder and count < batch_size:
        raise ValueError(
            f"the dataset has {count} rows and batch_size is {batch_size}, so that no batch is full and, with "
            f"drop_remainder, none is left; pass a smaller batch_size or drop_remainder=False."
        )
    columns = list(rows.read([0])[0])
    taken = [name for name in columns if name in arguments or name in LABELS]
    if set(taken) - set(LABELS):
        rows.select(taken)
    elif collate is None:  # a function of the script's own may make the inputs of other columns
        raise ValueError(_nothing_to_take(columns, arguments))

    def batch(indices: Sequence[int]) -> Mapping[str, Any]:
        if collate is None:
            return default_data_collator(rows.read(indices), return_tensors="np")
        return collate(rows.read(indices), **collate_options)

    probes = [batch([int(index)]) for index in np.linspace(0, count - 1, min(count, PROBES))]
    labels = [name for name in probes[0] if name in arguments and "label" in name]
    inputs = [name for name in probes[0] if name in arguments and name not in labels]
    if not inputs:
        text = [name for name in taken if name not in LABELS]  # which the default collator leaves out
        raise ValueError(f"{text[0]} is text, which no model takes." if text else _nothing_to_take(columns, arguments))
    specs = {
        name: _spec(name, [np.asarray(probe[name]) for probe in probes], int(batch_size) if drop_remainder else None)
        for name in (*inputs, *labels)
    }

    def arrays(indices: np.ndarray) -> list[np.ndarray]:
        found = batch(indices.tolist())
        return [np.asarray(found[name]).astype(spec.dtype.as_numpy_dtype) for name, spec in specs.items()]

    def tensors(indices: tf.Tensor) -> Any:
        found = tf.numpy_function(arrays, [indices], [spec.dtype for spec in specs.values()])
        shaped = {
            name: tf.ensure_shape(tensor, spec.shape) for (name, spec), tensor in zip(specs.items(), found, strict=True)
        }
        x = _one_or_all({name: shaped[name] for name in inputs})
        return (x, _one_or_all({name: shaped[name] for name in labels})) if labels else x

    batches = tf.data.Dataset.range(count)
    if shuffle:
        batches = batches.shuffle(count)
    batches = batches.batch(int(batch_size), drop_remainder=drop_remainder).map(tensors)
    return (batches.prefetch(tf.data.AUTOTUNE) if prefetch else batches).with_options(_untuned())


def _untuned() -> tf.data.Options:
    """Options without the thread that tunes pipelines, which has nothing to tune here.

    When an epoch ends, TensorFlow 2.21 may wait until that thread wakes up, which is after as long as the epoch took.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def _open(dataset: Any) -> Rows:
    if isinstance(dataset, tf.data.Dataset):
        raise TypeError("dataset is a tf.data.Dataset already; pass it to fit, with .batch(...) if it has no batches.")
    if isinstance(dataset, Mapping):
        if splits := [name for name, part in dataset.items() if hasattr(part, "column_names")]:
            raise TypeError(f"dataset has the splits {', '.join(splits)}; pass one, such as dataset[{splits[0]!r}].")
        if dataset:
            return ColumnRows(dataset)
    elif hasattr(dataset, "with_format") and hasattr(dataset, "column_names") and hasattr(dataset, "__len__"):
        return TableRows(dataset)
    elif hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") and not isinstance(dataset, str | bytes):
        return Rows(dataset)
    raise TypeError(
        f"dataset is {'empty' if isinstance(dataset, Mapping) else f'of type {type(dataset).__name__}'}; pass a "
        "datasets.Dataset, a dict of arrays or a sequence of dicts, all of which have a length. What can only be "
        "iterated over becomes batches with tf.data.Dataset.from_generator."
    )


def _rows(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Columns as rows; NumPy's scalars become Python's, of which every collate function knows the kind."""
    names, values = list(columns), zip(*columns.values(), strict=True)
    return [
        {name: v.item() if isinstance(v, np.generic) else v for name, v in zip(names, row, strict=True)}
        for row in values
    ]


def _spec(name: str, probes: list[np.ndarray], batch_size: int | None) -> tf.TensorSpec:
    """The shape and dtype of a batch; axes in which rows differ are None."""
    kind = probes[0].dtype.kind
    if kind not in DTYPES:
        raise ValueError(f"{name} becomes an array of {probes[0].dtype}, which is no input of a model.")
    if len({probe.ndim for probe in probes}) > 1 or probes[0].ndim == 0:
        raise ValueError(
            f"batches of {name} have shapes {[probe.shape for probe in probes]}, the first axis of which is no batch."
        )
    sizes = zip(*(probe.shape[1:] for probe in probes), strict=True)
    return tf.TensorSpec((batch_size, *(each[0] if len(set(each)) == 1 else None for each in sizes)), DTYPES[kind])


def _one_or_all(tensors: dict[str, tf.Tensor]) -> Any:
    return next(iter(tensors.values())) if len(tensors) == 1 else tensors


def _nothing_to_take(columns: Sequence[str], arguments: Sequence[str]) -> str:
    return (
        f"the dataset has {', '.join(columns) or 'no columns'} and nothing that the model is called with, such as "
        f"{arguments[0]}; let an image processor make it, for example in dataset.with_transform(...)."
    )
