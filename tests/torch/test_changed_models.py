"""Models whose parts a script replaced: what is saved says so, and loads again."""

import warnings

import pytest
import torch
from torch import nn

from vit_torch import ViTForImageClassification, ViTModel
from vit_torch.modeling import ViTLayer

PIXELS = torch.linspace(-1, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)


@pytest.fixture
def model(tiny_config):
    tiny_config.initializer_range = 0.2
    return ViTForImageClassification(tiny_config).eval()


def new_classifier(model):
    model.classifier = nn.Linear(32, 10)


def no_classifier(model):
    model.classifier = nn.Identity()


def fewer_layers(model):
    model.vit.encoder.layer = model.vit.encoder.layer[:1]


def last_layers(model):
    model.prune_heads({0: [1], 1: [0, 2]})
    model.vit.encoder.layer = model.vit.encoder.layer[1:]


def without_a_layer(model):
    del model.vit.encoder.layer[0]


def more_layers(model):
    model.vit.encoder.layer.append(ViTLayer(model.config).eval())


def pruned_attention(model):
    model.vit.encoder.layer[1].attention.prune_heads({0, 3})


def other_positions(model):
    model.vit.embeddings.position_embeddings = nn.Parameter(torch.randn(1, 1 + 36, 32))
    model.vit.embeddings.patch_embeddings.image_size = (48, 48)


def other_channels(model):
    patches = model.vit.embeddings.patch_embeddings
    patches.projection = nn.Conv2d(5, 32, kernel_size=8, stride=8)
    patches.num_channels = 5


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (new_classifier, {"num_labels": 10}),
        (no_classifier, {"num_labels": 0}),
        (fewer_layers, {"num_hidden_layers": 1}),
        (last_layers, {"num_hidden_layers": 1, "pruned_heads": {0: [0, 2]}}),
        (without_a_layer, {"num_hidden_layers": 1}),
        (more_layers, {"num_hidden_layers": 3}),
        (pruned_attention, {"pruned_heads": {1: [0, 3]}}),
        (other_positions, {"image_size": 48}),
        (other_channels, {"num_channels": 5}),
    ],
)
def test_the_config_that_is_saved_follows_the_model(model, tmp_path, change, fields):
    change(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save_pretrained(tmp_path)
        again = ViTForImageClassification.from_pretrained(tmp_path)
    for name, value in fields.items():
        assert getattr(again.config, name) == value
    size = again.config.image_shape
    pixel_values = torch.linspace(-1, 1, 2 * again.config.num_channels * size[0] * size[1])
    pixel_values = pixel_values.reshape(2, again.config.num_channels, *size)
    torch.testing.assert_close(again(pixel_values).logits, model(pixel_values).logits, atol=0, rtol=0)


def test_a_changed_model_trains_before_it_is_saved(model):
    new_classifier(model)
    fewer_layers(model)
    outputs = model(PIXELS, labels=torch.tensor([9, 0]), head_mask=torch.ones(1, 4), output_attentions=True)
    outputs.loss.backward()
    assert outputs.logits.shape == (2, 10)
    assert len(outputs.attentions) == 1


def test_one_label_in_place_of_several_is_regression(model):
    model.classifier = nn.Linear(32, 1)
    loss = model(PIXELS, labels=torch.tensor([0.5, -0.5])).loss
    logits = model(PIXELS).logits.squeeze(1)
    torch.testing.assert_close(loss, (logits - torch.tensor([0.5, -0.5])).square().mean())


def test_what_no_config_gives_says_what_to_set(model, tmp_path):
    model.vit.encoder.layer[1].intermediate.dense = nn.Linear(32, 50)
    model.vit.encoder.layer[1].output.dense = nn.Linear(50, 32)
    with pytest.raises(ValueError, match=r"layer.1.intermediate.dense.weight has shape \(50, 32\).* set the fields of"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_part_that_no_class_builds_is_saved_under_its_names_with_a_warning(model, tmp_path):
    model.classifier = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5))
    with pytest.warns(UserWarning, match=r"classifier.0.bias, .*__init__ of a subclass, and call from_pretrained"):
        model.save_pretrained(tmp_path)

    class WithTwoLayers(ViTForImageClassification):
        def __init__(self, config):
            super().__init__(config)
            self.classifier = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5))

    again = WithTwoLayers.from_pretrained(tmp_path)
    torch.testing.assert_close(again(PIXELS).logits, model(PIXELS).logits, atol=0, rtol=0)


