"""Models that people build on ours, and models of ours whose parts they replace."""

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from safetensors import safe_open

from vit_core import ViTConfig
from vit_tf import TFViTForImageClassification, TFViTModel, TFViTPreTrainedModel
from vit_tf.modeling import TFViTMainLayer, ViTLayer

# Keras itself, when it writes variables.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

IMAGES = np.random.default_rng(0).normal(size=(4, 3, 32, 32)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0])


class WithHead(TFViTPreTrainedModel):
    """As scripts for transformers build on its models: the layer, and a head of their own."""

    def __init__(self, config, classes=4, *inputs, **kwargs):
        super().__init__(config, *inputs, **kwargs)
        self.vit = TFViTMainLayer(config, add_pooling_layer=False, name="vit")
        self.head = layers.Dense(classes, name="head")

    def call(self, pixel_values=None, training=False, **kwargs):
        return self.head(self.vit(pixel_values, training=training, **kwargs)[0][:, 0])


class WithHeads(TFViTPreTrainedModel):
    """Another name for the base model, variables that are not trained, lists, and parts in parts."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.backbone = TFViTModel(config, name="backbone")
        self.norm = layers.BatchNormalization()
        self.heads = [layers.Dense(3), keras.Sequential([layers.Dense(5), layers.Dense(2)])]

    def call(self, pixel_values, training=False):
        pooled = self.norm(self.backbone(pixel_values, training=training).pooler_output, training=training)
        return tuple(head(pooled) for head in self.heads)


class WithFeatures(TFViTForImageClassification):
    """One of our models with another head and a layer more."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.classifier = keras.Sequential([layers.Dense(16), layers.Dense(config.num_labels)])
        self.features = layers.Dense(6)

    def call(self, pixel_values, **kwargs):
        output = super().call(pixel_values, **kwargs)
        output["features"] = self.features(output.logits)
        return output


class WideConfig(ViTConfig):
    model_type = "wide-vit"

    def __init__(self, classes=2, **kwargs):
        super().__init__(**kwargs)
        self.classes = classes


class Wide(TFViTPreTrainedModel):
    config_class = WideConfig

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.vit = TFViTModel(config, name="vit")
        self.head = layers.Dense(config.classes)

    def call(self, inputs):
        return self.head(self.vit(inputs["pixel_values"])[1])


def assert_same(found, expected):
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def names_in(folder):
    with safe_open(folder / "model.safetensors", "np") as file:
        return set(file.keys())


@pytest.mark.parametrize("subclass", [WithHead, WithHeads, WithFeatures])
def test_a_subclass_is_saved_and_loaded_whole(tiny_config, tmp_path, subclass):
    model = subclass(tiny_config)
    expected = model(IMAGES)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [subclass.__name__]
    assert_same(subclass.from_pretrained(tmp_path)(IMAGES), expected)


def test_what_a_subclass_adds_is_named_by_its_attributes(tiny_config, tmp_path):
    for count in range(2):  # Keras' own names would count on
        model = WithHeads(tiny_config)
        model(IMAGES)
        model.save_pretrained(tmp_path / str(count))
    added = {name for name in names_in(tmp_path / "0") if not name.startswith("backbone.")}
    assert added == {
        *("norm.gamma", "norm.beta", "norm.moving_mean", "norm.moving_variance", "heads.0.kernel", "heads.0.bias"),
        *("heads.1.0.kernel", "heads.1.0.bias", "heads.1.1.kernel", "heads.1.1.bias"),
    }
    assert names_in(tmp_path / "0") == names_in(tmp_path / "1")
    assert "backbone.encoder.layer.1.attention.attention.query.weight" in names_in(tmp_path / "0")


