"""The parts of `vit_torch.modeling` alone, as scripts take them out or build them."""

import numpy as np
import pytest
import torch
from torch import nn

from vit_torch import BaseModelOutput, ViTForImageClassification, ViTModel
from vit_torch.modeling import (
    ViTAttention,
    ViTEmbeddings,
    ViTEncoder,
    ViTLayer,
    ViTSdpaAttention,
    ViTSelfAttention,
    ViTSelfOutput,
)

PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)


@pytest.fixture
def model(tiny_config):
    tiny_config.initializer_range = 0.2
    return ViTModel(tiny_config).eval()


def test_parts_are_built_from_a_config_alone(tiny_config, model):
    tokens = model.embeddings(PIXELS)
    layer = ViTLayer(tiny_config).eval()
    layer.load_state_dict(model.encoder.layer[1].state_dict())
    torch.testing.assert_close(layer(tokens)[0], model.encoder.layer[1](tokens)[0], atol=0, rtol=0)
    for part in (ViTAttention, ViTSdpaAttention, ViTSelfAttention):
        hidden_states, *_ = part(tiny_config)(tokens)
        assert hidden_states.shape == tokens.shape
    assert ViTSelfOutput(tiny_config)(tokens, tokens).shape == tokens.shape
    assert ViTEmbeddings(tiny_config)(PIXELS).shape == tokens.shape


def test_the_encoder_returns_an_output(model, tiny_config):
    tokens = model.embeddings(PIXELS)
    output = model.encoder(tokens, output_hidden_states=True, output_attentions=True)
    assert isinstance(output, BaseModelOutput)
    assert len(output.hidden_states) == 3
    expected = model(PIXELS, output_attentions=True)
    torch.testing.assert_close(model.layernorm(output.last_hidden_state), expected.last_hidden_state)
    torch.testing.assert_close(output.attentions, expected.attentions)
    as_tuple = model.encoder(tokens, return_dict=False)
    assert isinstance(as_tuple, tuple)
    torch.testing.assert_close(as_tuple, (output.last_hidden_state,))
    assert ViTEncoder(tiny_config)(tokens)[0].shape == tokens.shape


def test_attention_has_the_names_of_transformers(model):
    attention = model.encoder.layer[0].attention.attention
    assert (attention.num_attention_heads, attention.attention_head_size, attention.all_head_size) == (4, 8, 32)
    assert isinstance(attention.dropout, nn.Dropout)
    tokens = model.embeddings(PIXELS)
    heads = attention.transpose_for_scores(attention.query(tokens))
    assert heads.shape == (2, 4, 17, 8)
    assert torch.equal(heads[:, 1], attention.query(tokens)[..., 8:16])


@pytest.mark.parametrize(("attn_implementation", "items"), [("sdpa", 2), ("eager", 1)])
def test_layers_and_attentions_return_as_many_items_as_in_transformers(model, attn_implementation, items):
    model.config.attn_implementation = attn_implementation
    layer, tokens = model.encoder.layer[0], torch.ones(1, 5, 32)
    for part in (layer, layer.attention, layer.attention.attention):
        hidden_states, *rest = part(tokens)
        assert rest == [None] * (items - 1)
        assert part(tokens, output_attentions=True)[1].shape == (1, 4, 5, 5)
        torch.testing.assert_close(part(tokens, torch.ones(1, 4, 1, 1))[0], hidden_states)


def test_pruned_attention_counts_its_heads(model):
    attention = model.encoder.layer[0].attention
    attention.prune_heads({1})
    attention.prune_heads([1, 2])  # one is gone already
    inner = attention.attention
    assert (inner.num_attention_heads, inner.all_head_size, inner.query.out_features) == (2, 16, 16)
    assert attention.output.dense.in_features == 16
    with pytest.raises(ValueError, match="there is no head 4 to prune; a layer has 4 heads"):
        attention.prune_heads([4])
    with pytest.raises(ValueError, match="every head of the layer would be pruned"):
        attention.prune_heads([0, 3])


