import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

import vit_tf
from vit_core.layouts import KERAS
from vit_core.position import resample_position_embeddings
from vit_tf import TFViTForImageClassification, TFViTForMaskedImageModeling, TFViTModel, ViTConfig
from vit_tf.initialization import truncated_normal
from vit_tf.modeling import ViTLayer
from vit_tf.position import resample_grid

grids = st.tuples(st.integers(1, 40), st.integers(1, 40))
MODELS = [TFViTModel, TFViTForImageClassification, TFViTForMaskedImageModeling]


def images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def assert_close(actual, expected, tolerance=1e-6):
    np.testing.assert_allclose(actual, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_variables_follow_the_table_name_by_name(tiny_config, model_class, qkv_bias):
    tiny_config.qkv_bias = qkv_bias
    model = model_class(tiny_config)
    table = model.parameter_table()
    variables = [model.get_parameter(row) for row in table]
    assert {id(variable) for variable in variables} == {id(variable) for variable in model.trainable_variables}
    shapes = [KERAS.to_canonical(row, variable.numpy()).shape for row, variable in zip(table, variables, strict=True)]
    assert shapes == [row.shape for row in table]
    assert [variable.name for variable in variables] == [KERAS.path(row)[-1] for row in table]
    paths = {variable.path for variable in variables}
    assert len(paths) == len(table)


def test_pooler_and_mask_token_are_choices(tiny_config):
    model = TFViTModel(tiny_config, add_pooling_layer=False, use_mask_token=True)
    names = [row.name for row in model.parameter_table()]
    assert "embeddings.mask_token" in names
    assert not [name for name in names if name.startswith("pooler")]
    assert len(model.trainable_variables) == len(names)
    outputs = model(images(1, 3, 32, 32), bool_masked_pos=np.ones((1, 16), bool))
    assert outputs.pooler_output is None
    assert outputs.to_tuple() == (outputs.last_hidden_state,)


def test_new_weights_start_as_the_table_says(tiny_config):
    tiny_config.initializer_range = 0.5
    model = TFViTModel(tiny_config, use_mask_token=True)
    for row in model.parameter_table():
        value = model.get_parameter(row).numpy()
        if row.initializer == "normal":
            assert np.abs(value).max() <= 2
            if row.size > 1000:
                assert 0.47 < value.std() < 0.53
        else:
            assert (value == (row.initializer == "ones")).all()


@pytest.mark.parametrize("std", [0.02, 0.5, 1.0, 2.0, 10.0])
def test_the_normal_distribution_is_cut_at_two_whatever_its_width(std):
    drawn = truncated_normal((100, 1000), std).numpy()
    assert drawn.dtype == np.float32
    assert np.abs(drawn).max() <= 2
    # Variance of a normal distribution cut at plus and minus 2 (Johnson, Kotz & Balakrishnan 1994, 13.10.1).
    cut = 2 / std
    density = np.exp(-(cut**2) / 2) / np.sqrt(2 * np.pi)
    expected = std * np.sqrt(1 - 2 * cut * density / special.erf(cut / np.sqrt(2)))
    assert abs(drawn.std() - expected) < 0.01 * expected
    assert abs(drawn.mean()) < 0.02 * expected


def test_a_normal_distribution_without_width_is_zero():
    np.testing.assert_array_equal(truncated_normal((3, 4), 0.0), np.zeros((3, 4)))


def test_the_seed_decides_the_weights(tiny_config):
    def weights(seed):
        keras.utils.set_random_seed(seed)
        return np.concatenate([weight.ravel() for weight in TFViTModel(tiny_config).get_weights()])

    np.testing.assert_array_equal(weights(1), weights(1))
    assert (weights(1) != weights(2)).any()


# Position embeddings


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=40)
@given(grids, grids)
def test_position_embeddings_are_resampled_as_the_core_defines(dtype, old_grid, new_grid):
    embeddings = np.random.default_rng(0).uniform(-1, 1, (1, 1 + old_grid[0] * old_grid[1], 3)).astype(dtype)
    patches = tf.constant(embeddings[0, 1:].reshape(*old_grid, 3))
    expected = resample_position_embeddings(embeddings, old_grid, new_grid)[0, 1:].reshape(*new_grid, 3)
    resampled = resample_grid(patches, new_grid)
    assert resampled.dtype == dtype
    assert_close(resampled, expected)


OLD_GRID = (5, 7)
EMBEDDINGS = np.random.default_rng(0).uniform(-1, 1, (1, 1 + 5 * 7, 3)).astype(np.float32)


