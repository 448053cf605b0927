"""Learning from a teacher: the loss by its formulas, `fit` with it, and examples/distill_keras.py, run for a moment."""

import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from vit_tf import (
    DeiTConfig,
    TFDeiTForImageClassification,
    TFDeiTForImageClassificationWithTeacher,
    TFDeiTForImageClassificationWithTeacherOutput,
    TFSequenceClassifierOutput,
)
from vit_tf.distillation import Distiller, distillation_loss

SCRIPT = Path(__file__).parents[2] / "examples" / "distill_keras.py"
RANDOM = np.random.default_rng(0)
CLASS, TOLD, TEACHER = RANDOM.normal(size=(3, 4, 5)).astype(np.float32)
LABELS = np.array([0, 3, 1, 4])
OUTPUT = TFDeiTForImageClassificationWithTeacherOutput(
    tf.constant((CLASS + TOLD) / 2), tf.constant(CLASS), tf.constant(TOLD)
)
IMAGES = RANDOM.normal(size=(6, 3, 32, 32)).astype(np.float32)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def cross_entropy(logits, labels):
    return -log_softmax(logits)[np.arange(len(labels)), labels].mean()


@pytest.fixture
def deit_config(one_layer):
    fields = {**one_layer.to_dict(), "model_type": "deit", "num_labels": 5}
    return DeiTConfig(**{name: value for name, value in fields.items() if name not in ("id2label", "label2id")})


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
    output = TFSequenceClassifierOutput(None, tf.constant(CLASS))
    expected = (cross_entropy(CLASS, LABELS) + cross_entropy(CLASS, TEACHER.argmax(-1))) / 2
    np.testing.assert_allclose(distillation_loss(output, LABELS, TEACHER), expected, rtol=1e-6)


def test_labels_may_be_shares_of_classes():
    shares = np.eye(5, dtype=np.float32)[LABELS]
    one, other = (distillation_loss(OUTPUT, labels, TEACHER, "soft") for labels in (shares, LABELS))
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_no_gradient_goes_to_the_teacher():
    teacher = tf.constant(TEACHER)
    with tf.GradientTape() as tape:
        tape.watch(teacher)
        loss = distillation_loss(OUTPUT, LABELS, teacher, "soft")
    assert tape.gradient(loss, teacher) is None


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
    with pytest.raises(ValueError, match=message):
        Distiller(keras.Sequential(), lambda images: images, **options)


def test_a_teacher_of_other_classes():
    with pytest.raises(ValueError, match="the teacher tells 3 classes apart and the student 5; choose a teacher"):
        distillation_loss(OUTPUT, LABELS, TEACHER[:, :3])


@pytest.mark.parametrize(("kind", "jit_compile"), [("hard", False), ("soft", True)])
def test_fit_trains_the_student_and_not_the_teacher(deit_config, kind, jit_compile):
    student = TFDeiTForImageClassificationWithTeacher(deit_config)
    teacher = TFDeiTForImageClassification(deit_config)
    distiller = Distiller(student, teacher, kind)
    distiller.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"], jit_compile=jit_compile)
    labels = np.array([0, 1, 2, 3, 4, 0])
    expected = distillation_loss(student(IMAGES), labels, teacher(IMAGES).logits, kind)
    taught, before = teacher.get_weights(), student.get_weights()
    logs = distiller.fit(IMAGES, labels, batch_size=6, verbose=0).history
    np.testing.assert_allclose(logs["loss"][0], expected, rtol=1e-5)
    assert "accuracy" in logs
    assert len(distiller.weights) == len(student.weights)
    assert all(np.array_equal(*pair) for pair in zip(teacher.get_weights(), taught, strict=True))
    assert any(not np.array_equal(*pair) for pair in zip(student.get_weights(), before, strict=True))


def test_any_function_teaches_and_batches_may_be_dicts(deit_config):
    student = TFDeiTForImageClassification(deit_config)
    distiller = Distiller(student, lambda images: tf.reduce_mean(images, (2, 3)) @ tf.ones((3, 5)))
    distiller.compile("sgd")
    batches = tf.data.Dataset.from_tensor_slices({"pixel_values": IMAGES, "labels": np.arange(6) % 5}).batch(3)
    assert np.isfinite(distiller.fit(batches, verbose=0).history["loss"][0])
    assert np.isfinite(distiller.evaluate(batches, verbose=0))


def test_without_labels(deit_config):
    distiller = Distiller(TFDeiTForImageClassification(deit_config), lambda images: images)
    distiller.compile("sgd")
    with pytest.raises(ValueError, match="there are no labels"):
        distiller.fit(IMAGES, verbose=0)


def test_the_example_learns_from_the_bundled_model(tmp_path, capsys):
    pytest.importorskip("sklearn.datasets")
    script = runpy.run_path(str(SCRIPT), run_name="distill_keras")
    script["main"](["--output", str(tmp_path / "student"), "--epochs", "3"])
    printed = capsys.readouterr().out
    assert float(printed.split("test images: ")[1].split("%")[0]) > 20  # chance is 10
    assert (tmp_path / "student" / "model.safetensors").is_file()