@pytest.mark.parametrize(("subclass", "name"), [(WithHead, "vit"), (WithHeads, "backbone")])
def test_a_subclass_starts_from_a_plain_checkpoint(tiny_config, tmp_path, subclass, name):
    plain = TFViTForImageClassification(tiny_config)
    plain.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"were not in the checkpoint and start at random.*classifier") as caught:
        model = subclass.from_pretrained(tmp_path)
    assert len(caught) == 1
    np.testing.assert_array_equal(
        getattr(model, name).encoder.layer[1].output_.dense.kernel, plain.vit.encoder.layer[1].output_.dense.kernel
    )


def test_arguments_of_a_subclass_are_taken_by_position_and_by_name(tiny_config, tmp_path):
    TFViTModel(tiny_config).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="head"):
        assert WithHead.from_pretrained(tmp_path, 7)(IMAGES).shape == (4, 7)
    with pytest.warns(UserWarning, match="head"):
        assert WithHead.from_pretrained(tmp_path, classes=8, hidden_dropout_prob=0.1)(IMAGES).shape == (4, 8)


def test_a_subclass_is_served(tiny_config, tmp_path):
    model = WithHead(tiny_config)
    expected = model(IMAGES)
    model.save_pretrained(tmp_path, saved_model=True)
    served = tf.saved_model.load(tmp_path / "saved_model" / "1").signatures["serving_default"]
    np.testing.assert_allclose(served(pixel_values=tf.constant(IMAGES))["output"], expected, atol=1e-6)


def test_a_subclass_with_a_config_and_inputs_of_its_own(tiny_config, tmp_path):
    fields = {name: value for name, value in tiny_config.to_dict().items() if name != "model_type"}
    model = Wide(WideConfig(classes=5, **fields))
    expected = model({"pixel_values": IMAGES})
    assert expected.shape == (4, 5)
    model.save_pretrained(tmp_path)
    again = Wide.from_pretrained(tmp_path)
    assert (again.config.classes, again.config.model_type) == (5, "wide-vit")
    assert_same(again({"pixel_values": IMAGES}), expected)


