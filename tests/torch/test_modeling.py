import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from vit_core.activations import ACTIVATION_NAMES
from vit_core.position import resample_position_embeddings
from vit_torch import ViTConfig, ViTForImageClassification, ViTForMaskedImageModeling, ViTModel

grids = st.tuples(st.integers(1, 40), st.integers(1, 40))
MODELS = [ViTModel, ViTForImageClassification, ViTForMaskedImageModeling]


def images(*shape):
    return torch.randn(*shape)


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_state_dict_follows_the_table_name_by_name(tiny_config, model_class, qkv_bias):
    tiny_config.qkv_bias = qkv_bias
    model = model_class(tiny_config)
    table = [(row.name, row.shape) for row in model.parameter_table()]
    assert [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()] == table


def test_pooler_and_mask_token_are_choices(tiny_config):
    model = ViTModel(tiny_config, add_pooling_layer=False, use_mask_token=True)
    assert "embeddings.mask_token" in model.state_dict()
    assert not [name for name in model.state_dict() if name.startswith("pooler")]
    outputs = model(images(1, 3, 32, 32))
    assert outputs.pooler_output is None
    assert outputs.to_tuple() == (outputs.last_hidden_state,)


def test_new_weights_start_as_the_table_says(tiny_config):
    tiny_config.initializer_range = 0.5
    model = ViTModel(tiny_config, use_mask_token=True)
    for row in model.parameter_table():
        parameter = model.get_parameter(row.name)
        if row.initializer == "normal":
            assert parameter.abs().max() <= 2
            if row.size > 1000:
                assert 0.47 < parameter.std() < 0.53
        else:
            assert (parameter == (row.initializer == "ones")).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=40)
@given(grids, grids)
def test_position_embeddings_are_resampled_as_the_core_defines(dtype, old_grid, new_grid):
    config = ViTConfig(
        hidden_size=6,
        num_hidden_layers=0,
        num_attention_heads=1,
        intermediate_size=1,
        patch_size=(2, 3),
        image_size=(2 * old_grid[0], 3 * old_grid[1]),
    )
    embeddings = ViTModel(config).embeddings.to(dtype)
    torch.nn.init.uniform_(embeddings.position_embeddings, -1, 1)
    tokens = torch.zeros(1, 1 + new_grid[0] * new_grid[1], 6)
    resampled = embeddings.interpolate_pos_encoding(tokens, 2 * new_grid[0], 3 * new_grid[1]).detach().numpy()
    expected = resample_position_embeddings(embeddings.position_embeddings.detach().numpy(), old_grid, new_grid)
    np.testing.assert_allclose(resampled, expected, atol=1e-6, rtol=0)


@settings(max_examples=40)
@given(grids, grids)
def test_the_core_resamples_as_torch_does(old_grid, new_grid):
    grid = np.random.default_rng(0).normal(size=(1, 1 + old_grid[0] * old_grid[1], 3))
    image = torch.from_numpy(grid[:, 1:]).reshape(1, *old_grid, 3).permute(0, 3, 1, 2)
    reference = functional.interpolate(image, size=new_grid, mode="bicubic", align_corners=False)
    expected = reference.permute(0, 2, 3, 1).reshape(1, -1, 3).numpy()
    resampled = resample_position_embeddings(grid, old_grid, new_grid)[:, 1:]
    np.testing.assert_allclose(resampled, expected, atol=1e-6, rtol=0)


def test_interpolation_at_the_models_own_size_changes_nothing(tiny_config):
    model = ViTModel(tiny_config)
    positions = model.embeddings.interpolate_pos_encoding(torch.zeros(1, 17, 32), 32, 32)
    assert torch.equal(positions, model.embeddings.position_embeddings)


def test_a_non_square_model_takes_its_own_size_and_others(tiny_config):
    tiny_config.image_size, tiny_config.patch_size = (32, 60), (8, 10)
    model = ViTForImageClassification(tiny_config).eval()
    assert model(images(2, 3, 32, 60)).logits.shape == (2, 5)
    outputs = model(images(2, 3, 60, 32), interpolate_pos_encoding=True, output_hidden_states=True)
    assert outputs.hidden_states[0].shape == (2, 1 + 7 * 3, 32)


def test_masked_image_modeling_of_another_size(tiny_config):
    tiny_config.image_size = (32, 64)
    model = ViTForMaskedImageModeling(tiny_config).eval()
    pixel_values, mask = images(2, 3, 32, 64), torch.rand(2, 32) > 0.5
    outputs = model(pixel_values, mask)
    assert outputs.reconstruction.shape == pixel_values.shape
    pixels = mask.reshape(2, 1, 4, 8).repeat_interleave(8, 2).repeat_interleave(8, 3).expand(2, 3, 32, 64)
    error = (outputs.reconstruction - pixel_values).abs()[pixels].mean()
    torch.testing.assert_close(outputs.loss, error)
    # What is left over beside the patches of an image is neither seen nor reconstructed.
    outputs = model(images(2, 3, 51, 27), torch.ones(2, 18), interpolate_pos_encoding=True)
    assert outputs.reconstruction.shape == (2, 3, 48, 24)
    assert outputs.loss > 0


