"""Learning from a teacher costs the same in every framework."""

import numpy as np
import pytest
import torch

from vit_torch.distillation import distillation_loss

RANDOM = np.random.default_rng(0)
CLS, DISTILLATION, TEACHER = (RANDOM.standard_normal((6, 5)).astype("float32") * 3 for _ in range(3))
LABELS = RANDOM.integers(0, 5, 6)
SHARES = np.eye(5, dtype="float32")[LABELS] * 0.9 + 0.02


def loss_in(framework, output, labels, **options):
    if framework == "torch":
        tensors = {name: torch.from_numpy(each) for name, each in output.items()}
        return distillation_loss(tensors, torch.from_numpy(labels), torch.from_numpy(TEACHER), **options).item()
    module = pytest.importorskip(f"vit_{framework}.distillation")
    return float(module.distillation_loss(output, labels, TEACHER, **options))


@pytest.mark.parametrize(
    "options", [{"kind": "hard"}, {"kind": "soft"}, {"kind": "soft", "alpha": 0.7, "temperature": 1.5}]
)
@pytest.mark.parametrize("labels", [LABELS, SHARES], ids=["classes", "shares"])
@pytest.mark.parametrize("has_token", [True, False])
def test_the_loss_is_that_of_the_equations(options, labels, has_token):
    output = {"logits": (CLS + DISTILLATION) / 2}
    if has_token:
        output |= {"cls_logits": CLS, "distillation_logits": DISTILLATION}

    def log_softmax(logits):
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))

    for_labels, for_teacher = (output.get(name, output["logits"]) for name in ("cls_logits", "distillation_logits"))
    shares = labels if labels.ndim == 2 else np.eye(5)[labels]
    of_labels = -(shares * log_softmax(for_labels)).sum(1).mean()
    if options["kind"] == "hard":
        of_teacher = -log_softmax(for_teacher)[np.arange(6), TEACHER.argmax(1)].mean()
        expected = of_labels / 2 + of_teacher / 2
    else:
        alpha, heat = options.get("alpha", 0.1), options.get("temperature", 3.0)
        told, answered = log_softmax(TEACHER / heat), log_softmax(for_teacher / heat)
        expected = (1 - alpha) * of_labels + alpha * heat**2 * (np.exp(told) * (told - answered)).sum(1).mean()
    for framework in ("torch", "tf", "flax"):
        np.testing.assert_allclose(loss_in(framework, output, labels, **options), expected, rtol=1e-5)
