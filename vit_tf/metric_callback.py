"""Metrics that are plain functions of NumPy arrays, computed at the end of each epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree


class KerasMetricCallback(keras.callbacks.Callback):
    """Computes metrics at the end of each epoch, and puts them among the logs that Keras keeps and prints.

    Args:
        metric_fn: takes (predictions, labels), arrays of the whole dataset or, where there are several outputs or
            columns of labels, dicts of them; returns a dict of metrics by name.
        eval_dataset: batches, of inputs with labels among them or of (inputs, labels); or arrays of them all, for which
            a `batch_size` is needed.
        output_cols: names of the model's outputs that are predictions; all but the loss unless given.
        label_cols: names of the inputs that are labels; the dataset's labels unless given, or the input "labels".
        batch_size: rows in a batch of arrays.
        predict_with_generate: must be False; a Vision Transformer generates no text.
        use_xla_generation: accepted and left alone.
        generate_kwargs: accepted and left alone.

    Raises:
        ValueError: there are no labels, or no batch size for arrays, or text should be generated.
    """

    def __init__(
        self,
        metric_fn: Callable[[tuple[Any, Any]], Mapping[str, Any]],
        eval_dataset: Any,
        output_cols: Sequence[str] | None = None,
        label_cols: Sequence[str] | None = None,
        batch_size: int | None = None,
        predict_with_generate: bool = False,
        use_xla_generation: bool = False,
        generate_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if predict_with_generate:
            raise ValueError("predict_with_generate=True asks for text, which a Vision Transformer does not generate.")
        self.metric_fn = metric_fn
        self.eval_dataset = (
            eval_dataset if isinstance(eval_dataset, tf.data.Dataset) else _batched(eval_dataset, batch_size)
        )
        self.output_cols = None if output_cols is None else list(output_cols)
        self.label_cols = self._label_columns(label_cols)

    def _label_columns(self, label_cols: Sequence[str] | None) -> list[str] | None:
        """Which inputs are labels; None if they come beside the inputs."""
        x, y, _ = keras.utils.unpack_x_y_sample_weight(self.eval_dataset.element_spec)
        inputs = list(x) if isinstance(x, Mapping) else []
        if label_cols is None and y is not None:
            return None
        wanted = ["labels"] if label_cols is None else list(label_cols)
        if missing := [name for name in wanted if name not in inputs]:
            raise ValueError(
                f"eval_dataset has no {missing[0]!r} among its inputs ({', '.join(inputs) or 'which have no names'})"
                + (" and no labels beside them; " if y is None else "; ")
                + "use batches of (inputs, labels), or name the inputs that are labels in label_cols."
            )
        return wanted

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Predict the whole dataset, and add the metrics to the logs.

        Raises:
            TypeError: the function returned no dict.
            ValueError: the model has no output of a name in `output_cols`.
        """
        predictions, labels = [], []
        for batch in self.eval_dataset:
            x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
            predictions.append(self._predictions(self._output(x)))
            labels.append(y if self.label_cols is None else {name: x[name] for name in self.label_cols})
        metrics = self.metric_fn((_joined(predictions), _joined(labels)))
        if not isinstance(metrics, Mapping):
            raise TypeError(
                f"metric_fn returned a {type(metrics).__name__}; it must return a dict, such as {{'accuracy': 0.9}}."
            )
        if logs is not None:
            logs.update(metrics)

    def _output(self, x: Any) -> Any:
        strategy = getattr(self.model, "distribute_strategy", None)
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            # Of a batch alone, Keras would give each replica all and return it as often.
            return self.model.predict(x, batch_size=len(tree.flatten(x)[0]), verbose=0)
        return self.model.predict_on_batch(x)

    def _predictions(self, output: Any) -> Any:
        if not isinstance(output, Mapping):
            return output
        ignored = ("loss", *getattr(getattr(self.model, "config", None), "keys_to_ignore_at_inference", ()))
        names = [name for name in output if name not in ignored] if self.output_cols is None else self.output_cols
        if missing := [name for name in names if name not in output]:
            raise ValueError(f"output_cols names {missing[0]!r}, and the model returns {', '.join(output)}.")
        return {name: output[name] for name in names}


def _batched(arrays: Any, batch_size: int | None) -> tf.data.Dataset:
    if batch_size is None:
        raise ValueError("eval_dataset is no tf.data.Dataset of batches; pass a batch_size to make some.")
    whole = dict(arrays) if isinstance(arrays, Mapping) else arrays  # TensorFlow knows no subclasses of dict
    return tf.data.Dataset.from_tensor_slices(whole).batch(batch_size)


def _joined(batches: list[Any]) -> Any:
    """Batches as one; and where each is a collection of one thing, the thing."""
    whole = tree.map_structure(lambda *arrays: np.concatenate([np.asarray(array) for array in arrays]), *batches)
    if isinstance(whole, Mapping | list | tuple) and len(whole) == 1:
        return next(iter(whole.values() if isinstance(whole, Mapping) else whole))
    return whole
