"""What learning from a teacher is told, whatever the framework (Touvron et al. 2020, https://arxiv.org/abs/2012.12877)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from vit_core.checks import require_choice, require_number

#: The class that the teacher chooses counts as labels do (equation 3), or its probabilities are compared (equation 2).
Kind = Literal["hard", "soft"]


def check_options(kind: str, alpha: float, temperature: float) -> None:
    """Check the options of a distillation loss.

    Raises:
        ValueError: one is impossible.
    """
    require_choice("kind", kind, get_args(Kind))
    require_number("alpha", alpha, 0.0, 1.0)
    require_number("temperature", temperature, 0.0, 1e6)
    if not temperature:
        raise ValueError("temperature is 0; give a number above 0, such as 3.0.")


def check_teacher(teacher_logits: Sequence[int | None], student_logits: Sequence[int | None]) -> None:
    """Check that the logits of teacher and student, of such shapes, are for the same classes.

    Raises:
        ValueError: they are not.
    """
    if teacher_logits[-1] != student_logits[-1]:
        raise ValueError(
            f"the teacher tells {teacher_logits[-1]} classes apart and the student {student_logits[-1]}; choose a "
            f"teacher for the same classes, or set the student's num_labels."
        )
