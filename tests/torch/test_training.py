import pytest
import torch

from vit_torch import ViTForImageClassification, ViTForMaskedImageModeling


def gradients(model, **inputs):
    model.zero_grad()
    torch.manual_seed(1)
    model(**inputs).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradient_checkpointing_changes_no_gradient(tiny_config, dropout):
    tiny_config.hidden_dropout_prob = tiny_config.attention_probs_dropout_prob = dropout
    model = ViTForImageClassification(tiny_config).train()
    inputs = {"pixel_values": torch.randn(2, 3, 32, 32), "labels": torch.tensor([0, 3])}
    assert not model.is_gradient_checkpointing
    plain = gradients(model, **inputs)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    assert model.is_gradient_checkpointing
    torch.testing.assert_close(gradients(model, **inputs), plain)
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing


def test_gradient_checkpointing_runs_layers_twice(tiny_config):
    model, runs = ViTForImageClassification(tiny_config).train(), []
    for layer in model.vit.encoder.layer:
        layer.register_forward_pre_hook(lambda *_: runs.append(1))  # recomputation stops before it ends
    inputs = {"pixel_values": torch.randn(2, 3, 32, 32), "labels": torch.tensor([0, 3])}
    gradients(model, **inputs)
    assert len(runs) == 2
    model.gradient_checkpointing_enable()
    gradients(model, **inputs)
    assert len(runs) == 2 + 4


@pytest.mark.parametrize("model_class", [ViTForImageClassification, ViTForMaskedImageModeling])
def test_a_few_steps_learn_a_batch_by_heart(tiny_config, model_class):
    model = model_class(tiny_config).train()
    mask = torch.arange(16).expand(4, 16) % 2
    target = {"labels": torch.arange(4)} if model_class is ViTForImageClassification else {"bool_masked_pos": mask}
    pixel_values = torch.randn(4, 3, 1, 1).expand(4, 3, 32, 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model(pixel_values, **target).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
