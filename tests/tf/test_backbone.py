"""Backbones in Keras: the feature maps of transformers' backbones, from any checkpoint of a base model."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import vit_tf
from vit_tf import TFAutoBackbone, TFAutoModel, TFViTBackbone, ViTConfig

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

FOLDERS = ["hf_dinov2", "hf_dinov2_registers"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
IMAGES = {"image_size": (32, 24), "patch_size": 8}
#: What a script asks of a backbone, and the names of the results under which transformers' are kept.
CALLS = {
    "maps": {"out_features": ["stem", "stage1", "stage2"]},
    "unnormed": {"out_indices": [1, 2], "apply_layernorm": False},
    "tokens": {"out_features": ["stage1"], "reshape_hidden_states": False},
}


def close(ours, theirs, tolerance=1e-5):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def small():
    keras.utils.set_random_seed(0)
    return TFViTBackbone(ViTConfig(**SIZES, **IMAGES, out_indices=[1, 3]))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_feature_maps_are_those_of_transformers(fixture_folder, folder, call):
    expected = np.load(fixture_folder / f"{folder}_backbone/expected.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is said of the classifier that is in the checkpoint, too
        model = TFAutoBackbone.from_pretrained(fixture_folder / folder, **CALLS[call])
    for size in ("", "large/"):  # one that is no square
        feature_maps = model(expected[f"{size}pixel_values"]).feature_maps
        for stage, feature_map in zip(model.out_features, feature_maps, strict=True):
            close(feature_map, expected[f"{size}{call}/{stage}"])


def test_class_tokens_of_the_stages_come_with_the_maps_where_that_is_asked_for(fixture_folder):
    expected = np.load(fixture_folder / "hf_dinov3_backbone/expected.npz")
    options = {"out_features": ["stem", "stage1", "stage2"], "return_class_token": True}
    model = TFAutoBackbone.from_pretrained(fixture_folder / "hf_dinov3", **options)
    for size in ("", "large/"):
        output = model(expected[f"{size}pixel_values"])
        assert list(output) == ["feature_maps", "cls_tokens"]
        for stage, *found in zip(model.out_features, output.feature_maps, output.cls_tokens, strict=True):
            for ours, name in zip(found, ("maps", "cls_tokens"), strict=True):
                close(ours, expected[f"{size}{name}/{stage}"])


def test_one_graph_is_for_images_of_any_size(fixture_folder):
    model = TFAutoBackbone.from_pretrained(fixture_folder / "hf_dinov2", out_indices=[0, 2])
    expected = np.load(fixture_folder / "hf_dinov2_backbone/expected.npz")
    graph = tf.function(model, input_signature=[tf.TensorSpec((None, 3, None, None))])
    for size in ("", "large/"):
        for stage, feature_map in zip(model.out_features, graph(expected[f"{size}pixel_values"])[0], strict=True):
            close(feature_map, expected[f"{size}maps/{stage}"])


def test_a_keras_file_and_a_checkpoint_hold_the_model(small, tmp_path):
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 24)).astype("float32")
    expected = small(images).feature_maps
    small.save(tmp_path / "model.keras")
    small.save_pretrained(tmp_path)
    for again in (keras.models.load_model(tmp_path / "model.keras"), TFAutoBackbone.from_pretrained(tmp_path)):
        assert type(again) is TFViTBackbone
        for ours, theirs in zip(again(images).feature_maps, expected, strict=True):
            close(ours, theirs)
    predicted = small.predict(images, verbose=0)
    assert [each.shape for each in predicted.feature_maps] == [(2, 16, 4, 3)] * 2


def test_channels_last_are_those_of_the_images_alone(small):
    images = np.random.default_rng(0).standard_normal((1, 3, 32, 24)).astype("float32")
    last = TFViTBackbone(small.config, data_format="channels_last")
    last.set_weights(small.get_weights())
    close(last(images.transpose(0, 2, 3, 1)).feature_maps[0], small(images).feature_maps[0])


def test_a_backbone_says_what_it_returns(small):
    assert small.stage_names == ["stem", "stage1", "stage2", "stage3"]
    assert small.channels == [16, 16]
    output = small(np.zeros((1, 3, 32, 24), "float32"), output_hidden_states=True, output_attentions=True)
    assert (len(output.hidden_states), len(output.attentions)) == (4, 3)
    other = TFViTBackbone(small.config.replaced())
    other.out_features = ["stem"]
    assert (other.out_indices, len(other(np.zeros((1, 3, 32, 24), "float32"))[0])) == ([0], 1)
    with pytest.raises(ValueError, match="out_features has 'stage4', but"):
        other.out_features = ["stage4"]


@pytest.mark.filterwarnings("ignore:.*classifier.* are in the checkpoint")
@pytest.mark.parametrize("folder", FOLDERS)
def test_intermediate_layers_are_the_maps_of_a_backbone(fixture_folder, folder):
    expected = np.load(fixture_folder / f"{folder}_backbone/expected.npz")
    model = TFAutoModel.from_pretrained(fixture_folder / folder)
    images = expected["large/pixel_values"]
    for norm, call in ((True, "maps"), (False, "unnormed")):
        found = model.get_intermediate_layers(images, n=2, reshape=True, norm=norm)
        for stage, each in zip(("stage1", "stage2"), found, strict=True):
            close(each, expected[f"large/{call}/{stage}"])
    ((patches, class_token),) = model.get_intermediate_layers(images, [-1], return_class_token=True)
    last = model(images).last_hidden_state
    close(class_token, last[:, 0])
    close(patches, last[:, model.config.architecture.num_prefix_tokens :])


def test_a_masked_autoencoder_sees_all_patches_and_bad_input_is_named():
    model = vit_tf.TFViTMAEModel(vit_tf.ViTMAEConfig(**SIZES, **IMAGES))
    images = np.zeros((1, 3, 32, 24), "float32")
    assert model.get_intermediate_layers(images, [0], reshape=True)[0].shape == (1, 16, 4, 3)
    with pytest.raises(ValueError, match="n is 4; give how many of the model's 3 layers"):
        model.get_intermediate_layers(images, 4)
    with pytest.raises(ValueError, match="images of 40 x 24 pixels do not fit"):
        model.get_intermediate_layers(np.zeros((1, 3, 40, 24), "float32"))
    model = vit_tf.TFIJepaModel(vit_tf.IJepaConfig(**SIZES, **IMAGES))
    with pytest.raises(ValueError, match="return_class_token is True, and this model has no class token"):
        model.get_intermediate_layers(images, return_class_token=True)
