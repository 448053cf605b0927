"""What the tests of the Keras backend share; without TensorFlow and Keras they are not collected."""

import importlib.util
import os

import numpy as np
import pytest

if importlib.util.find_spec("tensorflow") and importlib.util.find_spec("keras"):
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    import tensorflow as tf

    import vit_tf
    from vit_tf import AutoConfig, ViTConfig

    tf.config.threading.set_intra_op_parallelism_threads(1)  # tests run in parallel
    tf.config.threading.set_inter_op_parallelism_threads(1)
    two_devices = [tf.config.LogicalDeviceConfiguration()] * 2  # for distribution strategies; before TensorFlow starts
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two_devices)
else:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def strategy():
    """Two replicas; a second strategy in a process would mistake the collective operations of the first for its own."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture
def load(fixture_folder):
    """Load a reference checkpoint and the results that belong to it."""

    def load(name, **options):
        folder = fixture_folder / name
        architecture = AutoConfig.from_pretrained(folder).architectures[0]
        with np.load(folder / "expected.npz") as results:
            expected = dict(results)
        return getattr(vit_tf, architecture).from_pretrained(folder, **options), expected

    return load


@pytest.fixture
def tiny_config():
    """A small model with two layers, on 32 x 32 images of 4 x 4 patches."""
    return ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        encoder_stride=8,
        num_labels=5,
    )


@pytest.fixture
def one_layer(tiny_config):
    """The same with a single layer, for what goes on around the layers: graphs of training cost as many seconds."""
    tiny_config.num_hidden_layers = 1
    return tiny_config


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)