def test_a_mask_of_nothing_costs_nothing(tiny_config):
    model = ViTForMaskedImageModeling(tiny_config)
    assert model(images(1, 3, 32, 32), torch.zeros(1, 16, dtype=torch.bool)).loss == 0
    assert model(images(1, 3, 32, 32)).loss is None


def test_tuples_hold_the_same_as_outputs(tiny_config):
    pixel_values = images(2, 3, 32, 32)
    options = {"labels": torch.tensor([0, 4]), "output_hidden_states": True, "output_attentions": True}
    model = ViTForImageClassification(tiny_config).eval()
    as_output, as_tuple = model(pixel_values, **options), model(pixel_values, **options, return_dict=False)
    assert isinstance(as_tuple, tuple)
    assert len(as_tuple) == len(as_output) == 4
    torch.testing.assert_close(as_tuple, as_output.to_tuple())
    model.config.return_dict = False
    assert isinstance(model(pixel_values), tuple)


def test_the_config_decides_what_the_call_does_not(tiny_config):
    tiny_config.output_attentions = tiny_config.output_hidden_states = True
    model = ViTModel(tiny_config)
    outputs = model(images(1, 3, 32, 32))
    assert (len(outputs.hidden_states), len(outputs.attentions)) == (3, 2)
    outputs = model(images(1, 3, 32, 32), output_attentions=False, output_hidden_states=False)
    assert outputs.hidden_states is None
    assert outputs.attentions is None


def test_a_head_mask_for_one_layer_serves_all(tiny_config):
    model = ViTModel(tiny_config).eval()
    pixel_values, mask = images(1, 3, 32, 32), torch.tensor([1.0, 0.0, 0.5, 1.0])
    per_model = model(pixel_values, head_mask=mask).last_hidden_state
    per_layer = model(pixel_values, head_mask=mask.expand(2, 4)).last_hidden_state
    torch.testing.assert_close(per_model, per_layer)
    assert not torch.allclose(per_model, model(pixel_values).last_hidden_state)


def test_attention_can_be_switched_on_a_built_model(tiny_config):
    model = ViTModel(tiny_config).eval()
    pixel_values = images(1, 3, 32, 32)
    sdpa = model(pixel_values).last_hidden_state
    model.config.attn_implementation = "eager"
    torch.testing.assert_close(model(pixel_values).last_hidden_state, sdpa)


@pytest.mark.parametrize("hidden_act", ACTIVATION_NAMES)
def test_a_model_can_be_pickled_and_copied(tiny_config, hidden_act):
    tiny_config.hidden_act = hidden_act
    model, pixel_values = ViTForImageClassification(tiny_config).eval(), images(1, 3, 32, 32)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        torch.testing.assert_close(other(pixel_values).logits, model(pixel_values).logits)


def test_an_activation_may_be_a_function(tiny_config):
    tiny_config.hidden_act = torch.sin
    assert ViTModel(tiny_config)(images(1, 3, 32, 32)).last_hidden_state.isfinite().all()


def test_the_pooler_may_be_wider_and_have_another_activation(tiny_config):
    tiny_config.pooler_output_size, tiny_config.pooler_act = 7, "relu"
    pooled = ViTModel(tiny_config)(images(2, 3, 32, 32)).pooler_output
    assert pooled.shape == (2, 7)
    assert (pooled >= 0).all()


def test_without_labels_the_classifier_passes_the_class_token_on(tiny_config):
    tiny_config.num_labels = 0
    outputs = ViTForImageClassification(tiny_config).eval()(images(2, 3, 32, 32))
    assert outputs.logits.shape == (2, 32)


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
def test_a_classifier_may_read_the_pooler(tiny_config, attn_implementation):
    tiny_config.classifier_uses_pooler, tiny_config.pooler_output_size, tiny_config.initializer_range = True, 24, 0.2
    tiny_config.attn_implementation = attn_implementation
    model, base, pixel_values = (
        ViTForImageClassification(tiny_config).eval(),
        ViTModel(tiny_config),
        images(2, 3, 32, 32),
    )
    base.load_state_dict(model.vit.state_dict())
    expected = functional.linear(base.eval()(pixel_values).pooler_output, *model.classifier.parameters())
    for options in ({}, {"output_attentions": True}, {"output_hidden_states": True}):
        torch.testing.assert_close(model(pixel_values, **options).logits, expected, atol=1e-5, rtol=0)
    assert model.classifier.weight.shape == (5, 24)
    table = [(row.name, row.shape) for row in model.parameter_table()]
    assert [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()] == table
    assert table[-4:-2] == [("vit.pooler.dense.weight", (24, 32)), ("vit.pooler.dense.bias", (24,))]
    assert 0.17 < model.vit.pooler.dense.weight.std() < 0.23
    assert (model.vit.pooler.dense.bias == 0).all()


