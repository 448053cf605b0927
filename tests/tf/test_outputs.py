import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import tree

from vit_core import BaseModelOutputWithPooling, ImageClassifierOutput, MaskedImageModelingOutput
from vit_tf import (
    TFBaseModelOutputWithPooling,
    TFMaskedImageModelingOutput,
    TFSequenceClassifierOutput,
    TFViTForImageClassification,
    TFViTForMaskedImageModeling,
    TFViTModel,
)

IMAGES = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
CLASSES = {
    TFBaseModelOutputWithPooling: BaseModelOutputWithPooling,
    TFSequenceClassifierOutput: ImageClassifierOutput,
    TFMaskedImageModelingOutput: MaskedImageModelingOutput,
}
EVERYTHING = {"labels": np.array([0, 4]), "output_hidden_states": True, "output_attentions": True}


def assert_an_output(output):
    """Attribute, key, index, slice, and to_tuple give the same items, and None is none."""
    names = ["loss", "logits", "hidden_states", "attentions"]
    assert type(output) is TFSequenceClassifierOutput
    assert list(output.keys()) == list(dict(**output)) == names
    assert len(output) == 4
    loss, logits, hidden_states, attentions = output.to_tuple()
    assert output.loss is output["loss"] is output[0] is loss
    assert output.logits is output["logits"] is output[1] is logits
    assert output.attentions is output[-1] is output.to_tuple()[3] is attentions
    assert [one is other for one, other in zip(output[:2], (loss, logits), strict=True)] == [True, True]
    assert isinstance(hidden_states, tuple)
    assert isinstance(attentions, tuple)
    assert (len(hidden_states), len(attentions)) == (3, 2)
    assert loss.shape == ()
    assert logits.shape == (2, 5)
    assert hidden_states[0].shape == (2, 17, 32)
    assert attentions[0].shape == (2, 4, 17, 17)


def test_an_output_answers_in_every_way_run_as_it_is(tiny_config):
    assert_an_output(TFViTForImageClassification(tiny_config)(IMAGES, **EVERYTHING))


def test_an_output_answers_in_every_way_inside_a_graph_and_returned_from_it(tiny_config):
    model = TFViTForImageClassification(tiny_config)

    @tf.function
    def run(pixel_values):
        output = model(pixel_values, **EVERYTHING)
        assert_an_output(output)
        return output

    output = run(IMAGES)
    assert_an_output(output)
    np.testing.assert_allclose(output.logits, model(IMAGES).logits, atol=1e-5)


def test_a_function_takes_an_output_and_returns_a_part_of_it(tiny_config):
    output = TFViTModel(tiny_config)(IMAGES)
    doubled = tf.function(lambda output: 2 * output.pooler_output)(output)
    np.testing.assert_array_equal(doubled, 2 * output.pooler_output.numpy())


@pytest.mark.parametrize(
    ("model_class", "output_class", "options"),
    [
        (TFViTModel, TFBaseModelOutputWithPooling, {}),
        (TFViTForImageClassification, TFSequenceClassifierOutput, {"labels": np.array([0, 4])}),
        (TFViTForMaskedImageModeling, TFMaskedImageModelingOutput, {"bool_masked_pos": np.ones((2, 16), bool)}),
    ],
)
def test_every_model_returns_its_class(tiny_config, model_class, output_class, options):
    output = model_class(tiny_config)(IMAGES, **options)
    assert type(output) is model_class.output_class is output_class
    assert isinstance(output, CLASSES[output_class])  # the core's, too
    assert len(output) == 2
    if output_class is TFMaskedImageModelingOutput:
        assert output.logits is output.reconstruction


@pytest.mark.parametrize("output_class", CLASSES)
def test_fields_that_are_none_are_no_items_of_a_structure(output_class):
    name = list(output_class.__dataclass_fields__)[1]
    output = output_class(**{name: tf.constant(1.0), "attentions": (tf.constant(2.0), tf.constant(3.0))})
    in_order_of_names = [1, 2, 3] if name < "attentions" else [2, 3, 1]  # as TensorFlow has the items of every dict
    assert [int(each) for each in tf.nest.flatten(output)] == in_order_of_names
    assert [int(each) for each in tree.flatten(output)] == [1, 2, 3]
    assert output.to_tuple()[0] is output[name]
    for doubled in (
        tf.nest.map_structure(lambda each: 2 * each, output),
        tree.map_structure(lambda each: 2 * each, output),
        tf.nest.pack_sequence_as(output, [2 * each for each in in_order_of_names]),
        tree.pack_sequence_as(output, [2, 4, 6]),
    ):
        assert type(doubled) is output_class
        assert list(doubled.keys()) == [name, "attentions"]
        assert int(doubled[name]) == 2
        assert [int(each) for each in doubled.attentions] == [4, 6]


@pytest.mark.parametrize("output_class", CLASSES)
def test_an_empty_output_is_an_empty_structure(output_class):
    for back in (tf.nest.map_structure(abs, output_class()), tree.map_structure(abs, output_class())):
        assert type(back) is output_class
        assert len(back) == 0


def test_outputs_with_other_items_are_other_structures():
    one, other = TFSequenceClassifierOutput(logits=1), TFSequenceClassifierOutput(loss=1)
    with pytest.raises(ValueError, match="loss"):
        tree.assert_same_structure(one, other)
    tree.assert_same_structure(one, TFSequenceClassifierOutput(logits=2))
    tf.nest.assert_same_structure(one, TFSequenceClassifierOutput(logits=2))


def test_a_missing_item_is_named_with_those_there_are(tiny_config):
    output = TFViTForImageClassification(tiny_config)(IMAGES)
    assert output.loss is None
    assert "loss" not in output
    with pytest.raises(KeyError, match="'loss' is not in this output, which has logits"):
        output["loss"]


def test_a_functional_model_takes_an_output_apart(tiny_config):
    images = keras.Input((3, 32, 32))
    output = TFViTModel(tiny_config, name="vit")(images)
    assert type(output) is TFBaseModelOutputWithPooling
    model = keras.Model(images, {"pooled": output.pooler_output, "first": output.last_hidden_state[:, 0]})
    found = model(IMAGES)
    reference = model.get_layer("vit")(IMAGES)
    np.testing.assert_allclose(found["pooled"], reference.pooler_output, atol=1e-6)
    np.testing.assert_allclose(found["first"], reference[0][:, 0], atol=1e-6)
