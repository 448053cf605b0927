"""What `fit`, `evaluate` and `predict` need to know about models that return more than one thing."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import GeneratorType
from typing import Any, ClassVar

import keras
import tensorflow as tf

from vit_core.outputs import ModelOutput
from vit_tf.batch_labels import of_logits, with_labels_apart, with_labels_as_targets
from vit_tf.losses import mean_loss
from vit_tf.ours import is_ours
from vit_tf.step_graphs import StepGraphs

#: Names of the model's own loss in scripts for transformers.
OWN_LOSS = ("passthrough", "auto_with_warning")

#: The factors for the images of the batch that a step is at, until a loss has been weighted by them.
_weights: ContextVar[Any] = ContextVar("_weights", default=None)


class FittingModel(StepGraphs):
    """A Keras model that compares its main output with the targets, and has a loss of its own.

    Keras' hooks do it: `train_step`, `test_step` and `predict_step` see each batch, `compute_loss` and
    `compute_metrics` each output.
    """

    output_class: ClassVar[type[ModelOutput] | None] = None
    _keeps_metrics = False
    main_input_name: str
    main_output_name: str = "logits"
    main_output_shape: tuple[int | None, ...] | None = None  # a subclass need not know

    def main_output(self, y_pred: Any) -> Any:
        """What is compared with the targets, of an output in either form."""
        if isinstance(y_pred, Mapping) and self.main_output_name in y_pred:
            return y_pred[self.main_output_name]
        if isinstance(y_pred, list | tuple) and self.main_output_shape is None and self._makes_a_loss_in_call():
            items = y_pred[1:] if self._loss_of_call(y_pred) is not None else y_pred
            return items[0] if len(items) == 1 else items
        if not isinstance(y_pred, list | tuple) or self.main_output_shape is None:
            return y_pred  # of a subclass that returns something of its own
        # Of a tuple, the first with as many axes: neither the loss nor the hidden state that the pooler sums up.
        return next(item for item in y_pred if len(item.shape) == len(self.main_output_shape))

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool | None = False,
        steps_per_execution: int | None = 1,
        jit_compile: str | bool | None = "auto",
        **kwargs: Any,
    ) -> None:
        """See `keras.Model.compile`; the order of the arguments is that of scripts for transformers.

        `loss="passthrough"` or `model.hf_compute_loss` is the model's own, as none is: the `loss` of the output where a
        subclass makes one in its `call`, or else what `hf_compute_loss` says.
        """
        self.forget_traced_weights()
        loss, metrics = of_logits(loss), of_logits(metrics)
        is_own = loss == getattr(self, "hf_compute_loss", ()) or (isinstance(loss, str) and loss in OWN_LOSS)
        super().compile(
            optimizer,
            None if is_own else loss,
            loss_weights,
            [metrics] if isinstance(metrics, str) or callable(metrics) else metrics,
            weighted_metrics,
            bool(run_eagerly),
            steps_per_execution or 1,
            "auto" if jit_compile is None else jit_compile,
            **kwargs,
        )

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as `get_compile_config` says; Keras leaves that to whoever overrides `compile`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def own_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Any:
        """The loss when `compile` names none.

        Raises:
            ValueError: the model has none, or the batch lacks what it takes.
        """
        raise ValueError(f"{type(self).__name__} has no loss of its own; name one in compile(loss=...).")

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """See `keras.Model.fit`; labels may also come in the dict of inputs, or as targets {"labels": ...}."""
        if isinstance(x, tf.data.Dataset | GeneratorType) and len(args) < 7:  # of which `shuffle` is the last
            kwargs.setdefault("shuffle", False)  # they shuffle themselves; Keras would warn that it does not
        if isinstance(x, tf.data.Dataset) and kwargs.get("class_weight") is not None:  # of targets alone, for Keras
            x = x.map(lambda *batch: with_labels_as_targets(batch if len(batch) > 1 else batch[0]))
        return super().fit(*with_labels_apart(x, y), *args, **_without_workers(kwargs))

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """See `keras.Model.evaluate`; labels may also come in the dict of inputs."""
        return super().evaluate(*with_labels_apart(x, y), *args, **_without_workers(kwargs))

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """See `keras.Model.predict`; returns an output of arrays."""
        return self._as_output(super().predict(with_labels_apart(x, None)[0], *args, **_without_workers(kwargs)))

    def predict_on_batch(self, x: Any) -> Any:
        """See `keras.Model.predict_on_batch`; returns an output of arrays."""
        return self._as_output(super().predict_on_batch(with_labels_apart(x, None)[0]))

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        reset_metrics: bool = True,
        return_dict: bool = False,
    ) -> Any:
        """See `keras.Model.train_on_batch`; results are of this batch alone, unless `reset_metrics` is False."""
        with self._keeping_metrics(not reset_metrics):
            return super().train_on_batch(*with_labels_apart(x, y), sample_weight, class_weight, return_dict)

    def test_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        reset_metrics: bool = True,
        return_dict: bool = False,
    ) -> Any:
        """See `keras.Model.test_on_batch`; results are of this batch alone, unless `reset_metrics` is False."""
        with self._keeping_metrics(not reset_metrics):
            return super().test_on_batch(*with_labels_apart(x, y), sample_weight, return_dict)

    @contextmanager
    def _keeping_metrics(self, is_kept: bool) -> Iterator[None]:
        """See that the metrics start anew, or go on; whether Keras does the one or the other depends on its version."""
        if not is_kept:
            self.reset_metrics()
        self._keeps_metrics = is_kept
        try:
            yield
        finally:
            self._keeps_metrics = False

    def reset_metrics(self) -> None:
        """See `keras.Model.reset_metrics`."""
        if not self._keeps_metrics:
            super().reset_metrics()

    def train_step(self, data: Any) -> Any:
        """See `keras.Model.train_step`; labels may also come in the dict of inputs."""
        batch = self._with_labels_for_call(with_labels_as_targets(data))
        with _weighted_by(batch):
            return super().train_step(batch)

    def test_step(self, data: Any) -> Any:
        """See `keras.Model.test_step`; labels may also come in the dict of inputs."""
        batch = self._with_labels_for_call(with_labels_as_targets(data))
        with _weighted_by(batch):
            return super().test_step(batch)

    def _with_labels_for_call(self, data: Any) -> Any:
        """A batch whose labels are also among the inputs, for a subclass that makes its loss of them."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if self.loss is not None or y is None or not self._makes_a_loss_in_call():
            return data
        inputs = x if isinstance(x, Mapping) else {self.main_input_name: x}
        return keras.utils.pack_x_y_sample_weight({**inputs, "labels": y}, y, sample_weight)

    def mean_of(self, losses: Any) -> Any:
        """The mean of the losses of images, which count as much as `fit` says of the batch that it is at."""
        mean = mean_loss(losses, _weights.get())
        _weights.set(None)
        return mean

    def _makes_a_loss_in_call(self) -> bool:
        """Whether `call` is a subclass's own and takes labels, if only to pass them on to one of ours that does."""
        if is_ours(type(self).call):
            return False
        parameters = inspect.signature(self.call).parameters
        passes_on = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        return "labels" in parameters or (passes_on and type(self).own_loss is not FittingModel.own_loss)

    def predict_step(self, data: Any) -> Any:
        """See `keras.Model.predict_step`; labels among the inputs are left alone, and there is no loss.

        Outputs leave here as dicts, because distribution strategies know nothing else to join.
        """
        output = super().predict_step(with_labels_as_targets(data))
        if isinstance(output, tuple):
            return tuple(item for item in output if isinstance(item, tuple) or len(item.shape))
        if not isinstance(output, ModelOutput):
            return output
        return {name: item for name, item in output.items() if name != "loss"}

    def _as_output(self, predicted: Any) -> Any:
        return self.output_class(**predicted) if self.output_class and isinstance(predicted, dict) else predicted

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The loss that `compile` names, or else the model's own; and what layers added."""
        if self.loss is not None:
            return super().compute_loss(x, y, self.main_output(y_pred), sample_weight, training)
        if (made := self._loss_of_call(y_pred)) is not None:
            loss = mean_loss(made, _weights.get())  # None where our `call` has counted them already
        else:
            loss = self.own_loss(x, y, y_pred, sample_weight)
        self.add_loss(loss)  # Keras shares it out among replicas
        return super().compute_loss(x, training=training)

    def _loss_of_call(self, y_pred: Any) -> Any:
        """The loss that a subclass made in `call`."""
        if not self._makes_a_loss_in_call():
            return None
        if isinstance(y_pred, Mapping):
            return y_pred.get("loss")
        is_tuple = isinstance(y_pred, list | tuple) and len(y_pred) > 1
        return y_pred[0] if is_tuple and len(y_pred[0].shape) < 2 else None

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """The metrics that `compile` names."""
        return super().compute_metrics(x, y, self.main_output(y_pred), sample_weight)


@contextmanager
def _weighted_by(batch: Any) -> Iterator[None]:
    token = _weights.set(keras.utils.unpack_x_y_sample_weight(batch)[2])
    try:
        yield
    finally:
        _weights.reset(token)


def _without_workers(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `fit` without those of Keras 2 that say in how many processes a generator runs."""
    return {k: v for k, v in options.items() if k not in ("max_queue_size", "workers", "use_multiprocessing")}
