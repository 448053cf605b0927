"""The part of the package `datasets` that the scripts call, for folders of pictures; its names and its behaviour."""

from __future__ import annotations

import random
from glob import glob
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image


class Dataset:
    """Columns of Python values, of which rows are read by number, slice or list."""

    def __init__(self, columns, names, kind=None, only=None, transform=None):
        self._columns, self._names = columns, names
        self._kind, self._only, self._transform = kind, only, transform

    column_names = property(lambda self: list(self._columns))
    format = property(lambda self: {"type": self._kind})
    features = property(
        lambda self: {
            name: SimpleNamespace(names=self._names) if name in ("label", "labels") else SimpleNamespace()
            for name in self._columns
        }
    )

    def __len__(self):
        return len(next(iter(self._columns.values())))

    def __getitem__(self, key):
        if isinstance(key, str):
            return self._columns[key]
        indices = list(range(len(self)))[key] if isinstance(key, slice) else [key] if isinstance(key, int) else key
        found = {name: [column[i] for i in indices] for name, column in self._columns.items()}
        if self._transform:
            found = self._transform(found)
        elif self._kind == "numpy":
            found = {name: np.array(found[name]) for name in self._only or found}
        return {name: values[0] for name, values in found.items()} if isinstance(key, int) else found

    def with_format(self, kind, columns=None):
        return Dataset(self._columns, self._names, kind, columns)

    def set_transform(self, transform):
        self._kind, self._transform = "custom", transform

    def rename_column(self, old, new):
        columns = {new if name == old else name: column for name, column in self._columns.items()}
        return Dataset(columns, self._names)

    def select(self, indices):
        return Dataset({name: [column[i] for i in indices] for name, column in self._columns.items()}, self._names)

    def shuffle(self, seed):
        return self.select(random.Random(seed).sample(range(len(self)), len(self)))

    def train_test_split(self, test_size, seed=0):
        mixed, number = self.shuffle(seed), round(len(self) * test_size)
        return {"train": mixed.select(range(number, len(self))), "test": mixed.select(range(number))}

    def map(self, function, batched=False, remove_columns=()):
        assert batched
        columns = {**self._columns, **function(dict(self._columns))}
        return Dataset({name: column for name, column in columns.items() if name not in remove_columns}, self._names)

    def to_tf_dataset(self, columns, label_cols, batch_size, collate_fn, shuffle=False):
        import tensorflow as tf

        def batch(indices):
            rows = self[indices.tolist()]
            found = collate_fn([dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)])
            return np.float32(found[columns]), np.int64(found["labels"])

        def fetch(indices):
            images, labels = tf.numpy_function(batch, [indices], [tf.float32, tf.int64])
            shape = np.shape(self[0][columns])
            return tf.ensure_shape(images, (None, *shape)), tf.ensure_shape(labels, (None,))

        assert label_cols in ("label", "labels")
        order = tf.data.Dataset.range(len(self))
        return (order.shuffle(len(self)) if shuffle else order).batch(batch_size).map(fetch)


def load_dataset(path, data_files, cache_dir=None):
    """Load a folder with a folder of pictures for each class."""
    assert path == "imagefolder"
    splits = {}
    for split, pattern in data_files.items():
        files = sorted(file for file in glob(pattern, recursive=True) if Path(file).is_file())
        names = sorted({Path(file).parent.name for file in files})
        columns = {
            "image": [PIL.Image.open(file) for file in files],
            "label": [names.index(Path(file).parent.name) for file in files],
        }
        splits[split] = Dataset(columns, names)
    return splits
