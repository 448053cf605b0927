"""The optimizer of scripts for transformers 4: warm-up, polynomial decay, and AdamW that spares biases and norms.

Keras' own Adam and schedules do the work; here are the names and arguments that scripts know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import tensorflow as tf
from keras import ops
from keras.optimizers.schedules import InverseTimeDecay, LearningRateSchedule, PolynomialDecay

#: Patterns of the variables that `create_optimizer` does not decay: biases, and what normalization layers learn,
#: whatever the layer is called.
BIASES_AND_NORMS = ("bias", "(?i)layer_?norm", r"\b(gamma|beta)$")


@keras.saving.register_keras_serializable("trivit")
class WarmUp(LearningRateSchedule):
    """A schedule that rises from zero before another one begins.

    Args:
        initial_learning_rate: the learning rate at the end of the warm-up.
        decay_schedule_fn: what follows; takes the number of steps since the warm-up.
        warmup_steps: steps of the warm-up.
        power: of the polynomial that rises; 1.0 is a line.
        name: a name for the operations.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_schedule_fn: Callable[[Any], Any],
        warmup_steps: float,
        power: float = 1.0,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.initial_learning_rate = initial_learning_rate
        self.decay_schedule_fn = decay_schedule_fn
        self.warmup_steps = warmup_steps
        self.power = power
        self.name = name

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step, which count from 0."""
        with keras.name_scope(self.name or "WarmUp"):
            warmed_up = ops.cast(step, "float32") / self.warmup_steps
            return ops.cond(
                warmed_up < 1.0,
                lambda: self.initial_learning_rate * ops.power(warmed_up, self.power),
                lambda: ops.cast(self.decay_schedule_fn(step - self.warmup_steps), "float32"),
            )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_schedule_fn": self.decay_schedule_fn,
            "warmup_steps": self.warmup_steps,
            "power": self.power,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """A schedule from what `get_config` returned, or from what Keras wrote of it."""
        schedule = config["decay_schedule_fn"]
        if isinstance(schedule, dict):
            schedule = keras.saving.deserialize_keras_object(schedule)
        return cls(**{**config, "decay_schedule_fn": schedule})


@keras.saving.register_keras_serializable("trivit")
class AdamWeightDecay(keras.optimizers.Adam):
    """Keras' Adam with decoupled weight decay (AdamW, https://arxiv.org/abs/1711.05101) of some variables.

    Patterns are regular expressions that are searched for in a variable's path, such as
    "vit_for_image_classification/vit/encoder/layer_0/layernorm_before/gamma". A variable whose path has none of them
    decays.

    Args:
        learning_rate: a number or a schedule.
        beta_1: how much of the mean of the gradients is kept in a step.
        beta_2: how much of the mean of their squares is kept in a step.
        epsilon: a small number that is added to the root of that mean.
        amsgrad: whether to divide by the largest such mean so far (https://arxiv.org/abs/1904.09237).
        weight_decay_rate: what share of a variable decays in a step, before it is multiplied by the learning rate.
        include_in_weight_decay: patterns of variables that decay, also if a pattern excludes them.
        exclude_from_weight_decay: patterns of variables that do not decay.
        name: the optimizer's name.
        **kwargs: what else `keras.optimizers.Adam` takes, such as `global_clipnorm`; `lr` for `learning_rate`; and
            `decay`, by which the learning rate falls as 1 / (1 + decay × step).
    """

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay_rate: float = 0.0,
        include_in_weight_decay: Sequence[str] | None = None,
        exclude_from_weight_decay: Sequence[str] | None = None,
        name: str = "AdamWeightDecay",
        **kwargs: Any,
    ) -> None:
        learning_rate = kwargs.pop("lr", learning_rate)
        if isinstance(learning_rate, int):
            learning_rate = float(learning_rate)
        if decay := kwargs.pop("decay", None):
            if not isinstance(learning_rate, float):
                raise ValueError(
                    f"decay is {decay} and learning_rate a {type(learning_rate).__name__}; give one of the two, a "
                    f"number with decay or a schedule."
                )
            learning_rate = InverseTimeDecay(learning_rate, decay_steps=1, decay_rate=decay)
        super().__init__(
            learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay_rate or None, name=name, **kwargs
        )
        self.included_patterns = list(include_in_weight_decay or ())
        self.excluded_patterns = list(exclude_from_weight_decay or ())

    @property
    def weight_decay_rate(self) -> float:
        """What share of a variable decays in a step, before it is multiplied by the learning rate."""
        return self.weight_decay or 0.0

    @weight_decay_rate.setter
    def weight_decay_rate(self, rate: float) -> None:
        self.weight_decay = rate or None

    def build(self, var_list: Sequence[Any]) -> None:
        """Make what the optimizer keeps of each variable; see `keras.optimizers.Optimizer.build`."""
        if not self.built:
            self.exclude_from_weight_decay([variable for variable in var_list if not self._decays(variable)])
        super().build(var_list)

    def _decays(self, variable: Any) -> bool:
        path = getattr(variable, "path", variable.name)  # a tf.Variable has a name alone
        included = any(re.search(pattern, path) for pattern in self.included_patterns)
        return included or not any(re.search(pattern, path) for pattern in self.excluded_patterns)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        del config["weight_decay"]
        return {
            **config,
            "weight_decay_rate": self.weight_decay_rate,
            "include_in_weight_decay": self.included_patterns,
            "exclude_from_weight_decay": self.excluded_patterns,
        }


def create_optimizer(
    init_lr: float,
    num_train_steps: float,
    num_warmup_steps: float,
    min_lr_ratio: float = 0.0,
    adam_beta1: float = 0.9,
    adam_beta2: float = 0.999,
    adam_epsilon: float = 1e-8,
    adam_clipnorm: float | None = None,
    adam_global_clipnorm: float | None = None,
    weight_decay_rate: float = 0.0,
    power: float = 1.0,
    include_in_weight_decay: Sequence[str] | None = None,
) -> tuple[keras.optimizers.Optimizer, LearningRateSchedule]:
    """Make an optimizer whose learning rate rises in a line and then falls as a polynomial.

    Args:
        init_lr: the learning rate at the end of the warm-up.
        num_train_steps: steps of the whole training.
        num_warmup_steps: steps of the warm-up; 0 starts at `init_lr`.
        min_lr_ratio: the last learning rate, as a share of `init_lr`.
        adam_beta1: how much of the mean of the gradients is kept in a step.
        adam_beta2: how much of the mean of their squares is kept in a step.
        adam_epsilon: a small number that is added to the root of that mean.
        adam_clipnorm: the largest norm of a variable's gradient; larger ones are scaled down.
        adam_global_clipnorm: the largest norm of all gradients together; likewise.
        weight_decay_rate: of AdamW. Biases and what normalization layers learn do not decay.
        power: of the polynomial that falls; 1.0 is a line.
        include_in_weight_decay: patterns of variables that decay nevertheless; see `AdamWeightDecay`.

    Returns:
        The optimizer, which is Keras' Adam without weight decay and else an `AdamWeightDecay`, and its schedule.

    Raises:
        ValueError: a number of steps is impossible.
    """
    if not num_train_steps > 0:
        raise ValueError(
            f"num_train_steps is {num_train_steps}; it must be positive: the number of batches times that of epochs."
        )
    if num_warmup_steps < 0:
        raise ValueError(f"num_warmup_steps is {num_warmup_steps}; it must be 0 or more.")
    last_lr = init_lr * min_lr_ratio
    decay_steps = num_train_steps - num_warmup_steps
    # A training that ends in its warm-up has nothing to fall from; should it go on, it goes on with the last one.
    schedule = (
        PolynomialDecay(init_lr, decay_steps, last_lr, power)
        if decay_steps > 0
        else PolynomialDecay(last_lr, 1, last_lr, power)
    )
    if num_warmup_steps:
        schedule = WarmUp(init_lr, schedule, num_warmup_steps)
    adam = {
        "learning_rate": schedule,
        "beta_1": adam_beta1,
        "beta_2": adam_beta2,
        "epsilon": adam_epsilon,
        "clipnorm": adam_clipnorm,
        "global_clipnorm": adam_global_clipnorm,
    }
    if not weight_decay_rate > 0:
        return keras.optimizers.Adam(**adam), schedule
    optimizer = AdamWeightDecay(
        **adam,
        weight_decay_rate=weight_decay_rate,
        include_in_weight_decay=include_in_weight_decay,
        exclude_from_weight_decay=BIASES_AND_NORMS,
    )
    return optimizer, schedule


class GradientAccumulator:
    """The sum of the gradients of several batches, for a training loop that applies it once.

    With a distribution strategy each replica calls its own and sums on its own.
    """

    def __init__(self) -> None:
        self._sums: list[tf.Variable | None] = []
        self._step: tf.Variable | None = None

    @property
    def step(self) -> tf.Tensor:
        """How many batches were added since the last reset."""
        return self._counter().value()

    @property
    def gradients(self) -> list[tf.Tensor | None]:
        """The sums, in the order of the variables; None where a variable has no gradient.

        Raises:
            ValueError: nothing was added yet.
        """
        if not self._sums:
            raise ValueError("nothing was accumulated yet; call the accumulator with a list of gradients first.")
        return [None if total is None else total.value() for total in self._sums]

    def __call__(self, gradients: Sequence[Any]) -> None:
        """Add the gradients of a batch.

        Args:
            gradients: one for each variable, or None; the same variables in each call.

        Raises:
            ValueError: there are more or fewer than before, or one where there was none.
        """
        dense = [None if gradient is None else tf.convert_to_tensor(gradient) for gradient in gradients]
        if not self._sums:
            self._counter()
            self._sums.extend(None if each is None else _replica_variable(tf.zeros_like(each)) for each in dense)
        if len(dense) != len(self._sums):
            raise ValueError(f"there are {len(dense)} gradients, and there were {len(self._sums)} before.")
        for index, (total, gradient) in enumerate(zip(self._sums, dense, strict=True)):
            if gradient is None:
                continue
            if total is None:
                raise ValueError(f"gradients[{index}] was None in the first batch and is a tensor now.")
            total.assign_add(gradient)
        self._counter().assign_add(1)

    def reset(self) -> None:
        """Start again from zero."""
        if not self._sums:
            return
        self._counter().assign(0)
        for total in self._sums:
            if total is not None:
                total.assign(tf.zeros_like(total))

    def _counter(self) -> tf.Variable:
        if self._step is None:
            self._step = _replica_variable(tf.constant(0, tf.int64))
        return self._step


def _replica_variable(value: tf.Tensor) -> tf.Variable:
    """A variable that each replica keeps for itself, and that is read without asking the others."""
    return tf.Variable(
        value,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
