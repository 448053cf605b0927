"""Learning from a teacher: the loss by its formulas, and examples/distill_flax.py, run for a moment."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_flax import (
    FlaxDeiTForImageClassificationWithTeacherOutput,
    FlaxSequenceClassifierOutput,
    distillation_loss,
)

SCRIPT = Path(__file__).parents[2] / "examples" / "distill_flax.py"
RANDOM = np.random.default_rng(0)
CLASS, TOLD, TEACHER = RANDOM.normal(size=(3, 4, 5)).astype(np.float32)
LABELS = np.array([0, 3, 1, 4])
OUTPUT = FlaxDeiTForImageClassificationWithTeacherOutput(
    jnp.asarray((CLASS + TOLD) / 2), jnp.asarray(CLASS), jnp.asarray(TOLD)
)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def cross_entropy(logits, labels):
    return -log_softmax(logits)[np.arange(len(labels)), labels].mean()


def test_hard_distillation_is_the_mean_of_two_cross_entropies():
    expected = (cross_entropy(CLASS, LABELS) + cross_entropy(TOLD, TEACHER.argmax(-1))) / 2
    np.testing.assert_allclose(distillation_loss(OUTPUT, LABELS, TEACHER), expected, rtol=1e-6)


@pytest.mark.parametrize(("alpha", "temperature"), [(0.1, 3.0), (0.7, 1.5)])
def test_soft_distillation_is_cross_entropy_and_divergence(alpha, temperature):
    told, answered = log_softmax(TEACHER / temperature), log_softmax(TOLD / temperature)
    divergence = (np.exp(told) * (told - answered)).sum(-1).mean()
    expected = (1 - alpha) * cross_entropy(CLASS, LABELS) + alpha * temperature**2 * divergence
    loss = distillation_loss(OUTPUT, LABELS, TEACHER, "soft", alpha, temperature)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_a_classifier_without_a_distillation_token_answers_to_both():
    output = FlaxSequenceClassifierOutput(None, jnp.asarray(CLASS))
    expected = (cross_entropy(CLASS, LABELS) + cross_entropy(CLASS, TEACHER.argmax(-1))) / 2
    np.testing.assert_allclose(distillation_loss(output, LABELS, TEACHER), expected, rtol=1e-6)


def test_labels_may_be_shares_of_classes():
    shares = np.eye(5, dtype=np.float32)[LABELS]
    one, other = (distillation_loss(OUTPUT, labels, TEACHER, "soft") for labels in (shares, LABELS))
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_no_gradient_goes_to_the_teacher():
    gradient = jax.grad(lambda teacher: distillation_loss(OUTPUT, LABELS, teacher, "soft"))(jnp.asarray(TEACHER))
    assert not np.any(gradient)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "medium"}, "kind is 'medium'; choose one of hard, soft"),
        ({"kind": "soft", "alpha": 1.5}, "alpha is 1.5; give a number from 0 to 1"),
        ({"kind": "soft", "temperature": 0}, "temperature is 0; give a number above 0"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        distillation_loss(OUTPUT, LABELS, TEACHER, **options)


def test_a_teacher_of_other_classes():
    with pytest.raises(ValueError, match="the teacher tells 3 classes apart and the student 5; choose a teacher"):
        jax.jit(distillation_loss)(OUTPUT, LABELS, TEACHER[:, :3])


def test_the_example_learns_from_the_bundled_model(tmp_path, capsys, monkeypatch):
    pytest.importorskip("sklearn.datasets")
    script = runpy.run_path(str(SCRIPT), run_name="distill_flax")
    images, labels = script["load_images"]()
    monkeypatch.setitem(script["main"].__globals__, "load_images", lambda: (images[:800], labels[:800]))
    script["main"](["--output", str(tmp_path / "student"), "--epochs", "3", "--batch-size", "16"])
    printed = capsys.readouterr().out
    assert float(printed.split("test images: ")[1].split("%")[0]) > 20  # chance is 10
    assert (tmp_path / "student" / "model.safetensors").is_file()
