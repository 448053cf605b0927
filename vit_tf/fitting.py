"""What `fit`, `evaluate` and `predict` need to know about models that return more than one thing."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import GeneratorType
from typing import Any, ClassVar

import keras
import tensorflow as tf
from keras import tree

from vit_core.outputs import ModelOutput
from vit_tf.losses import mean_loss
from vit_tf.ours import is_ours

#: Names of the model's own loss in scripts for transformers.
OWN_LOSS = ("passthrough", "auto_with_warning")

#: The factors for the images of the batch that a step is at, until a loss has been weighted by them.
_weights: ContextVar[Any] = ContextVar("_weights", default=None)


class FittingModel(keras.Model):
    """A Keras model that compares its main output with the targets, and has a loss of its own.

    Keras' hooks do it: `train_step`, `test_step` and `predict_step` see each batch, `compute_loss` and
    `compute_metrics` each output.
    """

    output_class: ClassVar[type[ModelOutput] | None] = None
    train_function: Any
    test_function: Any
    predict_function: Any
    _traced_weights: tuple[Any, ...] = ()
    _traced_trainable: tuple[bool, ...] = ()
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
        object.__setattr__(self, "_traced_weights", ())
        loss, metrics = _of_logits(loss), _of_logits(metrics)
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
            x = x.map(lambda *batch: _with_labels_as_targets(batch if len(batch) > 1 else batch[0]))
        return super().fit(*_with_labels_apart(x, y), *args, **_without_workers(kwargs))

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """See `keras.Model.evaluate`; labels may also come in the dict of inputs."""
        return super().evaluate(*_with_labels_apart(x, y), *args, **_without_workers(kwargs))

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """See `keras.Model.predict`; returns an output of arrays."""
        return self._as_output(super().predict(_with_labels_apart(x, None)[0], *args, **_without_workers(kwargs)))

    def predict_on_batch(self, x: Any) -> Any:
        """See `keras.Model.predict_on_batch`; returns an output of arrays."""
        return self._as_output(super().predict_on_batch(_with_labels_apart(x, None)[0]))

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
            return super().train_on_batch(*_with_labels_apart(x, y), sample_weight, class_weight, return_dict)

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
            return super().test_on_batch(*_with_labels_apart(x, y), sample_weight, return_dict)

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
        batch = self._with_labels_for_call(_with_labels_as_targets(data))
        with _weighted_by(batch):
            return super().train_step(batch)

    def test_step(self, data: Any) -> Any:
        """See `keras.Model.test_step`; labels may also come in the dict of inputs."""
        batch = self._with_labels_for_call(_with_labels_as_targets(data))
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
        output = super().predict_step(_with_labels_as_targets(data))
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

    def build_missing(self) -> None:
        """Make the variables of parts that a subclass or a script added and that have not run yet."""

    # TensorFlow traces a function a second time if the first one made variables. So those of the optimizer and of the
    # metrics are made before, and the first step takes half as long as it would.

    def make_train_function(self, force: bool = False) -> None:
        """See `keras.Model.make_train_function`.

        Raises:
            ValueError: the optimizer keeps its state for parts that were replaced since.
        """
        if self._drop_graphs_of_old_parts() and self.optimizer is not None and self.optimizer.built:
            raise ValueError(
                "parts of the model were replaced since it was compiled, and the optimizer does not know the new ones; "
                "call compile again, with a new optimizer."
            )
        trainable = tuple(variable.trainable for variable in self.weights)
        if self.train_function is not None and trainable != self._traced_trainable:
            warnings.warn(
                "what is trainable was changed since the first step of training, which goes on with what was trainable "
                "then; call compile again.",
                stacklevel=3,
            )
        self._traced_trainable = trainable
        if self.train_function is None or force:
            super().make_train_function(force)
            if not (self.run_eagerly or self.jit_compile or self.steps_per_execution > 1 or self._distribute_strategy):
                self.train_function = _one_graph(self.train_step, self.train_function)
            self._make_variables_first("train_function")

    def make_test_function(self, force: bool = False) -> None:
        """See `keras.Model.make_test_function`."""
        self._drop_graphs_of_old_parts()
        if self.test_function is None or force:
            super().make_test_function(force)
            self._make_variables_first("test_function")

    def make_predict_function(self, force: bool = False) -> Any:
        """See `keras.Model.make_predict_function`."""
        self._drop_graphs_of_old_parts()
        return super().make_predict_function(force)

    def _drop_graphs_of_old_parts(self) -> bool:
        """Forget what Keras has traced if parts were replaced since, which it would go on running."""
        self.build_missing()
        before, now = self._traced_weights, tuple(self.weights)
        is_changed = len(before) != len(now) or any(one is not other for one, other in zip(before, now, strict=True))
        if is_changed := is_changed and bool(before):
            self.train_function = self.test_function = self.predict_function = None
        object.__setattr__(self, "_traced_weights", now)  # not as Keras does it, which would take them for its own
        return is_changed

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """With a distribution strategy, build the metrics from a replica's batch.

        Keras would take the mean over the replicas, which masks have not, and find no labels among the inputs. Its
        hook is private: where it is called otherwise, only those batches do not work.
        """
        if self._distribute_strategy is not None and iterator is not None:
            values = self._distribute_strategy.experimental_local_results
            for _, _, batches in iterator:
                data_batch = tree.map_structure(lambda each: values(each)[0], next(batches))
                break
            iterator, data_batch = None, _with_labels_as_targets(data_batch)
        super()._maybe_symbolic_build(iterator, data_batch)

    def _make_variables_first(self, attribute: str) -> None:
        function = getattr(self, attribute)

        def first_call(iterator: Any) -> Any:
            if isinstance(iterator, tf.data.Iterator):  # for distribution strategies, Keras does it
                if self.optimizer is not None:
                    self.optimizer.build(self.trainable_variables)
                self._make_metric_variables(iterator.element_spec)
            setattr(self, attribute, function)
            return function(iterator)

        setattr(self, attribute, first_call)

    def _make_metric_variables(self, batch_spec: Any) -> None:
        """Update the metrics once with zeros of the right shapes, and forget it."""
        zeros = tree.map_structure(_zeros, batch_spec)
        x, y, _ = keras.utils.unpack_x_y_sample_weight(_with_labels_as_targets(zeros))
        if y is not None and self.main_output_shape is not None:
            y_pred = keras.ops.zeros((len(y), *self.main_output_shape[1:]))
            super().compute_metrics(x, y, y_pred)
            self.reset_metrics()


@contextmanager
def _weighted_by(batch: Any) -> Iterator[None]:
    token = _weights.set(keras.utils.unpack_x_y_sample_weight(batch)[2])
    try:
        yield
    finally:
        _weights.reset(token)


def _one_graph(train_step: Callable[[Any], Any], keras_function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A step as one graph; Keras' is a graph in a graph, whose first step takes a fifth longer.

    Args:
        train_step: what to trace, once for each kind of batches.
        keras_function: takes what is no iterator of `tf.data`, such as the single batch of `train_on_batch`.
    """
    traced: list[tuple[Any, Any]] = []  # the latest kind of batches, with its graph

    def without_optionals(data: Any) -> Any:  # Keras has an empty one where there are no targets or weights
        kinds = (tf.experimental.Optional, tf.OptionalSpec)
        return tree.map_structure(lambda each: None if isinstance(each, kinds) else each, data)

    def function(iterator: Any) -> Any:
        if not isinstance(iterator, tf.data.Iterator):
            return keras_function(iterator)
        data, spec = without_optionals(next(iterator)), without_optionals(iterator.element_spec)
        if not traced or traced[0][0] != spec:
            traced[:] = [(spec, tf.function(train_step, autograph=False).get_concrete_function(spec))]
        return traced[0][1](data)

    return function


