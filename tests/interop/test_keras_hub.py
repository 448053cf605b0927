"""KerasHub's ViTs load the weights that we write, and we load their weights and their presets.

Run by `nox -s interop`. Keras is on both sides here.
"""

from __future__ import annotations

import json
import warnings

import h5py
import numpy as np
import pytest

keras_hub = pytest.importorskip("keras_hub")
keras = pytest.importorskip("keras")

import vit_tf  # noqa: E402
from conversion import convert, load  # noqa: E402

SPREAD = 0.15  # wide enough that each term of the forward pass shows
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 56, "image_size": 32,
         "patch_size": 8, "num_labels": 10, "layer_norm_eps": 1e-6, "hidden_act": "gelu"}  # fmt: skip
ARGUMENTS = {"image_shape": (32, 32, 3), "patch_size": 8, "num_layers": 3, "num_heads": 4, "hidden_dim": 32,
             "mlp_dim": 56}  # fmt: skip

BACKBONES = {
    "plain": ({}, {}),
    "wide image": ({"image_size": (32, 48)}, {"image_shape": (32, 48, 3)}),
    "wide patches": ({"patch_size": (8, 16)}, {"patch_size": (8, 16)}),
    "one channel": ({"num_channels": 1}, {"image_shape": (32, 32, 1)}),
    "twelve layers": ({"num_hidden_layers": 12}, {"num_layers": 12}),
}
HEADS = {
    "head": ({}, {}),
    "representation": (
        {"classifier_uses_pooler": True, "pooler_output_size": 24, "pooler_act": "tanh"},
        {"intermediate_dim": 24},
    ),
}


@pytest.fixture(params=BACKBONES.values(), ids=BACKBONES.keys())
def backbone(request):
    """Fields of our config, and arguments of their backbone for the same model."""
    return request.param


@pytest.fixture(params=HEADS.values(), ids=HEADS.keys())
def head(request):
    """Fields of our config, and arguments of their classifier for the same head."""
    return request.param


