"""Learning from a teacher: the loss, and `fit` with it (DeiT, Touvron et al. 2020, https://arxiv.org/abs/2012.12877)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
from jaxtyping import Float, Shaped
from keras import backend, ops
from tensorflow import Tensor

from vit_core.distillation import Kind, check_options, check_teacher
from vit_tf.fitting import FittingModel
from vit_tf.losses import class_losses, mean_loss


def distillation_loss(
    output: Any,
    labels: Shaped[Tensor, "*shape"],
    teacher_logits: Float[Tensor, "batch labels"],
    kind: Kind = "hard",
    alpha: float = 0.1,
    temperature: float = 3.0,
) -> Float[Tensor, ""]:
    """What a student loses that learns from labels and from a teacher, as a mean over the images.

    Args:
        output: of a model with a teacher, whose class token answers to the labels and whose distillation token answers
            to the teacher; or of any classifier, whose logits answer to both.
        labels: classes, (batch,), or the share of each class, (batch, labels), as mixup and smoothing make them.
        teacher_logits: (batch, labels); no gradient goes into them.
        kind: "hard" counts the class that the teacher chooses as much as the labels (equation 3); "soft" compares the
            probabilities of student and teacher (equation 2).
        alpha: with "soft", the teacher's share in the loss, in [0, 1]. The paper calls it lambda.
        temperature: with "soft", by what logits are divided before they become probabilities; above 0.

    Returns:
        The loss, in float32 at least.

    Raises:
        ValueError: the teacher has other classes than the student, or an option is impossible.
    """
    return mean_loss(distillation_losses(output, labels, teacher_logits, kind, alpha, temperature))


def distillation_losses(
    output: Any,
    labels: Shaped[Tensor, "*shape"],
    teacher_logits: Float[Tensor, "batch labels"],
    kind: Kind = "hard",
    alpha: float = 0.1,
    temperature: float = 3.0,
) -> Float[Tensor, " batch"]:
    """The losses of the images, whose mean is `distillation_loss`."""
    check_options(kind, alpha, temperature)
    for_labels, for_teacher = (
        _float32(output.get("cls_logits", output["logits"])),
        _float32(output.get("distillation_logits", output["logits"])),
    )
    teacher = ops.stop_gradient(_float32(ops.convert_to_tensor(teacher_logits)))
    check_teacher(teacher.shape, for_teacher.shape)
    of_labels = class_losses(for_labels, ops.convert_to_tensor(labels))
    if kind == "hard":
        return (of_labels + class_losses(for_teacher, ops.argmax(teacher, axis=-1))) / 2
    told, answered = ops.log_softmax(teacher / temperature), ops.log_softmax(for_teacher / temperature)
    divergence = ops.sum(ops.exp(told) * (told - answered), axis=-1)
    return (1 - alpha) * of_labels + alpha * temperature**2 * divergence


class Distiller(FittingModel):
    """A student and its teacher, for `compile` and `fit`; afterwards the student is the model to save.

    Args:
        student: a classifier, with or without a distillation token. It is trained.
        teacher: any model or function that takes the same images and returns logits, or an output that has them. It is
            not trained, and no part of this model's weights.
        kind: see `distillation_loss`.
        alpha: see `distillation_loss`.
        temperature: see `distillation_loss`.
        **kwargs: what every `keras.Model` takes.

    Raises:
        ValueError: an option is impossible.
    """

    main_input_name = "pixel_values"
    main_output_name = "logits"

    def __init__(
        self,
        student: Any,
        teacher: Callable[..., Any],
        kind: Kind = "hard",
        alpha: float = 0.1,
        temperature: float = 3.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        check_options(kind, alpha, temperature)
        self.student = student
        self.main_output_shape = student.main_output_shape
        self.options: dict[str, Any] = {"kind": kind, "alpha": alpha, "temperature": temperature}
        is_layer = isinstance(teacher, keras.layers.Layer)
        # Not an attribute: Keras would train a layer that is one.
        self.teach = (lambda images: teacher(images, training=False)) if is_layer else (lambda images: teacher(images))
        self.built = True

    def call(self, pixel_values: Any, training: bool = False) -> Any:
        """What the student answers."""
        return self.student(pixel_values, return_dict=True, training=training)

    def own_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Tensor:
        """See `distillation_loss`."""
        if y is None:
            raise ValueError(
                "there are no labels; call fit(x, y), or use batches {'pixel_values': ..., 'labels': ...}."
            )
        told = self.teach(x[self.main_input_name] if isinstance(x, Mapping) else x)
        teacher_logits = told["logits"] if isinstance(told, Mapping) else told
        return mean_loss(distillation_losses(y_pred, y, teacher_logits, **self.options), sample_weight)


def _float32(logits: Tensor) -> Tensor:
    return ops.cast(logits, backend.result_type(logits.dtype, "float32"))
