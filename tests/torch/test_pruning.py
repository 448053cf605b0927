import pytest
import torch

from vit_torch import ViTConfig, ViTForImageClassification, ViTModel


@pytest.mark.parametrize("model_class", [ViTModel, ViTForImageClassification])
def test_a_pruned_head_is_a_silenced_head(tiny_config, model_class):
    tiny_config.initializer_range = 0.5
    model, pixel_values = model_class(tiny_config).eval(), torch.randn(2, 3, 32, 32)
    for layer in model.base_model.encoder.layer:  # a pruned value bias is gone too; silenced, it never was there
        torch.nn.init.normal_(layer.attention.attention.value.bias)
    head_mask = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
    silenced = model(pixel_values, head_mask=head_mask)[0]
    model.prune_heads({1: [0, 2]})
    torch.testing.assert_close(model(pixel_values)[0], silenced, atol=1e-5, rtol=0)
    torch.testing.assert_close(model(pixel_values, head_mask=head_mask)[0], silenced, atol=1e-5, rtol=0)
    assert model(pixel_values, output_attentions=True).attentions[1].shape == (2, 2, 17, 17)


def test_pruning_step_by_step_is_pruning_at_once(tiny_config):
    model = ViTModel(tiny_config)
    copy = ViTModel(tiny_config.from_dict(tiny_config.to_dict()))
    copy.load_state_dict(model.state_dict())
    model.prune_heads({0: [1, 3], 1: [2]})
    copy.prune_heads({0: [3]})
    copy.prune_heads({0: [1, 3], 1: {2}})
    assert model.config.pruned_heads == copy.config.pruned_heads == {0: [1, 3], 1: [2]}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, copy.state_dict()[name]), name


def test_pruning_is_recorded_and_restored(tiny_config, tmp_path):
    model = ViTForImageClassification(tiny_config).eval()
    model.prune_heads({0: [1]})
    model.save_pretrained(tmp_path)
    loaded = ViTForImageClassification.from_pretrained(tmp_path)
    assert loaded.config.pruned_heads == {0: [1]}
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    pixel_values = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(loaded(pixel_values).logits, model(pixel_values).logits)


def test_pruned_weights_still_learn(tiny_config):
    model = ViTModel(tiny_config)
    model.encoder.layer[1].attention.attention.key.requires_grad_(False)
    model.prune_heads({0: [0], 1: [0]})
    model(torch.randn(1, 3, 32, 32)).last_hidden_state.sum().backward()
    assert model.encoder.layer[0].attention.attention.key.weight.grad.shape == (24, 32)
    assert model.encoder.layer[1].attention.attention.key.weight.grad is None


@pytest.mark.parametrize(
    ("heads", "words"),
    [({2: [0]}, "names layer 2"), ({0: [4]}, "names head 4"), ({0: [0, 1, 2, 3]}, "names every head of layer 0")],
)
def test_impossible_pruning_changes_nothing(tiny_config, heads, words):
    model = ViTModel(tiny_config)
    with pytest.raises(ValueError, match=words):
        model.prune_heads({1: [0], **heads})
    assert model.config == ViTConfig.from_dict(tiny_config.to_dict())
    assert model.encoder.layer[1].attention.attention.query.weight.shape == (32, 32)