def spread(model):
    """Move all weights away from where they start, from which many would not show."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(weight + SPREAD * rng.standard_normal(weight.shape, np.float32))
    return model


def images(config):
    return np.random.default_rng(1).standard_normal((2, *config.image_shape, config.num_channels), np.float32)


def our_folder(tmp_path, name="ViTForImageClassification", **fields):
    model = getattr(vit_tf, name)(vit_tf.ViTConfig(**SIZES | fields), data_format="channels_last")
    model(images(model.config))
    spread(model)
    model.save_pretrained(tmp_path / "ours")
    return tmp_path / "ours", model


def our_model(name, source, **fields):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return getattr(vit_tf, name).from_pretrained(source, data_format="channels_last", **fields)


def their_backbone(**arguments):
    return keras_hub.models.ViTBackbone(**ARGUMENTS | arguments)


def their_classifier(head=None, **arguments):
    return keras_hub.models.ViTImageClassifier(their_backbone(**arguments), 10, **{"pooling": "token"} | (head or {}))


def shapes_in(file):
    found = {}

    def note(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item.shape

    with h5py.File(file) as opened:
        opened.visititems(note)
    return found


def assert_same_logits(ours, theirs):
    pixel_values = images(ours.config)
    mine, other = np.asarray(ours(pixel_values).logits), np.asarray(theirs(pixel_values))
    assert other.std() > 0.1  # otherwise much would be equal
    np.testing.assert_allclose(mine, other, atol=1e-5, rtol=0)


def assert_same_hidden_states(ours, theirs):
    pixel_values = images(ours.config)
    mine, other = np.asarray(ours(pixel_values).last_hidden_state), np.asarray(theirs(pixel_values))
    assert other.std() > 0.1
    np.testing.assert_allclose(mine, other, atol=1e-5, rtol=0)


def test_a_fresh_classifier_loads_what_we_write(backbone, head, tmp_path):
    folder, ours = our_folder(tmp_path, **backbone[0], **head[0])
    convert(folder, tmp_path / "vit.weights.h5", to="keras-hub")
    theirs = their_classifier(head[1], **backbone[1])
    theirs.load_weights(tmp_path / "vit.weights.h5")
    assert_same_logits(ours, theirs)


def test_a_fresh_backbone_loads_what_we_write(backbone, tmp_path):
    folder, ours = our_folder(tmp_path, "ViTModel", **backbone[0])
    done = convert(folder, tmp_path / "vit.weights.h5", to="keras-hub")
    assert any("no place for pooler.dense" in note for note in done.notes)
    theirs = their_backbone(**backbone[1])
    theirs.load_weights(tmp_path / "vit.weights.h5")
    assert_same_hidden_states(ours, theirs)


def test_keras_has_a_place_for_all_that_we_write(head, tmp_path):
    folder, _ = our_folder(tmp_path, **head[0])
    convert(folder, tmp_path / "ours.weights.h5", to="keras-hub")
    their_classifier(head[1]).save_weights(tmp_path / "theirs.weights.h5")
    mine, other = (shapes_in(tmp_path / f"{side}.weights.h5") for side in ("ours", "theirs"))
    assert mine == {name: shape for name, shape in other.items() if not name.startswith("optimizer/")}


@pytest.mark.parametrize("epsilon", [1e-3, 1e-12])
def test_a_model_of_another_epsilon_is_written_with_a_note_and_right_where_it_is_given(epsilon, tmp_path):
    folder, ours = our_folder(tmp_path, layer_norm_eps=epsilon)
    done = convert(folder, tmp_path / "vit.weights.h5", to="keras-hub")
    assert any(f"this model has {epsilon}" in note for note in done.notes)
    theirs = their_classifier(layer_norm_epsilon=epsilon)
    theirs.load_weights(tmp_path / "vit.weights.h5")
    assert_same_logits(ours, theirs)


def test_weights_of_a_classifier_load_here(backbone, head, tmp_path):
    theirs = spread(their_classifier(head[1], **backbone[1]))
    theirs.save_weights(tmp_path / "vit.weights.h5")
    size = backbone[0].get("image_size", 32)  # which weights alone do not tell
    ours = our_model("ViTForImageClassification", tmp_path / "vit.weights.h5", image_size=size)
    assert ours.config.layer_norm_eps == 1e-6
    assert_same_logits(ours, theirs)


def test_weights_of_a_backbone_load_here(tmp_path):
    theirs = spread(their_backbone())
    theirs.save_weights(tmp_path / "vit.weights.h5")
    ours = our_model("ViTModel", tmp_path / "vit.weights.h5", add_pooling_layer=False)
    assert_same_hidden_states(ours, theirs)


def test_weights_of_a_trained_classifier_load_here_without_its_optimizer(tmp_path):
    theirs = spread(their_classifier(dropout_rate=0.1))
    theirs.fit(np.zeros((2, 32, 32, 3), np.float32), np.array([0, 1]), verbose=0)
    theirs.save_weights(tmp_path / "vit.weights.h5")
    checkpoint = load(tmp_path / "vit.weights.h5")
    assert "optimizer/vars/0" in checkpoint.left_out
    ours = our_model("ViTForImageClassification", tmp_path / "vit.weights.h5")
    assert_same_logits(ours, theirs)


def test_the_preset_of_a_backbone_loads_here(backbone, tmp_path):
    theirs = spread(their_backbone(**backbone[1], layer_norm_epsilon=1e-3))
    theirs.save_to_preset(tmp_path / "preset")
    ours = our_model("ViTModel", tmp_path / "preset", add_pooling_layer=False)
    assert ours.config.layer_norm_eps == 1e-3
    assert_same_hidden_states(ours, theirs)


def test_the_preset_of_a_classifier_loads_here(backbone, head, tmp_path):
    """The head is in `task.weights.h5`, the backbone in `model.weights.h5`."""
    theirs = spread(their_classifier(head[1], **backbone[1], layer_norm_epsilon=1e-3))
    theirs.save_to_preset(tmp_path / "preset")
    ours = our_model("ViTForImageClassification", tmp_path / "preset")
    assert_same_logits(ours, theirs)


def test_the_preset_of_a_classifier_that_reads_the_mean_is_refused(tmp_path):
    their_classifier({"pooling": "gap"}).save_to_preset(tmp_path / "preset")
    with pytest.raises(ValueError, match="pooling='gap'"):
        our_model("ViTForImageClassification", tmp_path / "preset")


@pytest.mark.parametrize("missing", ["use_mlp_bias", "use_patch_bias", "use_class_token"])
def test_a_backbone_without_what_ours_always_has_is_refused(missing, tmp_path):
    spread(their_backbone(**{missing: False})).save_to_preset(tmp_path / "preset")
    with pytest.raises(ValueError, match="lacks|no tensor of this model|in no format"):
        our_model("ViTModel", tmp_path / "preset", add_pooling_layer=False)


def test_a_backbone_without_biases_of_query_key_and_value_is_refused_for_that_of_the_output(tmp_path):
    spread(their_backbone(use_mha_bias=False)).save_to_preset(tmp_path / "preset")
    with pytest.raises(ValueError, match="lacks .*mha/output_dense/vars/1"):
        our_model("ViTModel", tmp_path / "preset", add_pooling_layer=False)


def test_a_preset_that_we_converted_has_the_config_of_theirs(tmp_path):
    theirs = their_backbone(image_shape=(32, 48, 3), layer_norm_epsilon=1e-3)
    theirs.save_to_preset(tmp_path / "preset")
    convert(tmp_path / "preset", tmp_path / "converted")
    config = json.loads((tmp_path / "converted" / "config.json").read_text())
    assert config["image_size"] == [32, 48]
    assert config["layer_norm_eps"] == 1e-3
