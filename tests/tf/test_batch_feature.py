"""Batches of the image processors, as TensorFlow and Keras take them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from vit_tf import AutoFeatureExtractor, AutoImageProcessor, BatchFeature, ViTImageProcessor

IMAGES = np.ones((4, 3, 8, 8), np.float32)


@pytest.mark.filterwarnings("ignore:The structure of")  # Keras would rather have a dict, and says so
@pytest.mark.parametrize("batch", [BatchFeature({"pixel_values": IMAGES}), BatchFeature({"pixel_values": IMAGES}).data])
def test_a_batch_is_the_input_of_a_functional_model(batch):
    pixel_values = keras.Input((3, 8, 8), name="pixel_values")
    model = keras.Model({"pixel_values": pixel_values}, keras.layers.Flatten()(pixel_values))
    assert model(batch).shape == (4, 192)
    assert model.predict(batch, verbose=0).shape == (4, 192)


def test_a_batch_passes_through_functions_and_datasets():
    batch = BatchFeature({"pixel_values": IMAGES, "labels": np.arange(4)})

    @tf.function
    def total(batch):
        return tf.reduce_sum(batch["labels"]) + tf.cast(tf.reduce_sum(batch["pixel_values"]), tf.int64)

    assert total(batch) == 6 + IMAGES.size
    dataset = tf.data.Dataset.from_tensor_slices(batch.data).batch(2)
    assert [items["labels"].numpy().tolist() for items in dataset] == [[0, 1], [2, 3]]
    doubled = keras.tree.map_structure(lambda item: item * 2, batch)
    assert isinstance(doubled, BatchFeature)
    assert doubled.labels.tolist() == [0, 2, 4, 6]


def test_lists_get_the_dtype_that_tensorflow_gives_them():
    batch = BatchFeature({"labels": [1, 2], "weights": [0.5, 1]}, "tf")
    assert (batch.labels.dtype, batch.weights.dtype) == (tf.int32, tf.float32)


def test_the_automatic_classes_find_the_processor(fixture_folder):
    for automatic in (AutoImageProcessor, AutoFeatureExtractor):
        found = automatic.from_pretrained(fixture_folder / "hf_vit_classifier", use_fast=True)
        assert found == ViTImageProcessor(size=32)
