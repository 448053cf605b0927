"""Batches of the image processors, as JAX takes them."""

import jax
import jax.numpy as jnp
import numpy as np

from vit_flax import AutoFeatureExtractor, AutoImageProcessor, BatchFeature, ViTImageProcessor


def test_a_batch_passes_through_jit_and_tree_map():
    batch = BatchFeature({"pixel_values": np.ones((4, 3)), "labels": np.arange(4)})
    assert jax.jit(lambda batch: batch["labels"].sum() + batch.pixel_values.sum())(batch) == 18
    sharded = jax.tree.map(lambda item: item.reshape(2, 2, *item.shape[1:]), batch.data)  # as flax' `shard` does
    assert isinstance(sharded, BatchFeature)
    assert sharded.pixel_values.shape == (2, 2, 3)
    assert jax.vmap(lambda batch: batch["labels"] + 1)(batch).tolist() == [1, 2, 3, 4]


def test_its_leaves_are_those_of_a_dict():
    items = {"pixel_values": 1, "labels": 2}
    assert jax.tree.leaves(BatchFeature(items)) == jax.tree.leaves(items)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(BatchFeature(items))]
    assert paths == ["['labels']", "['pixel_values']"]


def test_lists_get_the_dtype_that_jax_gives_them():
    batch = BatchFeature({"labels": [1, 2], "weights": [0.5, 1]}, "jax")
    assert (batch.labels.dtype, batch.weights.dtype) == (jnp.asarray([1]).dtype, jnp.float32)


def test_the_automatic_classes_find_the_processor(fixture_folder):
    for automatic in (AutoImageProcessor, AutoFeatureExtractor):
        found = automatic.from_pretrained(fixture_folder / "hf_vit_classifier", use_fast=True)
        assert found == ViTImageProcessor(size=32)
