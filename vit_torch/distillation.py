"""Learning from a teacher (DeiT, Touvron et al. 2020, https://arxiv.org/abs/2012.12877, section 4)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from vit_core.distillation import Kind, check_options, check_teacher
from vit_torch.tensors import as_tensor


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
    check_options(kind, alpha, temperature)
    for_labels, for_teacher = (
        _exact(output.get(name, output["logits"])) for name in ("cls_logits", "distillation_logits")
    )
    teacher = _exact(as_tensor(teacher_logits, for_teacher.device)).detach().to(for_teacher.device)
    check_teacher(teacher.shape, for_teacher.shape)
    labels = as_tensor(labels, for_labels.device).to(for_labels.device)
    shares = labels.to(for_labels) if labels.is_floating_point() else labels.long()
    of_labels = functional.cross_entropy(for_labels, shares)
    if kind == "hard":
        return (of_labels + functional.cross_entropy(for_teacher, teacher.argmax(-1))) / 2
    told, answered = (functional.log_softmax(logits / temperature, dim=-1) for logits in (teacher, for_teacher))
    divergence = functional.kl_div(answered, told, reduction="batchmean", log_target=True)
    return (1 - alpha) * of_labels + alpha * temperature**2 * divergence


def _exact(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
