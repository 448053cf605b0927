"""Methods and attributes that scripts for transformers 4 use; numbers are those of transformers 4.47.1."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from vit_torch import ViTConfig, ViTForImageClassification, ViTForMaskedImageModeling, ViTModel, ViTPreTrainedModel

PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)


@pytest.fixture
def model():
    """The model of which the numbers below were taken, there and here."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return ViTForImageClassification(ViTConfig(**sizes, image_size=32, patch_size=8))


def test_attributes_are_there(model):
    assert model.framework == "pt"
    assert model.main_input_name == "pixel_values"
    assert model._no_split_modules == [
        *("ViTEmbeddings", "MaskedEmbeddings", "ViTLayer", "ScaledLayer", "PostNormLayer", "ParallelLayer")
    ]
    assert model.supports_gradient_checkpointing
    assert model._supports_sdpa
    assert not any((model.can_generate(), model.is_parallelizable, model.is_gradient_checkpointing))
    assert model.generation_config is model.get_output_embeddings() is model.model_tags is model.tie_weights() is None
    assert model.warnings_issued == {}
    assert model.num_labels == 2
    assert model.name_or_path == ""


def test_sizes_and_costs_are_those_of_transformers(model):
    inputs = {"pixel_values": PIXELS}
    assert model.estimate_tokens(inputs) == 6144
    assert model.floating_point_ops(inputs) == 883630080
    assert model.get_memory_footprint() == model.get_memory_footprint(return_buffers=False) == 95880
    assert model(**model.dummy_inputs).logits.shape == (1, 2)


def test_a_loaded_model_knows_where_it_came_from(tmp_path, model):
    model.save_pretrained(tmp_path)
    again = ViTForImageClassification.from_pretrained(tmp_path)
    assert again.name_or_path == again.config.name_or_path == str(tmp_path)
    assert str(tmp_path) not in (tmp_path / "config.json").read_text()


def test_attention_can_be_chosen_anew(model, monkeypatch):
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: calls.append(0) or fused(*args, **kwargs),
    )
    model.eval()
    expected = model(PIXELS).logits
    assert len(calls) == 2
    for eager in ("eager", {"vision_config": "eager", "text_config": "sdpa"}, {"": "eager"}):
        model.set_attn_implementation("sdpa")
        model.set_attn_implementation(eager)
        torch.testing.assert_close(model(PIXELS).logits, expected, rtol=0, atol=1e-6)
    assert len(calls) == 2
    with pytest.warns(UserWarning, match="'flash_attention_2' is not here; 'sdpa' is used"):
        model.set_attn_implementation("flash_attention_2")
    model(PIXELS)
    assert len(calls) == 4
    for wrong, message in ("fast", "attn_implementation is 'fast'"), ({"text_config": "eager"}, "names text_config"):
        with pytest.raises(ValueError, match=message):
            model.set_attn_implementation(wrong)
    assert model.config.attn_implementation == "sdpa"


def test_from_config_makes_a_model_of_a_copy(model):
    made = ViTModel._from_config(
        model.config, torch_dtype=torch.bfloat16, attn_implementation="eager", add_pooling_layer=False
    )
    assert made.dtype == torch.bfloat16
    assert made.config.attn_implementation == "eager"
    assert model.config.attn_implementation == "sdpa"
    assert made.pooler is None
    assert torch.get_default_dtype() == torch.float32


def test_input_gradients_can_be_asked_for_in_a_frozen_model(model):
    model.requires_grad_(False)
    assert not model(PIXELS).logits.requires_grad
    model.enable_input_require_grads()
    model.enable_input_require_grads()
    assert model(PIXELS).logits.requires_grad
    model.disable_input_require_grads()
    assert not model(PIXELS).logits.requires_grad


def test_the_name_of_transformers_5_for_gradient_checkpointing_takes_what_its_trainer_passes(model):
    model.activation_checkpointing_enable(activation_checkpointing_kwargs=None, every_n_layers=1, offload=False)
    assert model.is_gradient_checkpointing
    with pytest.raises(ValueError, match="every_n_layers is 2; every layer is checkpointed or none"):
        model.activation_checkpointing_enable(every_n_layers=2)
    with pytest.raises(ValueError, match="offload=True"):
        model.activation_checkpointing_enable(offload=True)