@tf.function(input_signature=[tf.TensorSpec([None, None])])
def resampled_to_the_size_of(grid):
    return resample_grid(tf.constant(EMBEDDINGS[0, 1:].reshape(*OLD_GRID, 3)), tuple(tf.unstack(tf.shape(grid))))


@settings(max_examples=60)
@given(grids)
def test_a_graph_resamples_to_a_size_that_it_learns_when_it_runs(new_grid):
    expected = resample_position_embeddings(EMBEDDINGS, OLD_GRID, new_grid)[0, 1:].reshape(*new_grid, 3)
    assert_close(resampled_to_the_size_of(np.zeros(new_grid, np.float32)), expected)


def test_one_graph_takes_images_of_every_size(tiny_config):
    tiny_config.initializer_range = 0.2
    model = TFViTModel(tiny_config)

    @tf.function(input_signature=[tf.TensorSpec([None, 3, None, None])])
    def embedded(pixel_values):
        return model(pixel_values, interpolate_pos_encoding=True, output_hidden_states=True).hidden_states[0]

    positions = model.embeddings.position_embeddings.numpy()
    for height, width in ((32, 32), (8, 8), (40, 72), (51, 27)):
        # On a black image without biases, the tokens are the class token and the positions.
        grid = (height // 8, width // 8)
        expected = resample_position_embeddings(positions, (4, 4), grid)
        expected[:, 0] += model.embeddings.cls_token.numpy()[0]
        found = embedded(np.zeros((2, 3, height, width), np.float32))
        assert_close(found, np.broadcast_to(expected, (2, *expected.shape[1:])))


def test_interpolation_at_the_models_own_size_changes_nothing(tiny_config):
    embeddings = TFViTModel(tiny_config).embeddings
    np.testing.assert_array_equal(embeddings.interpolate_pos_encoding(None, 32, 32), embeddings.position_embeddings)


# Sizes


def test_a_non_square_model_takes_its_own_size_and_others(tiny_config):
    tiny_config.image_size, tiny_config.patch_size = (32, 60), (8, 10)
    model = TFViTForImageClassification(tiny_config)
    assert model(images(2, 3, 32, 60)).logits.shape == (2, 5)
    outputs = model(images(2, 3, 60, 32), interpolate_pos_encoding=True, output_hidden_states=True)
    assert outputs.hidden_states[0].shape == (2, 1 + 7 * 3, 32)
    with pytest.raises(ValueError, match="60 x 32 pixels do not fit a model for 32 x 60"):
        model(images(2, 3, 60, 32))


def test_masked_image_modeling_of_another_size(tiny_config):
    tiny_config.image_size = (32, 64)
    model = TFViTForMaskedImageModeling(tiny_config)
    pixel_values, mask = images(2, 3, 32, 64), np.random.default_rng(1).random((2, 32)) > 0.5
    outputs = model(pixel_values, mask)
    assert outputs.reconstruction.shape == pixel_values.shape
    pixels = np.broadcast_to(mask.reshape(2, 1, 4, 8).repeat(8, 2).repeat(8, 3), (2, 3, 32, 64))
    assert_close(outputs.loss, np.abs(outputs.reconstruction - pixel_values)[pixels].mean())
    # What is left over beside the patches of an image is neither seen nor reconstructed.
    pixel_values = images(2, 3, 51, 27)
    outputs = model(pixel_values, np.ones((2, 18)), interpolate_pos_encoding=True)
    assert outputs.reconstruction.shape == (2, 3, 48, 24)
    assert_close(outputs.loss, np.abs(outputs.reconstruction - pixel_values[..., :48, :24]).mean())
    without = model(pixel_values[..., :48, :24], np.ones((2, 18)), interpolate_pos_encoding=True)
    assert_close(outputs.reconstruction, without.reconstruction)


def test_one_graph_reconstructs_images_of_every_size(tiny_config):
    model = TFViTForMaskedImageModeling(tiny_config)

    @tf.function(input_signature=[tf.TensorSpec([None, 3, None, None]), tf.TensorSpec([None, None], tf.bool)])
    def run(pixel_values, mask):
        return model(pixel_values, mask, interpolate_pos_encoding=True)

    for height, width in ((32, 32), (51, 27)):
        pixel_values, mask = images(2, 3, height, width), np.ones((2, (height // 8) * (width // 8)), bool)
        mask[:, 1] = False
        found, expected = run(pixel_values, mask), model(pixel_values, mask, interpolate_pos_encoding=True)
        assert_close(found.reconstruction, expected.reconstruction, 1e-5)
        assert_close(found.loss, expected.loss, 1e-5)


def test_a_mask_of_nothing_costs_nothing(tiny_config):
    model = TFViTForMaskedImageModeling(tiny_config)
    assert model(images(1, 3, 32, 32), np.zeros((1, 16), bool)).loss == 0
    assert model(images(1, 3, 32, 32)).loss is None


@pytest.mark.parametrize("model_class", MODELS)
def test_channels_last_gives_the_results_of_channels_first(tiny_config, model_class):
    tiny_config.image_size, tiny_config.initializer_range = (32, 48), 0.2
    first, last = model_class(tiny_config), model_class(tiny_config, data_format="channels_last")
    last.set_weights(first.get_weights())
    options = {"output_hidden_states": True, "output_attentions": True}
    if model_class is TFViTForMaskedImageModeling:
        options["bool_masked_pos"] = np.random.default_rng(1).random((2, 24)) > 0.5
    if model_class is TFViTForImageClassification:
        options["labels"] = np.array([0, 4])
    pixel_values = images(2, 3, 32, 48)
    expected, found = first(pixel_values, **options), last(pixel_values.transpose(0, 2, 3, 1), **options)
    assert list(found.keys()) == list(expected.keys())
    if model_class is TFViTForMaskedImageModeling:
        assert found.reconstruction.shape == (2, 32, 48, 3)
        found.reconstruction = tf.transpose(found.reconstruction, (0, 3, 1, 2))
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        assert_close(one, other, 1e-5)
    assert last.image_batch_shape == (None, 32, 48, 3)
    with pytest.raises(ValueError, match="of shape .* have 48 channels, the model takes 3; channels come last"):
        last(pixel_values)


def test_channels_last_leaves_out_what_is_beside_the_patches(tiny_config):
    tiny_config.initializer_range = 0.2
    first = TFViTForMaskedImageModeling(tiny_config)
    last = TFViTForMaskedImageModeling(tiny_config, data_format="channels_last")
    last.set_weights(first.get_weights())
    pixel_values, mask = images(2, 3, 51, 27), np.arange(36).reshape(2, 18) % 2
    expected = first(pixel_values, mask, interpolate_pos_encoding=True)
    found = last(pixel_values.transpose(0, 2, 3, 1), mask, interpolate_pos_encoding=True)
    assert found.reconstruction.shape == (2, 48, 24, 3)
    assert_close(found.reconstruction.numpy().transpose(0, 3, 1, 2), expected.reconstruction, 1e-5)
    assert_close(found.loss, expected.loss, 1e-5)


def test_another_data_format_is_named(tiny_config):
    with pytest.raises(ValueError, match="data_format is 'NHWC'"):
        TFViTModel(tiny_config, data_format="NHWC")


# What the call and the config decide


def test_tuples_hold_the_same_as_outputs(tiny_config):
    pixel_values = images(2, 3, 32, 32)
    options = {"labels": np.array([0, 4]), "output_hidden_states": True, "output_attentions": True}
    model = TFViTForImageClassification(tiny_config)
    as_output, as_tuple = model(pixel_values, **options), model(pixel_values, **options, return_dict=False)
    assert isinstance(as_tuple, tuple)
    assert len(as_tuple) == len(as_output) == 4
    for one, other in zip(tf.nest.flatten(as_tuple), tf.nest.flatten(as_output.to_tuple()), strict=True):
        assert_close(one, other)
    model.config.return_dict = False
    assert isinstance(model(pixel_values), tuple)
    assert not isinstance(model(pixel_values, return_dict=True), tuple)


def test_the_config_decides_what_the_call_does_not(tiny_config):
    tiny_config.output_attentions = tiny_config.output_hidden_states = True
    model = TFViTModel(tiny_config)
    outputs = model(images(1, 3, 32, 32))
    assert (len(outputs.hidden_states), len(outputs.attentions)) == (3, 2)
    outputs = model(images(1, 3, 32, 32), output_attentions=False, output_hidden_states=False)
    assert outputs.hidden_states is None
    assert outputs.attentions is None


def test_hidden_states_and_attention_maps_come_one_without_the_other(tiny_config):
    model = TFViTModel(tiny_config)
    outputs = model(images(1, 3, 32, 32), output_hidden_states=True)
    assert (len(outputs.hidden_states), outputs.attentions) == (3, None)
    outputs = model(images(1, 3, 32, 32), output_attentions=True)
    assert (outputs.hidden_states, len(outputs.attentions)) == (None, 2)


@pytest.mark.parametrize("num_hidden_layers", [0, 1, 2])
def test_the_class_token_alone_is_what_it_is_among_all(tiny_config, num_hidden_layers):
    tiny_config.num_hidden_layers, tiny_config.pruned_heads = num_hidden_layers, {0: [1]} if num_hidden_layers else {}
    model = TFViTModel(tiny_config)
    options = {"head_mask": np.linspace(0, 1, 4), "output_attentions": True, "interpolate_pos_encoding": True}
    for pixel_values in (images(2, 3, 32, 32), images(3, 3, 24, 40)):
        everything = model(pixel_values, **options)
        alone = model(pixel_values, prefix_only=True, **options)
        assert alone.last_hidden_state.shape == (len(pixel_values), 1, 32) or not num_hidden_layers
        assert_close(alone.last_hidden_state[:, 0], everything.last_hidden_state[:, 0])
        assert_close(alone.pooler_output, everything.pooler_output)
        for one, other in zip(alone.attentions or (), everything.attentions or (), strict=True):
            assert_close(one[:, :, 0], other[:, :, 0])


def test_a_head_mask_for_one_layer_serves_all(tiny_config):
    tiny_config.initializer_range = 0.2
    model = TFViTModel(tiny_config)
    pixel_values, mask = images(1, 3, 32, 32), np.array([1, 0, 0.5, 1], np.float32)
    per_model = model(pixel_values, head_mask=mask).last_hidden_state
    per_layer = model(pixel_values, head_mask=np.broadcast_to(mask, (2, 4))).last_hidden_state
    assert_close(per_model, per_layer)
    assert np.abs(per_model - model(pixel_values).last_hidden_state).max() > 1e-3


def test_a_head_mask_counts_heads_as_before_pruning(tiny_config):
    tiny_config.initializer_range, tiny_config.pruned_heads = 0.2, {0: [1]}
    model = TFViTModel(tiny_config)
    pixel_values = images(1, 3, 32, 32)
    outputs = model(pixel_values, head_mask=np.array([[1, 0, 1, 1], [1, 1, 1, 1]]), output_attentions=True)
    assert [each.shape[1] for each in outputs.attentions] == [3, 4]
    assert_close(outputs.last_hidden_state, model(pixel_values).last_hidden_state)  # the head is not there
    masked = model(pixel_values, head_mask=np.array([[1, 1, 0, 1], [1, 1, 1, 1]]), output_attentions=True)
    assert [bool(np.any(head)) for head in masked.attentions[0][0]] == [True, False, True]


# Activations and choices of the config


def test_an_activation_may_be_a_function(tiny_config):
    tiny_config.hidden_act = tf.sin
    model = TFViTModel(tiny_config)
    assert np.isfinite(model(images(1, 3, 32, 32)).last_hidden_state).all()
    hidden_states = images(2, 32)
    intermediate = model.encoder.layer[0].intermediate
    assert_close(intermediate(hidden_states), np.sin(hidden_states @ intermediate.dense.kernel.numpy()))


def test_the_pooler_may_be_wider_and_have_another_activation(tiny_config):
    tiny_config.pooler_output_size, tiny_config.pooler_act = 7, "relu"
    pooled = TFViTModel(tiny_config)(images(2, 3, 32, 32)).pooler_output
    assert pooled.shape == (2, 7)
    assert np.all(pooled >= 0)


def test_without_labels_the_classifier_passes_the_class_token_on(tiny_config):
    tiny_config.num_labels = 0
    model, pixel_values = TFViTForImageClassification(tiny_config), images(2, 3, 32, 32)
    assert_close(model(pixel_values).logits, model.vit(pixel_values).last_hidden_state[:, 0])


def pooled_classifier(config):
    config.classifier_uses_pooler, config.pooler_output_size, config.initializer_range = True, 24, 0.2
    return TFViTForImageClassification(config)


def test_a_classifier_may_read_the_pooler(tiny_config):
    model, base, pixel_values = pooled_classifier(tiny_config), TFViTModel(tiny_config), images(2, 3, 32, 32)
    base.set_weights(model.vit.get_weights())
    kernel, bias = model.classifier.get_weights()
    expected = base(pixel_values).pooler_output @ kernel + bias
    for options in ({}, {"output_attentions": True}, {"output_hidden_states": True}):
        assert_close(model(pixel_values, **options).logits, expected, 1e-5)
    table = model.parameter_table()
    variables = {id(model.get_parameter(row)) for row in table}
    assert variables == {id(variable) for variable in model.trainable_variables}
    assert [(row.name, row.shape) for row in table[-4:-1]] == [
        ("vit.pooler.dense.weight", (24, 32)),
        ("vit.pooler.dense.bias", (24,)),
        ("classifier.weight", (5, 24)),
    ]
    assert 0.17 < np.std(model.vit.pooler.dense.kernel) < 0.23
    assert not np.any(model.vit.pooler.dense.bias)


@pytest.mark.parametrize("uses_pooler", [False, True])
def test_a_classifiers_last_layer_computes_the_class_token_alone_where_nobody_sees_the_others(
    tiny_config, uses_pooler, monkeypatch
):
    tiny_config.classifier_uses_pooler = uses_pooler
    model, call, seen = TFViTForImageClassification(tiny_config), ViTLayer.call, []

    def watched(self, *args, prefix_only=False, **kwargs):
        seen.append(prefix_only)
        return call(self, *args, prefix_only=prefix_only, **kwargs)

    monkeypatch.setattr(ViTLayer, "call", watched)
    model(images(1, 3, 32, 32))
    assert seen == [False, True]
    model(images(1, 3, 32, 32), output_attentions=True)
    assert seen[2:] == [False, False]


# Keras itself, when it writes variables.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_a_classifier_that_reads_the_pooler_comes_back_from_a_keras_file(tiny_config, tmp_path):
    model, pixel_values = pooled_classifier(tiny_config), images(2, 3, 32, 32)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.config.to_dict() == model.config.to_dict()
    np.testing.assert_array_equal(loaded(pixel_values).logits, model(pixel_values).logits)


def test_a_classifier_that_reads_the_pooler_fits_a_base_checkpoint(fixture_folder):
    folder = fixture_folder / "hf_vit_model"
    with pytest.warns(UserWarning, match="classifier.weight, classifier.bias were not in the checkpoint"):
        model, info = TFViTForImageClassification.from_pretrained(
            folder, classifier_uses_pooler=True, num_labels=3, output_loading_info=True
        )
    assert info["missing_keys"] == ["classifier.weight", "classifier.bias"]
    assert info["unexpected_keys"] == []
    pooler = TFViTModel.from_pretrained(folder).pooler
    for weight, expected in zip(model.vit.pooler.get_weights(), pooler.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_masked_image_modeling_has_no_pooler_whatever_the_classifier_uses(tiny_config):
    tiny_config.classifier_uses_pooler = True
    assert TFViTForMaskedImageModeling(tiny_config).vit.pooler is None


def test_a_model_without_layers_is_its_embeddings(tiny_config):
    tiny_config.num_hidden_layers = 0
    outputs = TFViTModel(tiny_config)(images(1, 3, 32, 32), output_hidden_states=True, output_attentions=True)
    assert len(outputs.hidden_states) == 1
    assert outputs.attentions is None


def test_dropout_acts_in_training_only(tiny_config):
    tiny_config.hidden_dropout_prob = tiny_config.attention_probs_dropout_prob = 0.5
    model, pixel_values = TFViTModel(tiny_config), images(1, 3, 32, 32)

    def result(**options):
        return model(pixel_values, **options).last_hidden_state.numpy()

    assert (result(training=True) != result(training=True)).any()
    np.testing.assert_array_equal(result(training=False), result())


def test_conveniences(tiny_config):
    model = TFViTForImageClassification(tiny_config)
    total = sum(row.size for row in model.parameter_table())
    assert model.num_parameters() == total
    model.classifier.trainable = False
    assert model.num_parameters(only_trainable=True) == total - (32 * 5 + 5)
    assert model.get_input_embeddings() is model.vit.embeddings.patch_embeddings
    assert model.vit.get_input_embeddings() is model.vit.embeddings.patch_embeddings
    assert model.image_batch_shape == (None, 3, 32, 32)
    assert (model.main_input_name, model.base_model_prefix) == ("pixel_values", "vit")


def test_dropout_has_no_parameters(tiny_config):
    tiny_config.hidden_dropout_prob = 0.5
    model = TFViTModel(tiny_config)
    assert model.num_parameters() == sum(row.size for row in model.parameter_table())


def test_something_else_than_a_config_is_named():
    with pytest.raises(TypeError, match="TFViTModel takes a ViTConfig, not a str; .* TFViTModel.from_pretrained"):
        TFViTModel("bundled/vit-digits")


def test_a_config_that_was_made_impossible_is_refused(tiny_config):
    tiny_config.hidden_size = 33
    with pytest.raises(ValueError, match="hidden_size is 33"):
        TFViTModel(tiny_config)


def test_names_without_the_prefix_are_the_same_classes():
    for model_class in MODELS:
        assert getattr(vit_tf, model_class.__name__.removeprefix("TF")) is model_class
    assert issubclass(TFViTModel, keras.Model)
    assert isinstance(ViTConfig(), TFViTModel.config_class)
