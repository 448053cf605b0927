"""Learning from a teacher (DeiT, Touvron et al. 2020, https://arxiv.org/abs/2012.12877)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Shaped

from vit_core.distillation import Kind, check_options, check_teacher
from vit_flax.losses import cross_entropy


def distillation_loss(
    output: Any,
    labels: Shaped[Array, "*shape"],
    teacher_logits: Float[Array, "batch labels"],
    kind: Kind = "hard",
    alpha: float = 0.1,
    temperature: float = 3.0,
) -> Float[Array, ""]:
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
        The loss, in float32 at least. Under jit, where values cannot be checked, a label out of range makes it NaN.

    Raises:
        ValueError: the teacher has other classes than the student, a label is out of range, or an option is impossible.
    """
    check_options(kind, alpha, temperature)
    for_labels = _widened(output.get("cls_logits", output["logits"]))
    for_teacher = _widened(output.get("distillation_logits", output["logits"]))
    teacher = jax.lax.stop_gradient(_widened(jnp.asarray(teacher_logits)))
    check_teacher(teacher.shape, for_teacher.shape)
    labels = jnp.asarray(labels)
    if labels.shape == for_labels.shape and jnp.issubdtype(labels.dtype, jnp.floating):
        import optax  # see `vit_flax.losses`

        of_labels = optax.softmax_cross_entropy(for_labels, labels.astype(for_labels.dtype)).mean()
    else:
        of_labels = cross_entropy(for_labels, labels)
    if kind == "hard":
        return (of_labels + cross_entropy(for_teacher, teacher.argmax(-1))) / 2
    told, answered = jax.nn.log_softmax(teacher / temperature), jax.nn.log_softmax(for_teacher / temperature)
    divergence = (jnp.exp(told) * (told - answered)).sum(-1).mean()
    return (1 - alpha) * of_labels + alpha * temperature**2 * divergence


def _widened(logits: Array) -> Array:
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