def test_a_subclass_is_trained_and_predicts(tiny_config):
    model = WithHead(tiny_config)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss=loss, metrics=["accuracy"])
    history = model.fit(IMAGES, LABELS, epochs=5, batch_size=4, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert model.predict(IMAGES, verbose=0).shape == (4, 4)
    assert len(model.evaluate(IMAGES, LABELS, verbose=0)) == 2


def test_a_subclass_goes_through_a_keras_file(tiny_config, tmp_path):
    model = WithFeatures(tiny_config)
    expected = model(IMAGES)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", custom_objects={"WithFeatures": WithFeatures})
    assert_same(again(IMAGES), expected)


def test_arguments_of_a_subclass_go_through_a_keras_file(tiny_config, tmp_path):
    model = WithHead(tiny_config, classes=7)
    expected = model(IMAGES)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", custom_objects={"WithHead": WithHead})
    assert_same(again(IMAGES), expected)


def test_an_argument_that_no_keras_file_tells_is_said(tiny_config):
    class WithActivation(WithHead):
        def __init__(self, config, activation=None, **kwargs):
            super().__init__(config, **kwargs)
            self.activation = activation

    model = WithActivation(tiny_config, tf.nn.relu, classes=7)
    with pytest.warns(UserWarning, match=r"with activation, which a .keras file does not tell; override get_config"):
        assert model.get_config()["classes"] == 7


class WithWeights(TFViTPreTrainedModel):
    """Takes a config alone, and has variables without a name."""

    def __init__(self, config):
        super().__init__(config)
        self.vit = TFViTModel(config, add_pooling_layer=False)
        self.scale = self.add_weight(shape=(config.hidden_size,), initializer="normal")
        self.shifts = [self.add_weight(shape=(1,), initializer="normal") for _ in range(2)]

    def call(self, pixel_values):
        return self.vit(pixel_values)[0][:, 0] * self.scale + self.shifts[0] - self.shifts[1]


def test_variables_without_a_name_are_saved_under_their_attributes(tiny_config, tmp_path):
    for count in range(2):
        model = WithWeights(tiny_config)
        model.save_pretrained(tmp_path / str(count))
    added = {name for name in names_in(tmp_path / "0") if not name.startswith("vit.")}
    assert added == {"scale", "shifts.0", "shifts.1"}
    assert names_in(tmp_path / "0") == names_in(tmp_path / "1")
    assert_same(WithWeights.from_pretrained(tmp_path / "1")(IMAGES), model(IMAGES))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", custom_objects={"WithWeights": WithWeights})
    assert_same(again(IMAGES), model(IMAGES))


class WithClassifier(TFViTPreTrainedModel):
    """A head of its own under the name of transformers'."""

    def __init__(self, config, labels=None, **kwargs):
        super().__init__(config, **kwargs)
        self.vit = TFViTMainLayer(config, add_pooling_layer=False, name="vit")
        self.classifier = layers.Dense(labels or config.num_labels, name="classifier")

    def call(self, pixel_values=None, training=False):
        return self.classifier(self.vit(pixel_values, training=training)[0][:, 0])


def test_a_classifier_of_a_subclass_starts_from_a_plain_checkpoint(tiny_config, tmp_path):
    plain = TFViTForImageClassification(tiny_config)
    plain.save_pretrained(tmp_path)
    model = WithClassifier.from_pretrained(tmp_path)
    # Asked for attention maps, the plain model too computes all tokens in its last layer.
    np.testing.assert_array_equal(model(IMAGES), plain(IMAGES, output_attentions=True).logits)
    with pytest.raises(ValueError, match="ignore_mismatched_sizes=True"):
        WithClassifier.from_pretrained(tmp_path, labels=9)
    with pytest.warns(UserWarning, match="classifier.kernel"):
        other = WithClassifier.from_pretrained(tmp_path, labels=9, ignore_mismatched_sizes=True)
    other.save_pretrained(tmp_path / "other")
    again = WithClassifier.from_pretrained(tmp_path / "other", labels=9)
    assert_same(again(IMAGES), other(IMAGES))
    assert again.config.num_labels == 9
    assert "classifier.weight" in names_in(tmp_path / "other")


def test_a_dtype_reaches_the_head_of_a_subclass(tiny_config, tmp_path):
    WithHead(tiny_config).save_pretrained(tmp_path)
    half = WithHead.from_pretrained(tmp_path, dtype="bfloat16")
    assert {variable.dtype for variable in half.weights} == {"bfloat16"}
    assert half(IMAGES).dtype == "bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    mixed = WithHead._from_config(tiny_config, dtype="mixed_bfloat16")
    assert mixed(IMAGES).dtype == "bfloat16"
    assert mixed.head.kernel.dtype == "float32"


@pytest.mark.parametrize("change", ["classifier", "layers"])
def test_a_keras_file_follows_replaced_parts(tiny_config, tmp_path, change):
    model = TFViTForImageClassification(tiny_config)
    if change == "classifier":
        model.classifier = layers.Dense(9)
    else:
        model.vit.encoder.layer.pop()
    expected = model(IMAGES).logits
    model.save(tmp_path / "model.keras")
    assert_same(keras.saving.load_model(tmp_path / "model.keras")(IMAGES).logits, expected)


def test_a_model_of_a_config_as_a_dict(tiny_config):
    assert TFViTForImageClassification.from_config(tiny_config.to_dict()).config.to_dict() == tiny_config.to_dict()


# Replaced parts


def test_the_config_follows_another_classifier(tiny_config, tmp_path):
    model = TFViTForImageClassification(tiny_config)
    model(IMAGES)
    model.classifier = layers.Dense(10)
    expected = model(IMAGES).logits
    model.save_pretrained(tmp_path)
    again = TFViTForImageClassification.from_pretrained(tmp_path)
    assert again.config.num_labels == 10
    np.testing.assert_array_equal(again(IMAGES).logits, expected)
    assert len(model.weights) == len(again.weights)


def test_another_classifier_is_trained_and_saved_before_it_ever_ran(tiny_config, tmp_path):
    model = TFViTForImageClassification(tiny_config)
    model.classifier = layers.Dense(10)
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(IMAGES, LABELS, verbose=0)
    assert model.predict(IMAGES, verbose=0).logits.shape == (4, 10)
    fresh = TFViTForImageClassification(tiny_config)
    fresh.classifier = layers.Dense(7)
    fresh.save_pretrained(tmp_path)
    assert TFViTForImageClassification.from_pretrained(tmp_path).num_labels == 7


def test_the_config_follows_fewer_layers_and_an_identity(tiny_config, tmp_path):
    model = TFViTForImageClassification(tiny_config)
    model.vit.encoder.layer = model.vit.encoder.layer[:1]
    model.classifier = layers.Identity()
    expected = model(IMAGES).logits
    model.save_pretrained(tmp_path)
    again = TFViTForImageClassification.from_pretrained(tmp_path)
    assert (again.config.num_hidden_layers, again.config.num_labels) == (1, 0)
    np.testing.assert_array_equal(again(IMAGES).logits, expected)


def paths(layer):
    return [id(variable) for variable in layer.weights]


@pytest.mark.parametrize("index", [0, -1])
def test_a_layer_is_replaced_in_its_list(tiny_config, tmp_path, index):
    model = TFViTForImageClassification(tiny_config)
    model(IMAGES)
    encoder, count = model.vit.encoder, len(model.weights)
    old, new = encoder.layer[index], ViTLayer(tiny_config)
    encoder.layer[index] = new
    held = paths(model)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(IMAGES, LABELS, verbose=0)
    assert encoder.layer[index] is new
    assert len(model.weights) == count
    assert not set(held) & set(paths(old))
    assert set(paths(new)) <= {id(variable) for variable in model.trainable_variables}
    assert paths(encoder) == [each for layer in encoder.layer for each in paths(layer)]  # in their order
    moved = new.intermediate.dense.bias.numpy()
    assert np.any(moved != 0)
    model.save_pretrained(tmp_path)
    again = TFViTForImageClassification.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.vit.encoder.layer[index].intermediate.dense.bias, moved)
    np.testing.assert_array_equal(again(IMAGES).logits, model(IMAGES).logits)
    model.save_weights(tmp_path / "model.weights.h5")
    again.vit.encoder.layer[index] = ViTLayer(tiny_config)
    again.build_missing()
    again.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(again(IMAGES).logits, model(IMAGES).logits)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda layers, new: layers.append(new), 3),
        (lambda layers, new: layers.insert(0, new), 3),
        (lambda layers, new: layers.extend([new]), 3),
        (lambda layers, new: layers.__iadd__([new]), 3),
        (lambda layers, new: layers.pop(), 1),
        (lambda layers, new: layers.remove(layers[0]), 1),
        (lambda layers, new: layers.__delitem__(slice(1, None)), 1),
        (lambda layers, new: layers.__setitem__(slice(0, 2), [new]), 1),
        (lambda layers, new: layers.clear(), 0),
    ],
)
def test_a_list_of_layers_changes_as_a_list(tiny_config, change, kept):
    model = TFViTModel(tiny_config)
    change(model.vit.encoder.layer, ViTLayer(tiny_config))
    model.build_missing()
    assert len(model.vit.encoder.layer) == kept
    assert len(model.encoder.weights) == 16 * kept
    assert paths(model.encoder) == [each for layer in model.encoder.layer for each in paths(layer)]