def test_weights_of_a_model_whose_parts_are_compiled_have_plain_names(model, tmp_path):
    model.vit.encoder.layer[0] = torch.compile(model.vit.encoder.layer[0], backend="eager")
    model.save_pretrained(tmp_path)
    again = ViTForImageClassification.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(again(PIXELS).logits, model(PIXELS).logits, atol=1e-6, rtol=0)


def test_parametrized_weights_are_saved_and_said(model, tmp_path):
    nn.utils.parametrizations.weight_norm(model.classifier)
    with pytest.warns(UserWarning, match=r"classifier.parametrizations.weight"):
        model.save_pretrained(tmp_path)


@pytest.mark.parametrize(
    "layer",
    [
        lambda hidden_states, *rest: hidden_states * 2,
        lambda hidden_states, *rest: (hidden_states * 2,),
        lambda hidden_states, *rest: (hidden_states * 2, None),
    ],
)
def test_a_replaced_layer_may_return_less(model, layer):
    class Replaced(nn.Module):
        def forward(self, *inputs):
            return layer(*inputs)

    model.vit.encoder.layer[0] = Replaced()
    expected = model.vit(PIXELS, output_hidden_states=True).hidden_states
    torch.testing.assert_close(expected[1], expected[0] * 2)
    assert model(PIXELS, output_attentions=True).attentions[0] is None


def test_a_replaced_attention_and_output_are_called_as_in_transformers(model):
    class Attention(nn.Module):
        def forward(self, hidden_states, head_mask=None, output_attentions=False):
            assert head_mask is None or head_mask.shape == (1, 4, 1, 1)
            return (hidden_states,)

    class Adapter(nn.Module):
        def __init__(self, output):
            super().__init__()
            self.output = output

        def forward(self, hidden_states, input_tensor):
            return self.output(hidden_states, input_tensor) + 1

    expected = model.vit(PIXELS, output_hidden_states=True).hidden_states[2]
    model.vit.encoder.layer[1].output = Adapter(model.vit.encoder.layer[1].output)
    torch.testing.assert_close(model.vit(PIXELS, output_hidden_states=True).hidden_states[2], expected + 1)
    model.vit.encoder.layer[0].attention = Attention()
    model.vit.encoder.layer[1].attention.attention = Attention()
    assert model(PIXELS, head_mask=torch.ones(2, 4)).logits.isfinite().all()


def test_a_replaced_encoder_may_return_a_tuple(model):
    class AsTuple(nn.Module):
        def __init__(self, encoder):
            super().__init__()
            self.encoder = encoder

        def forward(self, hidden_states, **options):
            return self.encoder(hidden_states, **options | {"return_dict": False})

    expected = model(PIXELS, output_hidden_states=True, output_attentions=True)
    model.vit.encoder = AsTuple(model.vit.encoder)
    torch.testing.assert_close(model(PIXELS, output_hidden_states=True, output_attentions=True), expected)
    assert list(model.vit(PIXELS, output_attentions=True)) == ["last_hidden_state", "attentions"]


def test_a_base_model_without_its_pooler_is_saved_without_it(tiny_config, tmp_path):
    model = ViTModel(tiny_config)
    model.pooler = None
    model.save_pretrained(tmp_path)
    again = ViTModel.from_pretrained(tmp_path, add_pooling_layer=False)
    torch.testing.assert_close(again.state_dict(), model.state_dict(), atol=0, rtol=0)


def test_a_classifier_reads_what_its_config_says_whatever_a_new_base_model_has(model):
    model.vit = ViTModel(model.config).eval()  # with a pooler
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images).logits, model.classifier(model.vit(images)[0][:, 0]))
