"""The graphs of steps of training and evaluation: traced once, and anew when the model is another."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import tree

from vit_tf.batch_labels import with_labels_as_targets


class StepGraphs(keras.Model):
    """A Keras model whose steps are traced once.

    TensorFlow traces a function a second time if the first one made variables. So those of the optimizer and of the
    metrics are made before, and the first step takes half as long as it would.
    """

    train_function: Any
    test_function: Any
    predict_function: Any
    main_output_shape: tuple[int | None, ...] | None
    _traced_weights: tuple[Any, ...] = ()
    _traced_trainable: tuple[bool, ...] = ()

    def build_missing(self) -> None:
        """Make the variables of parts that a subclass or a script added and that have not run yet."""

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

    def forget_traced_weights(self) -> None:
        """Take the model as it is for the one that is traced next."""
        object.__setattr__(self, "_traced_weights", ())  # not as Keras does it, which would take them for its own

    def _drop_graphs_of_old_parts(self) -> bool:
        """Forget what Keras has traced if parts were replaced since, which it would go on running."""
        self.build_missing()
        before, now = self._traced_weights, tuple(self.weights)
        is_changed = len(before) != len(now) or any(one is not other for one, other in zip(before, now, strict=True))
        if is_changed := is_changed and bool(before):
            self.train_function = self.test_function = self.predict_function = None
        object.__setattr__(self, "_traced_weights", now)
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
            iterator, data_batch = None, with_labels_as_targets(data_batch)
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
        x, y, _ = keras.utils.unpack_x_y_sample_weight(with_labels_as_targets(zeros))
        if y is not None and self.main_output_shape is not None:
            y_pred = keras.ops.zeros((len(y), *self.main_output_shape[1:]))
            super().compute_metrics(x, y, y_pred)
            self.reset_metrics()


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


def _zeros(spec: Any) -> Any:
    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None:
        return None
    return tf.zeros([1 if size is None else size for size in spec.shape], spec.dtype)