def test_layers_count_from_the_last_when_pruned(model):
    model.prune_heads({-1: [0]})
    assert model.config.pruned_heads == {1: [0]}
    assert model.encoder.layer[1].attention.attention.num_attention_heads == 3
    model._prune_heads({0: {2}})
    assert model.config.pruned_heads == {0: [2], 1: [0]}


def test_positions_are_resampled_for_images_of_another_size(model):
    tokens = torch.zeros(1, 1 + 6 * 3, 32)
    positions = model.embeddings.interpolate_pos_encoding(tokens, 48, 24)
    assert positions.shape == (1, 19, 32)
    assert torch.equal(positions[:, 0], model.embeddings.position_embeddings[:, 0])


def test_a_subclass_of_the_embeddings_may_resample_in_its_own_way(model):
    class Nearest(ViTEmbeddings):
        def interpolate_pos_encoding(self, embeddings, height, width):
            assert (height, width) == (64, 32)
            return torch.zeros(1, embeddings.shape[1], 32)

    model.embeddings.__class__ = Nearest
    assert model(PIXELS.repeat(1, 1, 2, 1), interpolate_pos_encoding=True)[0].shape == (2, 33, 32)


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
def test_attention_dropout_follows_its_module(model, attn_implementation):
    model.config.attn_implementation = attn_implementation
    before = model(PIXELS)[0]
    for layer in model.encoder.layer:  # as Monte Carlo dropout does on a model in eval mode
        layer.attention.attention.dropout.p = 0.5
        layer.attention.attention.dropout.train()
    assert not torch.allclose(model(PIXELS)[0], before)
    for layer in model.encoder.layer:
        layer.attention.attention.dropout = nn.Identity()
    torch.testing.assert_close(model(PIXELS)[0], before)


def test_head_masks_in_the_form_of_transformers_are_taken(model):
    mask = torch.tensor([[1.0, 0.0, 0.5, 1.0], [0.0, 1.0, 1.0, 1.0]])
    expected = model(PIXELS, head_mask=mask)[0]
    assert model.get_head_mask(None, 2) == [None, None]
    five_axes = model.get_head_mask(mask, 2)
    assert five_axes.shape == (2, 1, 4, 1, 1)
    torch.testing.assert_close(model(PIXELS, head_mask=five_axes)[0], expected)
    tokens = model.embeddings(PIXELS)
    for form in (five_axes, model.get_head_mask(None, 2)):
        encoded = model.encoder(tokens, head_mask=form)[0]
        assert encoded.shape == tokens.shape
    torch.testing.assert_close(model.layernorm(model.encoder(tokens, head_mask=five_axes)[0]), expected)
    torch.testing.assert_close(
        model.encoder.layer[0](tokens, mask[0])[0], model.encoder.layer[0](tokens, five_axes[0])[0]
    )


def test_arrays_and_lists_are_taken_as_tensors(tiny_config):
    model = ViTForImageClassification(tiny_config).eval()
    expected = model(PIXELS, labels=torch.tensor([1, 4]), head_mask=torch.ones(4))
    for convert in (np.asarray, lambda tensor: np.asarray(tensor).tolist()):
        output = model(convert(PIXELS), labels=convert(torch.tensor([1, 4])), head_mask=convert(torch.ones(4)))
        torch.testing.assert_close(output.loss, expected.loss)
    torch.testing.assert_close(model(list(PIXELS)).logits, expected.logits)
    masked = ViTModel(tiny_config, use_mask_token=True).eval()
    mask = np.arange(32).reshape(2, 16) % 3 == 0
    torch.testing.assert_close(masked(PIXELS, mask)[0], masked(PIXELS, torch.from_numpy(mask))[0])


def test_pixels_of_another_dtype_are_converted_by_the_part_that_needs_it(model):
    torch.testing.assert_close(model.embeddings(PIXELS.double()), model.embeddings(PIXELS))
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 32, 8, stride=8))
    model.embeddings.patch_embeddings.projection = stem
    assert model.bfloat16()(PIXELS)[0].dtype == torch.bfloat16