def test_a_classifier_that_reads_the_pooler_fits_a_base_checkpoint(fixture_folder):
    folder = fixture_folder / "hf_vit_model"
    with pytest.warns(UserWarning, match="classifier.weight, classifier.bias were not in the checkpoint"):
        model, info = ViTForImageClassification.from_pretrained(
            folder, classifier_uses_pooler=True, num_labels=3, output_loading_info=True
        )
    assert info["missing_keys"] == ["classifier.weight", "classifier.bias"]
    assert info["unexpected_keys"] == []
    pooler = ViTModel.from_pretrained(folder).pooler
    torch.testing.assert_close(model.vit.pooler.state_dict(), pooler.state_dict(), atol=0, rtol=0)


def test_masked_image_modeling_has_no_pooler_whatever_the_classifier_uses(tiny_config):
    tiny_config.classifier_uses_pooler = True
    assert ViTForMaskedImageModeling(tiny_config).vit.pooler is None


def test_dropout_acts_in_training_only(tiny_config):
    tiny_config.hidden_dropout_prob = tiny_config.attention_probs_dropout_prob = 0.5
    model, pixel_values = ViTModel(tiny_config), images(1, 3, 32, 32)
    model.train()
    assert not torch.equal(model(pixel_values).last_hidden_state, model(pixel_values).last_hidden_state)
    model.eval()
    assert torch.equal(model(pixel_values).last_hidden_state, model(pixel_values).last_hidden_state)


def test_conveniences(tiny_config):
    model = ViTForImageClassification(tiny_config)
    total = sum(row.size for row in model.parameter_table())
    assert model.num_parameters() == total
    assert model.num_parameters(exclude_embeddings=True) == total  # nothing is looked up in a table
    model.classifier.requires_grad_(False)
    assert model.num_parameters(only_trainable=True) == total - (32 * 5 + 5)
    assert model.get_input_embeddings() is model.vit.embeddings.patch_embeddings
    assert model.base_model is model.vit
    assert model.vit.base_model is model.vit
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    assert model.half().dtype == torch.float16


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((3, 32, 32), {}, r"shape \(3, 32, 32\); they need \(batch, channels, height, width\)"),
        ((1, 1, 32, 32), {}, "have 1 channels, the model takes 3"),
        ((1, 32, 32, 3), {}, "have 32 channels, the model takes 3; channels come first"),
        ((1, 3, 48, 32), {}, "48 x 32 pixels do not fit a model for 32 x 32; .* interpolate_pos_encoding=True"),
        ((1, 3, 4, 32), {"interpolate_pos_encoding": True}, "4 x 32 pixels are smaller than one patch of 8 x 8"),
        (
            (1, 3, 32, 32),
            {"head_mask": torch.ones(3)},
            r"head_mask has shape \(3,\); the model takes \(4,\) or \(2, 4\)",
        ),
        ((1, 3, 32, 32), {"bool_masked_pos": torch.ones(1, 16)}, "needs a mask token; .* use_mask_token=True"),
    ],
)
def test_inputs_that_do_not_fit_are_named(tiny_config, shape, options, words):
    with pytest.raises(ValueError, match=words):
        ViTModel(tiny_config)(torch.zeros(shape), **options)


@pytest.mark.parametrize("model_class", MODELS)
def test_missing_images_are_named(tiny_config, model_class):
    with pytest.raises(ValueError, match="pixel_values are missing"):
        model_class(tiny_config)()


def test_a_mask_of_the_wrong_shape_is_named(tiny_config):
    with pytest.raises(ValueError, match=r"shape \(2, 15\); one entry for each patch is needed, \(2, 16\)"):
        ViTForMaskedImageModeling(tiny_config)(images(2, 3, 32, 32), torch.ones(2, 15))


def test_patches_that_the_decoder_cannot_reconstruct_are_named(tiny_config):
    tiny_config.encoder_stride = 16
    with pytest.raises(
        ValueError, match="patch_size is 8 and encoder_stride 16; with bool_masked_pos they must be equal"
    ):
        ViTForMaskedImageModeling(tiny_config)(images(1, 3, 32, 32), torch.ones(1, 16))


def test_something_else_than_a_config_is_named():
    with pytest.raises(TypeError, match="ViTModel takes a ViTConfig, not a str; .* ViTModel.from_pretrained"):
        ViTModel("bundled/vit-digits")
