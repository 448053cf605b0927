"""A file that Keras saved of one of our models opens in every framework, with the same answers."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
vit_tf = pytest.importorskip("vit_tf")

import vit_torch  # noqa: E402

IMAGES = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype("float32")
UNTOLD = {"num_attention_heads": 4, "layer_norm_eps": 1e-3, "hidden_act": "relu", "num_labels": 5}

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*HDF5 file.*legacy"),
]


@pytest.fixture
def config(tiny_config):
    tiny_config.layer_norm_eps, tiny_config.hidden_act = 1e-3, "relu"
    return tiny_config


def packages():
    yield "torch", vit_torch
    yield "tf", vit_tf
    try:
        import vit_flax
    except ImportError:
        return
    yield "flax", vit_flax


def assert_same(file, architecture, expected, **options):
    for name, package in packages():
        model = getattr(package, architecture).from_pretrained(file, **options)
        images = IMAGES
        if name == "torch":
            import torch

            images = torch.from_numpy(IMAGES)
        found = model(images)[0]
        found = found.detach().numpy() if name == "torch" else np.asarray(found)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0, err_msg=name)


@pytest.mark.parametrize(
    ("architecture", "suffix"),
    [
        *(("ViTForImageClassification", suffix) for suffix in (".keras", ".weights.h5", ".h5")),
        ("ViTModel", ".weights.h5"),
        ("ViTForMaskedImageModeling", ".keras"),
    ],
)
def test_a_file_of_keras_opens_in_every_framework(config, tmp_path, architecture, suffix):
    model = getattr(vit_tf, architecture)(config)
    expected = np.asarray(model(IMAGES)[0])
    file = tmp_path / f"saved{suffix}"
    (model.save_weights if suffix == ".weights.h5" else model.save)(file)
    assert_same(file, architecture, expected, **(UNTOLD if suffix == ".weights.h5" else {}))


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_the_model_in_a_functional_one_opens_in_every_framework(config, tmp_path, suffix):
    base = vit_tf.ViTModel(config, add_pooling_layer=False)
    inputs = keras.Input((3, 32, 32))
    model = keras.Model(inputs, keras.layers.Dense(3)(base(inputs)[0][:, 0]))
    model(IMAGES)
    file = tmp_path / f"functional{suffix}"
    (model.save_weights if suffix == ".weights.h5" else model.save)(file)
    told = UNTOLD if suffix == ".weights.h5" else {}
    assert_same(file, "ViTModel", np.asarray(base(IMAGES)[0]), add_pooling_layer=False, **told)
