"""Learning from a teacher: the loss by its formulas, and examples/distill_torch.py, run for a moment."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from vit_torch import DeiTForImageClassificationWithTeacherOutput, ImageClassifierOutput
from vit_torch.distillation import distillation_loss

SCRIPT = Path(__file__).parents[2] / "examples" / "distill_torch.py"
CLASS, TOLD, TEACHER = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
LABELS = np.array([0, 3, 1, 4])


@pytest.fixture
def output():
    cls_logits, distillation_logits = (torch.tensor(logits, requires_grad=True) for logits in (CLASS, TOLD))
    mean = (cls_logits + distillation_logits) / 2
    return DeiTForImageClassificationWithTeacherOutput(mean, cls_logits, distillation_logits)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def cross_entropy(logits, labels):
    return -log_softmax(logits)[np.arange(len(labels)), labels].mean()


def assert_is(loss, expected):
    np.testing.assert_allclose(loss.detach(), expected, rtol=1e-6)


def test_hard_distillation_is_the_mean_of_two_cross_entropies(output):
    expected = (cross_entropy(CLASS, LABELS) + cross_entropy(TOLD, TEACHER.argmax(-1))) / 2
    assert_is(distillation_loss(output, torch.from_numpy(LABELS), torch.from_numpy(TEACHER)), expected)


@pytest.mark.parametrize(("alpha", "temperature"), [(0.1, 3.0), (0.7, 1.5)])
def test_soft_distillation_is_cross_entropy_and_divergence(output, alpha, temperature):
    told, answered = log_softmax(TEACHER / temperature), log_softmax(TOLD / temperature)
    divergence = (np.exp(told) * (told - answered)).sum(-1).mean()
    expected = (1 - alpha) * cross_entropy(CLASS, LABELS) + alpha * temperature**2 * divergence
    assert_is(distillation_loss(output, LABELS, TEACHER, "soft", alpha, temperature), expected)


def test_a_classifier_without_a_distillation_token_answers_to_both():
    expected = (cross_entropy(CLASS, LABELS) + cross_entropy(CLASS, TEACHER.argmax(-1))) / 2
    assert_is(distillation_loss(ImageClassifierOutput(None, torch.tensor(CLASS)), LABELS, TEACHER), expected)


def test_labels_may_be_shares_of_classes(output):
    shares = torch.nn.functional.one_hot(torch.from_numpy(LABELS), 5).double()
    one, other = (distillation_loss(output, labels, TEACHER, "soft") for labels in (shares, LABELS))
    torch.testing.assert_close(one, other)


def test_no_gradient_goes_to_the_teacher_and_half_precision_is_computed_in_float32(output):
    teacher = torch.tensor(TEACHER, requires_grad=True, dtype=torch.float16)
    loss = distillation_loss(output, LABELS, teacher, "soft")
    loss.backward()
    assert loss.dtype == torch.float32
    assert teacher.grad is None
    assert output.distillation_logits.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "medium"}, "kind is 'medium'; choose one of hard, soft"),
        ({"kind": "soft", "alpha": 1.5}, "alpha is 1.5; give a number from 0 to 1"),
        ({"kind": "soft", "temperature": 0}, "temperature is 0; give a number above 0"),
    ],
)
def test_impossible_options(output, options, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss(output, LABELS, TEACHER, **options)


def test_a_teacher_of_other_classes(output):
    with pytest.raises(ValueError, match="the teacher tells 3 classes apart and the student 5; choose a teacher"):
        distillation_loss(output, LABELS, TEACHER[:, :3])


def test_the_example_learns_from_the_bundled_model(tmp_path, capsys):
    pytest.importorskip("sklearn.datasets")
    script = runpy.run_path(str(SCRIPT), run_name="distill_torch")
    script["main"](["--output", str(tmp_path / "student"), "--epochs", "3"])
    printed = capsys.readouterr().out
    assert float(printed.split("test images: ")[1].split("%")[0]) > 20  # chance is 10
    assert (tmp_path / "student" / "model.safetensors").is_file()