def _with_labels_as_targets(data: Any) -> Any:
    """A batch whose labels, if they are among the inputs, are its targets."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    return keras.utils.pack_x_y_sample_weight(*_with_labels_apart(x, y), sample_weight)


def _with_labels_apart(x: Any, y: Any) -> tuple[Any, Any]:
    """Inputs without labels and, unless there are targets, the labels as targets; what processors return is a dict."""
    y = _bare(y)
    if isinstance(x, GeneratorType):  # Keras takes tuples from them, also of a dict alone
        return (batch if isinstance(batch, tuple) else (batch,) for batch in x), y
    if not isinstance(x, Mapping):
        return x, y
    inputs = {name: value for name, value in x.items() if name != "labels"}
    return inputs, x.get("labels") if y is None else y


def _bare(y: Any) -> Any:
    """The labels of targets that are a dict of them alone."""
    return y["labels"] if isinstance(y, Mapping) and set(y) == {"labels"} else _of_logits(y)


def _of_logits(value: Any) -> Any:
    """What a script says of the output's logits by their name, which here are the only ones that have targets."""
    return value["logits"] if isinstance(value, Mapping) and set(value) == {"logits"} else value


def _without_workers(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `fit` without those of Keras 2 that say in how many processes a generator runs."""
    return {k: v for k, v in options.items() if k not in ("max_queue_size", "workers", "use_multiprocessing")}


def _zeros(spec: Any) -> Any:
    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None:
        return None
    return tf.zeros([1 if size is None else size for size in spec.shape], spec.dtype)