def test_layers_change_places(tiny_config):
    layer = TFViTModel(tiny_config).encoder.layer
    first, second = layer
    layer[0], layer[1] = layer[1], layer[0]
    assert list(layer) == [second, first]
    assert paths(layer.owner) == [*paths(second), *paths(first)]


def test_a_layer_that_is_held_twice_stays_when_one_place_is_given_to_another(tiny_config):
    model = WithHead(tiny_config)
    model.second = model.head
    model(IMAGES)
    model.second = layers.Dense(3)
    assert set(paths(model.head)) <= set(paths(model))
    model.head = None
    assert not [variable for variable in model.weights if "head" in variable.path]


def test_a_layer_that_is_replaced_after_training_is_trained_once_the_model_is_compiled_again(tiny_config):
    model = TFViTForImageClassification(tiny_config)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(IMAGES, LABELS, verbose=0)
    model.vit.encoder.layer[0] = ViTLayer(tiny_config)
    with pytest.raises(ValueError, match=r"were replaced.*compile"):
        model.fit(IMAGES, LABELS, verbose=0)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(IMAGES, LABELS, verbose=0)
    assert np.any(model.vit.encoder.layer[0].output_.dense.bias.numpy() != 0)


@pytest.mark.parametrize("kind", [tf.Variable, keras.Variable, np.asarray])
def test_other_positions_are_trained_and_saved(tiny_config, tmp_path, kind):
    model = TFViTForImageClassification(tiny_config)
    count = len(model.weights)
    positions = np.random.default_rng(2).normal(size=(1, 17, 32)).astype(np.float32)
    model.vit.embeddings.position_embeddings = kind(positions)
    held = model.vit.embeddings.position_embeddings
    assert len(model.weights) == count
    assert any(variable is held for variable in model.trainable_weights)
    model.save_pretrained(tmp_path)
    again = TFViTForImageClassification.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.vit.embeddings.position_embeddings, positions)
    np.testing.assert_array_equal(again(IMAGES).logits, model(IMAGES).logits)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(IMAGES, LABELS, verbose=0)
    assert np.any(held.numpy() != positions)
    with pytest.raises(TypeError, match="position_embeddings is a variable; put a variable"):
        model.vit.embeddings.position_embeddings = "sin-cos"


