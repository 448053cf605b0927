"""What models do with datasets of rows, as scripts for transformers 4 ask them to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf


class DatasetMethods:
    """A model that makes batches for `fit` from a dataset of rows."""

    call: Callable[..., Any]

    def prepare_tf_dataset(
        self,
        dataset: Any,
        batch_size: int = 8,
        shuffle: bool = True,
        tokenizer: Any = None,
        collate_fn: Callable[..., Mapping[str, Any]] | None = None,
        collate_fn_args: Mapping[str, Any] | None = None,
        drop_remainder: bool | None = None,
        prefetch: bool = True,
    ) -> tf.data.Dataset:
        """Batch a dataset of rows for `fit`, `evaluate` and `predict`.

        Columns that the model does not take are left out; "label" and "label_ids" are "labels" to it. Whole numbers
        become int64 and others float32. Rows are read when their batch is made, so that a transform of the dataset,
        such as augmentation, runs in each epoch.

        Args:
            dataset: a `datasets.Dataset`; a dict of arrays of one length; or a list or another sequence of dicts.
            batch_size: rows in a batch.
            shuffle: whether each epoch has an order of its own.
            tokenizer: accepted and left alone; images need no padding.
            collate_fn: makes a batch, a dict of arrays or tensors, of a list of rows; the `DefaultDataCollator` unless
                given.
            collate_fn_args: what else it is called with.
            drop_remainder: whether to leave out a last batch that is not full; as `shuffle` unless given.
            prefetch: whether to make the next batch while the model is busy.

        Returns:
            A `tf.data.Dataset` of inputs, or of (inputs, labels) if the model takes labels and there are some. Inputs
            are a tensor or, if there are several, a dict of them. TensorFlow does not tune its pipeline
            (`options().autotune`), in which nothing is to be tuned.

        Raises:
            TypeError: it is no such dataset.
            ValueError: the dataset is empty, too small for a batch, or has nothing that the model takes.
        """
        from vit_tf.row_batches import batches_of_rows

        return batches_of_rows(
            dataset,
            arguments=list(inspect.signature(self.call).parameters),
            batch_size=batch_size,
            shuffle=shuffle,
            collate=collate_fn,
            collate_options=dict(collate_fn_args or {}),
            drop_remainder=shuffle if drop_remainder is None else drop_remainder,
            prefetch=prefetch,
        )