@pytest.mark.parametrize("arguments", [{}, {"use_reentrant": True}, {"use_reentrant": False}, None])
def test_gradient_checkpointing_takes_what_trainers_pass(model, arguments):
    model.train()
    model(PIXELS, labels=torch.tensor([0, 1])).loss.backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=arguments)
    assert model.is_gradient_checkpointing
    model(PIXELS, labels=torch.tensor([0, 1])).loss.backward()
    torch.testing.assert_close([parameter.grad for parameter in model.parameters()], expected)
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    model.activation_checkpointing_enable()
    assert model.vit.is_gradient_checkpointing


def test_gradient_checkpointing_can_be_a_setting_of_the_config(model, tmp_path):
    model.config.gradient_checkpointing = True
    made = ViTForImageClassification(model.config)
    assert made.is_gradient_checkpointing
    made.save_pretrained(tmp_path)
    assert not ViTForImageClassification.from_pretrained(tmp_path).is_gradient_checkpointing


def test_gradient_checkpointing_reaches_the_parts_of_a_subclass(model):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense, self.gradient_checkpointing, self.calls = nn.Linear(32, 32), False, 0

        def forward(self, hidden_states):
            if self.gradient_checkpointing and self.training:
                return self._gradient_checkpointing_func(self.counted, hidden_states)
            return self.counted(hidden_states)

        def counted(self, hidden_states):
            self.calls += 1
            return self.dense(hidden_states)

    class Own(ViTPreTrainedModel):
        def __init__(self, config):
            super().__init__(config)
            self.block = Block()
            self.post_init()

    own = Own(model.config).train()
    own.gradient_checkpointing_enable()
    own.block(torch.ones(1, 32)).sum().backward()
    assert own.block.calls == 2
    with pytest.raises(ValueError, match="has no part with an attribute gradient_checkpointing"):
        ViTPreTrainedModel(model.config).gradient_checkpointing_enable()


def test_masks_of_text_models_are_computed_as_there(model):
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    lowest = torch.finfo(torch.float32).min
    expected = torch.tensor([0.0, 0.0, lowest])[None, None, None]
    assert torch.equal(model.get_extended_attention_mask(mask, (1, 3)), expected)
    assert torch.equal(model.invert_attention_mask(mask), expected)
    assert model.get_head_mask(torch.ones(2), 3).shape == (3, 1, 2, 1, 1)
    assert model.get_head_mask(torch.ones(2), 3, is_attention_chunked=True).shape == (3, 1, 2, 1, 1, 1)


def test_embeddings_can_be_replaced(model):
    class Doubled(nn.Module):
        def __init__(self, patches):
            super().__init__()
            self.patches = patches

        def forward(self, pixel_values, interpolate_pos_encoding=False):
            return 2 * self.patches(pixel_values, interpolate_pos_encoding)

    model.eval()
    before = model.vit.embeddings(PIXELS)
    model.set_input_embeddings(Doubled(model.get_input_embeddings()))
    assert isinstance(model.get_input_embeddings(), Doubled)
    after = model.vit.embeddings(PIXELS)
    assert not torch.allclose(after[:, 1:], before[:, 1:])
    torch.testing.assert_close(after[:, 0], before[:, 0])
    assert model.get_position_embeddings() is model.vit.embeddings.position_embeddings


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model: model.resize_token_embeddings(10), "has no vocabulary"),
        (lambda model: model.resize_position_embeddings(10), "load the model with image_size"),
        (lambda model: model.to_bettertransformer(), "scaled_dot_product_attention already"),
        (lambda model: model.reverse_bettertransformer(), "was never converted"),
        (lambda model: model.dequantize(), "was not loaded quantized"),
        (lambda model: model.active_adapters(), "has no adapter; call add_adapter or load_adapter"),
        (lambda model: model.set_adapter("x"), "has no adapter"),
        (lambda model: model.disable_adapters(), "has no adapter"),
    ],
)
def test_what_makes_no_sense_says_so(model, call, words):
    with pytest.raises(ValueError, match=words):
        call(model)


def test_adapters_without_peft_name_the_package(model, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ImportError, match="pip install peft"):
        model.add_adapter(object())


def test_heads_are_counted_by_labels(model):
    assert ViTModel(model.config).base_model_prefix == "vit"
    assert ViTForMaskedImageModeling(model.config).base_model.main_input_name == "pixel_values"


def test_the_checkpointing_function_is_torchs(model):
    assert model.vit.encoder._gradient_checkpointing_func.func is checkpoint