def test_the_config_follows_positions_for_larger_images(tiny_config, tmp_path):
    model = TFViTModel(tiny_config)
    model.embeddings.position_embeddings = np.zeros((1, 1 + 6 * 6, 32), np.float32)
    model.save_pretrained(tmp_path)
    assert TFViTModel.from_pretrained(tmp_path).config.image_size == 48


def test_another_base_model_with_a_pooler_leaves_the_classifier_as_it_is(tiny_config):
    model, base = TFViTForImageClassification(tiny_config), TFViTModel(tiny_config)
    model.vit = base
    expected = model.classifier(base(IMAGES).last_hidden_state[:, 0])
    np.testing.assert_allclose(model(IMAGES).logits, expected, atol=1e-6)
    assert {id(variable) for variable in base.weights} <= {id(variable) for variable in model.weights}


def test_what_no_config_can_say_is_said_when_saving(tiny_config, tmp_path):
    model = TFViTForImageClassification(tiny_config)
    model.classifier = keras.Sequential([layers.Dense(8), layers.Dense(3)])
    with pytest.warns(UserWarning, match=r"holds classifier.0.kernel, .* lacks classifier.weight.*of a subclass"):
        model.save_pretrained(tmp_path)


@pytest.mark.parametrize("returned", ["tuple", "tensor"])
@pytest.mark.parametrize("part", ["layer", "attention"])
def test_a_part_is_replaced_by_one_that_knows_hidden_states_alone(tiny_config, part, returned):
    class Doubling(layers.Layer):
        def call(self, hidden_states):
            assert hidden_states.shape[1:] == (17, 32)
            return (2 * hidden_states,) if returned == "tuple" else 2 * hidden_states

    model = TFViTForImageClassification(tiny_config)
    if part == "layer":
        model.vit.encoder.layer[1] = Doubling()
        states = model.vit(IMAGES, output_hidden_states=True).hidden_states
        np.testing.assert_array_equal(states[2], 2 * states[1])
    else:
        model.vit.encoder.layer[1].attention = Doubling()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model(IMAGES).logits.shape == (4, tiny_config.num_labels)
