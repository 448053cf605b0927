"""What a forward pass leaves out, or writes over, where nobody sees it: the numbers are the same."""

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

import vit_torch
from vit_torch.modeling import ViTEncoder, ViTLayer, ViTModel, ViTSelfAttention

PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32).sin()
TOLERANCE = 1e-5


@pytest.fixture
def model(tiny_config):
    tiny_config.initializer_range = 0.2
    return vit_torch.ViTForImageClassification(tiny_config).eval()


def seen_by_hooks(module):
    """The shapes of what a module returns from now on."""
    shapes = []

    def see(module, inputs, output):
        shapes.append(tuple((output if isinstance(output, torch.Tensor) else output[0]).shape))

    module.register_forward_hook(see)
    return shapes


@pytest.mark.parametrize("options", [{"output_attentions": True}, {"output_hidden_states": True}])
def test_who_asks_for_more_gets_all_tokens(model, options):
    outputs = model(PIXELS, **options)
    given = outputs.attentions or outputs.hidden_states
    assert given[-1].shape[-2] == 17
    model.config.update(options)
    given = model(PIXELS).attentions or model(PIXELS).hidden_states
    assert given[-1].shape[-2] == 17


PLACES = {
    "base model": "vit",
    "encoder": "vit.encoder",
    "layer": "vit.encoder.layer.1",
    "attention": "vit.encoder.layer.1.attention",
    "projection": "vit.encoder.layer.1.attention.attention.query",
    "activation": "vit.encoder.layer.1.intermediate.intermediate_act_fn",
    "norm": "vit.layernorm",
}


@pytest.mark.parametrize("place", PLACES)
def test_hooks_see_all_tokens(model, place):
    expected = model(PIXELS).logits
    shapes = seen_by_hooks(model.get_submodule(PLACES[place]))
    torch.testing.assert_close(model(PIXELS).logits, expected, rtol=0, atol=TOLERANCE)
    assert [shape[1] for shape in shapes] == [17]


def on_gradients(model, seen):
    model.vit.encoder.layer[1].register_full_backward_hook(lambda module, to, of: seen.append(of[0].shape[1]))


def before(model, seen):
    model.vit.encoder.layer[1].output.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[1]))


def in_its_place(model, seen):
    dense = model.vit.encoder.layer[1].output.dense
    forward = dense.forward
    dense.forward = lambda given: seen.append(given.shape[1]) or forward(given)


@pytest.mark.parametrize("watch", [on_gradients, before, in_its_place])
def test_other_ways_to_look_see_all_tokens(model, watch):
    seen = []
    watch(model, seen)
    model(PIXELS).logits.sum().backward()
    assert seen == [17]


def test_hooks_of_all_modules_see_all_tokens(model):
    seen = []
    handle = register_module_forward_hook(
        lambda module, given, output: seen.append(output[0].shape[1]) if isinstance(module, ViTLayer) else None
    )
    model(PIXELS)
    handle.remove()
    assert seen == [17, 17]


class AllTokens(nn.Module):
    """A part that reads all tokens, or that knows nothing of `prefix_only`."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, hidden_states, *inputs):
        assert hidden_states.shape[1] == 17
        returned = self.part(hidden_states, *inputs)
        return returned + hidden_states.mean(1, keepdim=True).mean() if torch.is_tensor(returned) else returned


class Subclass(nn.Linear):
    def forward(self, given):
        assert given.shape[1] == 17
        return super().forward(given)


def own_mlp(model):
    model.vit.encoder.layer[1].intermediate = AllTokens(model.vit.encoder.layer[1].intermediate)


def own_layer(model):
    model.vit.encoder.layer[1] = AllTokens(model.vit.encoder.layer[1])


def own_attention(model):
    model.vit.encoder.layer[1].attention.attention = AllTokens(model.vit.encoder.layer[1].attention.attention)


def own_projection(model):
    model.vit.encoder.layer[1].attention.attention.query = Subclass(32, 32)


def own_base_model(model):
    class Base(ViTModel):
        def forward(self, pixel_values, *, return_dict=True, **options):
            assert not options.get("prefix_only")
            return super().forward(pixel_values, return_dict=return_dict)

    model.vit = Base(model.config, add_pooling_layer=False)


def own_encoder(model):
    class Encoder(ViTEncoder):
        def forward(self, hidden_states, head_mask, output_attentions, output_hidden_states, return_dict):
            return super().forward(hidden_states)

    model.vit.encoder = Encoder(model.config)


def no_layers(model):
    model.vit.encoder.layer = nn.ModuleList()


@pytest.mark.parametrize(
    "replace", [own_mlp, own_layer, own_attention, own_projection, own_base_model, own_encoder, no_layers]
)
def test_parts_of_a_script_get_all_tokens(model, replace):
    replace(model)
    logits = model(PIXELS).logits
    torch.testing.assert_close(logits, model.classifier(model.vit(PIXELS)[0][:, 0]), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "quick_gelu", "silu", "relu"])
def test_activations_that_write_over_projections_give_the_same(tiny_config, hidden_act):
    tiny_config.hidden_act = hidden_act
    model = ViTModel(tiny_config).eval()
    expected = model(PIXELS).last_hidden_state
    expected.sum().backward()  # gradients need the projections
    for without_gradients in (torch.no_grad, torch.inference_mode):
        with without_gradients():
            torch.testing.assert_close(model(PIXELS).last_hidden_state, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("part", ["dense", "intermediate_act_fn"])
def test_a_projection_that_a_hook_keeps_is_not_written_over(model, part):
    kept, copies = [], []

    def keep(module, given, output):
        kept.extend([*given, output])
        copies.extend([given[0].clone(), output.clone()])

    getattr(model.vit.encoder.layer[0].intermediate, part).register_forward_hook(keep)
    with torch.no_grad():
        model(PIXELS)
    for tensor, copy in zip(kept, copies, strict=True):
        torch.testing.assert_close(tensor, copy, rtol=0, atol=0)


def test_an_identity_is_not_written_over(model):
    layer = model.vit.encoder.layer[0]
    layer.intermediate.dense, layer.layernorm_after = nn.Identity(), nn.Identity()
    layer.output.dense = nn.Linear(32, 32)
    with torch.no_grad():
        handle = layer.intermediate.dense.register_forward_hook(lambda module, given, output: output.clone())
        expected = model(PIXELS).logits
        handle.remove()
        torch.testing.assert_close(model(PIXELS).logits, expected, rtol=0, atol=TOLERANCE)


def test_attention_of_a_script_is_called_as_before(tiny_config):
    class Counting(ViTSelfAttention):
        def forward(self, hidden_states, head_mask=None, output_attentions=False):
            assert hidden_states.shape[1] == 17
            return super().forward(hidden_states, head_mask, output_attentions)

    model = vit_torch.ViTForImageClassification(tiny_config).eval()
    expected = model(PIXELS).logits
    for layer in model.vit.encoder.layer:
        own = Counting(tiny_config)
        own.load_state_dict(layer.attention.attention.state_dict())
        layer.attention.attention = own
    torch.testing.assert_close(model(PIXELS).logits, expected, rtol=0, atol=TOLERANCE)
