"""The numbers of transformers and of Google's own code, to 1e-5 in float32."""

import pytest
import torch

from vit_torch import ViTForImageClassification

TOLERANCE = 1e-5

CLASSIFIERS = [
    "hf_vit_classifier",
    "hf_vit_regression",
    "hf_vit_multilabel",
    "hf_vit_sharded",
    "hf_vit_variant_dropout_config",
    "hf_vit_variant_gelu_new_eps",
    "hf_vit_variant_gray_selu",
    "hf_vit_variant_no_qkv_bias_relu",
]

pytestmark = pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])


def assert_close(actual, expected):
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_logits(load, name, attn_implementation):
    model, expected = load(name, attn_implementation=attn_implementation)
    assert_close(model(expected["pixel_values"]).logits, expected["logits"])


@pytest.mark.parametrize("name", ["hf_vit_classifier", "hf_vit_regression", "hf_vit_multilabel"])
def test_the_three_losses(load, name, attn_implementation):
    model, expected = load(name, attn_implementation=attn_implementation)
    assert_close(model(expected["pixel_values"], labels=expected["labels"]).loss, expected["loss"])


@pytest.mark.parametrize("name", ["hf_vit_classifier", "hf_vit_model"])
def test_every_hidden_state_and_attention_map(load, name, attn_implementation):
    model, expected = load(name, attn_implementation=attn_implementation)
    outputs = model(expected["pixel_values"], output_hidden_states=True, output_attentions=True)
    assert len(outputs.hidden_states) == 4
    for index, hidden_states in enumerate(outputs.hidden_states):
        assert_close(hidden_states, expected[f"hidden_states.{index}"])
    assert len(outputs.attentions) == 3
    for index, attentions in enumerate(outputs.attentions):
        assert_close(attentions, expected[f"attentions.{index}"])


def test_hidden_states_alone(load, attn_implementation):
    model, expected = load("hf_vit_classifier", attn_implementation=attn_implementation)
    outputs = model(expected["pixel_values"], output_hidden_states=True)
    assert outputs.attentions is None
    for index, hidden_states in enumerate(outputs.hidden_states):
        assert_close(hidden_states, expected[f"hidden_states.{index}"])


def test_last_hidden_state_and_pooler(load, attn_implementation):
    model, expected = load("hf_vit_model", attn_implementation=attn_implementation)
    outputs = model(expected["pixel_values"])
    assert_close(outputs.last_hidden_state, expected["last_hidden_state"])
    assert_close(outputs.pooler_output, expected["pooler_output"])


@pytest.mark.parametrize("size", ["large", "small"])
def test_logits_of_images_of_another_size(load, size, attn_implementation):
    model, expected = load("hf_vit_classifier", attn_implementation=attn_implementation)
    outputs = model(expected[f"pixel_values_{size}"], interpolate_pos_encoding=True)
    assert_close(outputs.logits, expected[f"{size}/logits"])


def test_logits_with_a_head_mask(load, attn_implementation):
    model, expected = load("hf_vit_classifier", attn_implementation=attn_implementation)
    assert_close(model(expected["pixel_values"], head_mask=expected["head_mask"]).logits, expected["head_mask/logits"])


def test_masked_image_modeling(load, attn_implementation):
    model, expected = load("hf_vit_masked", attn_implementation=attn_implementation)
    outputs = model(expected["pixel_values"], bool_masked_pos=expected["bool_masked_pos"])
    assert_close(outputs.reconstruction, expected["reconstruction"])
    assert_close(outputs.loss, expected["loss"])


@pytest.mark.parametrize(("name", "target"), [("hf_vit_classifier", "labels"), ("hf_vit_masked", "bool_masked_pos")])
def test_the_gradient_of_every_parameter(load, name, target, attn_implementation):
    model, expected = load(name, attn_implementation=attn_implementation)
    model(expected["pixel_values"], **{target: expected[target]}).loss.backward()
    gradients = {key.removeprefix("grad/"): value for key, value in expected.items() if key.startswith("grad/")}
    assert gradients.keys() == dict(model.named_parameters()).keys()
    largest_of_all = max(gradient.abs().max() for gradient in gradients.values())
    for parameter_name, parameter in model.named_parameters():
        reference = gradients[parameter_name]
        # Softmax does not change when the same is added to all scores, so a key bias has no gradient but rounding.
        is_rounding = parameter_name.endswith("key.bias")
        largest = 0.01 * largest_of_all if is_rounding else reference.abs().max()
        assert (parameter.grad - reference).abs().max() <= TOLERANCE * largest, parameter_name


def test_logits_of_googles_classifier_on_a_representation_layer(google_representation, attn_implementation):
    folder, expected = google_representation
    model = ViTForImageClassification.from_pretrained(folder, attn_implementation=attn_implementation)
    logits = model(torch.from_numpy(expected["pixel_values"])).logits
    assert_close(logits, torch.from_numpy(expected["logits"]))


def test_a_classifier_without_labels_returns_the_pooler_output(load, fixture_folder, attn_implementation):
    _, expected = load("hf_vit_model")
    model, info = ViTForImageClassification.from_pretrained(
        fixture_folder / "hf_vit_model",
        classifier_uses_pooler=True,
        num_labels=0,
        attn_implementation=attn_implementation,
        output_loading_info=True,
    )
    assert not any(info.values())
    assert_close(model(expected["pixel_values"]).logits, expected["pooler_output"])
