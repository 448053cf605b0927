"""Parts of the model by themselves, with the arguments and results that scripts for transformers know."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from vit_tf import TFBaseModelOutput, TFViTForImageClassification, TFViTForMaskedImageModeling, TFViTModel, modeling
from vit_tf.parts import by_rows

# Keras itself, when it writes variables; and what it thinks of HDF5.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]

IMAGES = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
HIDDEN = np.random.default_rng(1).normal(size=(2, 17, 32)).astype(np.float32)


@pytest.mark.parametrize("name", ["TFViTLayer", "TFViTAttention", "TFViTSelfAttention"])
def test_a_part_takes_and_returns_hidden_states(tiny_config, name):
    part = getattr(modeling, name)(tiny_config)
    (hidden_states,) = part(HIDDEN, None, False)
    again, attentions = part(HIDDEN, head_mask=None, output_attentions=True, training=False)
    np.testing.assert_array_equal(hidden_states, again)
    assert hidden_states.shape == (2, 17, 32)
    np.testing.assert_allclose(np.sum(attentions, -1), np.ones((2, 4, 17)), atol=1e-6)


@pytest.mark.parametrize("batch", [None, 2])
def test_parts_make_a_functional_model(tiny_config, batch, tmp_path):
    hidden_states = layers.Input(batch_shape=(batch, 17, 32))
    layer, pooler = modeling.TFViTLayer(tiny_config, name="first"), modeling.TFViTPooler(tiny_config)
    (states,) = layer(hidden_states, None, False)
    states, attentions = modeling.TFViTAttention(tiny_config)(states, output_attentions=True)
    states = modeling.TFViTOutput(tiny_config)(modeling.TFViTIntermediate(tiny_config)(states), states)
    states = modeling.TFViTEncoder(tiny_config)(states)[0]
    model = keras.Model(hidden_states, [pooler(states), attentions])
    assert model.output_shape == [(batch, 32), (batch, 4, 17, 17)]
    model.compile("sgd", loss=["mse", None])
    before = layer.attention.attention.query.kernel.numpy()
    model.fit(HIDDEN, np.ones((2, 32)), verbose=0)
    assert np.any(layer.attention.attention.query.kernel.numpy() != before)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(HIDDEN)[0], model(HIDDEN)[0])


def test_parts_alone_start_at_random(tiny_config):
    for name in ("TFViTLayer", "TFViTEmbeddings", "TFViTPooler", "TFViTEncoder"):
        part = getattr(modeling, name)(tiny_config)
        part(IMAGES if name == "TFViTEmbeddings" else HIDDEN)
        kernels = [weight for weight in part.weights if weight.name in ("kernel", "cls_token", "position_embeddings")]
        assert kernels
        assert all(0.01 < np.std(kernel) < 0.03 for kernel in kernels)


def test_halves_of_the_mlp_and_of_attention_take_their_residual(tiny_config):
    wide = np.ones((2, 17, tiny_config.intermediate_size), np.float32)
    intermediate = modeling.TFViTIntermediate(tiny_config)(HIDDEN)
    assert intermediate.shape == (2, 17, tiny_config.intermediate_size)
    output = modeling.TFViTOutput(tiny_config)
    np.testing.assert_allclose(output(wide, HIDDEN), output(wide) + HIDDEN, atol=1e-6)
    attended = modeling.TFViTSelfOutput(tiny_config)
    np.testing.assert_array_equal(attended(HIDDEN, HIDDEN), attended(HIDDEN))


def test_attention_knows_its_sizes(tiny_config):
    attention = TFViTModel(tiny_config).vit.encoder.layer[0].attention.attention
    assert (attention.num_attention_heads, attention.attention_head_size, attention.all_head_size) == (4, 8, 32)
    split = attention.transpose_for_scores(HIDDEN, 2)
    np.testing.assert_array_equal(split[:, 1, :, 0], HIDDEN[:, :, 8])


def test_the_layers_one_by_one_are_the_model(tiny_config):
    model = TFViTModel(tiny_config)
    hidden_states = model.vit.embeddings(IMAGES)
    for layer in model.vit.encoder.layer:
        hidden_states = layer(hidden_states)[0]
    np.testing.assert_allclose(model.layernorm(hidden_states), model(IMAGES).last_hidden_state, atol=1e-5)


def test_parts_take_their_input_by_the_name_that_transformers_gives_it(tiny_config):
    (states,) = modeling.TFViTAttention(tiny_config)(input_tensor=HIDDEN, head_mask=None, output_attentions=False)
    assert modeling.TFViTLayer(tiny_config)(hidden_states=states, training=True)[0].shape == states.shape


def test_a_part_is_copied_with_its_weights(tiny_config):
    layer = TFViTModel(tiny_config).encoder.layer[0]
    np.testing.assert_array_equal(copy.deepcopy(layer)(HIDDEN)[0], layer(HIDDEN)[0])


def test_the_encoder_returns_an_output_or_a_tuple(tiny_config):
    model = TFViTModel(tiny_config)
    options = {"head_mask": [None, None], "output_attentions": True, "output_hidden_states": True}
    output = model.encoder(HIDDEN, **options, return_dict=True)
    assert type(output) is TFBaseModelOutput
    assert list(output) == ["last_hidden_state", "hidden_states", "attentions"]
    as_tuple = model.encoder(HIDDEN, **options, return_dict=False)
    np.testing.assert_array_equal(as_tuple[0], output.last_hidden_state)
    assert (len(as_tuple[1]), len(as_tuple[2])) == (3, 2)


def test_positions_for_other_images(tiny_config):
    embeddings = TFViTModel(tiny_config).embeddings
    assert embeddings.interpolate_pos_encoding(HIDDEN, 48, 64).shape == (1, 1 + 6 * 8, 32)


# TFViTModel.vit


def test_vit_is_the_model_itself(tiny_config):
    model = TFViTModel(tiny_config)
    assert model.vit is model
    np.testing.assert_array_equal(model.vit(IMAGES)[0], model(IMAGES).last_hidden_state)
    with pytest.raises(AttributeError, match="has no 'bert'"):
        _ = model.bert


def test_vit_in_a_functional_model(tiny_config, tmp_path):
    TFViTForImageClassification(tiny_config).save_pretrained(tmp_path / "vit")
    with pytest.warns(UserWarning, match="pooler"):
        base = TFViTModel.from_pretrained(tmp_path / "vit")
    base.vit.trainable = False
    pixels = layers.Input(shape=(3, 32, 32), name="pixel_values", dtype="float32")
    outputs = layers.Dense(3, activation="softmax")(base.vit(pixels)[0][:, 0, :])
    model = keras.Model(inputs=pixels, outputs=outputs)
    model.compile("sgd", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(IMAGES, np.array([0, 2]), verbose=0)
    assert len(model.trainable_weights) == 2
    for name in ("model.keras", "model.h5"):
        model.save(tmp_path / name)
        np.testing.assert_array_equal(keras.saving.load_model(tmp_path / name)(IMAGES), model(IMAGES))


def test_weights_are_stored_once_in_a_keras_file(tiny_config, tmp_path):
    import h5py

    TFViTModel(tiny_config).save_weights(tmp_path / "model.weights.h5")
    found = []
    with h5py.File(tmp_path / "model.weights.h5") as file:
        file.visititems(lambda name, item: found.append(item.size) if isinstance(item, h5py.Dataset) else None)
    assert sum(found) == TFViTModel(tiny_config).num_parameters()


def test_a_model_goes_through_an_hdf5_file(tiny_config, tmp_path):
    model = TFViTForImageClassification(tiny_config)
    model.save(tmp_path / "model.h5")
    again = keras.saving.load_model(tmp_path / "model.h5")
    np.testing.assert_array_equal(again(IMAGES).logits, model(IMAGES).logits)


def test_parts_have_the_names_that_scripts_for_transformers_use(tiny_config):
    model = TFViTModel(tiny_config)
    layer = model.vit.encoder.layer[0]
    assert layer.attention.self_attention is layer.attention.attention
    assert layer.attention.dense_output is layer.attention.output_
    assert layer.vit_output is layer.output_
    assert model.vit.embeddings.patch_embeddings.num_patches == 16
    layer.attention.self_attention = other = modeling.TFViTSelfAttention(tiny_config)
    assert layer.attention.attention is other
    with pytest.raises(AttributeError, match="ViTLayer has no 'bert'"):
        _ = layer.bert


def test_tensorflows_checkpoints_hold_all_variables(tiny_config, tmp_path):
    model, other = TFViTForMaskedImageModeling(tiny_config), TFViTForMaskedImageModeling(tiny_config)
    for each in (model, other):
        each.heads = {"color": layers.Dense(2), "digit": [layers.Dense(3)]}
        each.heads["color"].build((None, 32))
        each.heads["digit"][0].build((None, 32))
    assert len(model.weights) == len(TFViTForMaskedImageModeling(tiny_config).weights) + 4
    path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    tf.train.Checkpoint(model=other).restore(path).assert_existing_objects_matched()
    for variable, expected in zip(other.weights, model.weights, strict=True):
        np.testing.assert_array_equal(variable, expected)


def test_a_graph_has_no_operation_for_a_size_that_it_knows():
    tokens = tf.reshape(tf.range(24.0), (2, 3, 4))
    for shape, is_known in [((2, 3, 4), True), ((None, 3, 4), True), ((None, None, 4), False), ((None,) * 3, False)]:
        doubled = tf.function(
            lambda tokens: by_rows(lambda rows: 2 * tf.ensure_shape(rows, (None, 4)), tokens),
            input_signature=[tf.TensorSpec(shape)],
        )
        names = {operation.name for operation in doubled.get_concrete_function().graph.get_operations()}
        assert ("Shape" in names) != is_known
        np.testing.assert_array_equal(doubled(tokens), 2 * tokens)
