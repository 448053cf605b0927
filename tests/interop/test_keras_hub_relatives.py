"""KerasHub's DeiT, DINOv2, DINOv3, SigLIP and CLIP load what we write, and we load what they write.

Run by `nox -s interop`. Keras is on both sides here.
"""

from __future__ import annotations

import warnings

import h5py
import numpy as np
import pytest

keras_hub = pytest.importorskip("keras_hub")
models = keras_hub.models

import vit_tf  # noqa: E402
from conversion import convert, load  # noqa: E402

SPREAD = 0.15  # wide enough that each term of the forward pass shows
SIZES = {"patch_size": 8, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
THEIRS = {"patch_size": 8, "hidden_dim": 32, "num_layers": 3, "num_heads": 4}
TEXTS = {"vocabulary_size": 7, "embedding_dim": 8, "hidden_dim": 8, "num_layers": 1, "num_heads": 2,
         "intermediate_dim": 8, "max_sequence_length": 4}  # fmt: skip
IMAGE = (32, 32, 3)
CHANNELS_LAST = {"data_format": "channels_last"}


def ours(family, **fields):
    """A config of ours."""
    config = getattr(vit_tf, f"{family}Config")
    width = {"mlp_ratio": 2} if family.startswith("Dinov2") else {"intermediate_size": 64}
    return config(**{**SIZES, "image_size": 32, **width, "num_labels": 5, **fields})


def theirs(name, **arguments):
    """A model of theirs."""
    sizes = {"position_embedding_shape": IMAGE, "apply_layernorm": True} if name == "DINOV2Backbone" else {}
    return getattr(models, name)(**{**THEIRS, "image_shape": IMAGE, "intermediate_dim": 64, **sizes, **arguments})


#: For each case, the name of our model, its config's fields, the name of theirs, its arguments.
CASES = {
    "DeiT": ("DeiTModel", {"layer_norm_eps": 1e-6}, "DeiTBackbone", {}),
    "DeiT, wide": (
        "DeiTModel",
        {"layer_norm_eps": 1e-3, "image_size": (32, 48), "patch_size": (8, 16)},
        "DeiTBackbone",
        {"layer_norm_epsilon": 1e-3, "image_shape": (32, 48, 3), "patch_size": (8, 16)},
    ),
    "DINOv2": ("Dinov2Model", {}, "DINOV2Backbone", {}),
    "DINOv2, gated": (
        "Dinov2Model",
        {"use_swiglu_ffn": True, "use_mask_token": False, "num_channels": 1},
        "DINOV2Backbone",
        {
            "use_swiglu_ffn": True,
            "use_mask_token": False,
            "image_shape": (32, 32, 1),
            "position_embedding_shape": (32, 32, 1),
        },
    ),
    "DINOv2 with registers": (
        "Dinov2WithRegistersModel",
        {"num_register_tokens": 2},
        "DINOV2Backbone",
        {"num_register_tokens": 2, "antialias_in_interpolation": True},
    ),
    "DINOv3": ("DINOv3ViTModel", {"num_register_tokens": 4}, "DINOV3Backbone", {"use_key_bias": False}),
    "DINOv3, gated": (
        "DINOv3ViTModel",
        {
            **{"use_gated_mlp": True, "hidden_act": "silu", "rope_theta": 50.0, "layer_norm_eps": 1e-3},
            **{"key_bias": True, "query_bias": False, "proj_bias": False, "mlp_bias": False, "image_size": (32, 48)},
        },
        "DINOV3Backbone",
        {
            **{"use_gated_mlp": True, "hidden_activation": "silu", "rope_theta": 50.0, "layer_norm_eps": 1e-3},
            **{"use_query_bias": False, "use_proj_bias": False, "use_mlp_bias": False, "num_register_tokens": 0},
            "image_shape": (32, 48, 3),
        },
    ),
    "SigLIP": ("SiglipVisionModel", {}, "SigLIPVisionEncoder", {}),
    "SigLIP, SELU": (
        "SiglipVisionModel",
        {"hidden_act": "selu"},
        "SigLIPVisionEncoder",
        {"intermediate_activation": "selu"},
    ),
    "CLIP": ("CLIPVisionModel", {}, "CLIPVisionEncoder", {}),
    "CLIP, GELU": ("CLIPVisionModel", {"hidden_act": "gelu"}, "CLIPVisionEncoder", {"intermediate_activation": "gelu"}),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def pair(request):
    """A model of ours, and what builds the same of theirs."""
    name, fields, class_name, arguments = request.param
    model = getattr(vit_tf, name)(ours(name.removesuffix("Model"), **fields), **CHANNELS_LAST)
    model(images(model.config))
    return spread(model), lambda **more: theirs(class_name, **{**arguments, **more})


def spread(model):
    """Move all weights away from where they start, from which many would not show."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.dtype == "float32":
            weight.assign(weight + SPREAD * rng.standard_normal(weight.shape).astype("float32"))
    return model


def images(config, size=None):
    shape = (2, *(size or config.image_shape), config.num_channels)
    return np.random.default_rng(1).standard_normal(shape).astype("float32")


def answer(model, pixel_values):
    """What their model makes of images."""
    (name,) = model.input if isinstance(model.input, dict) else (None,)
    return np.asarray(model({name: pixel_values} if name else pixel_values))


def our_model(name, source):
    options = {"add_pooling_layer": False} if name.endswith("DeiTModel") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*the text tower, .* is left out")
        return getattr(vit_tf, name).from_pretrained(source, **CHANNELS_LAST, **options)


def assert_same(mine, other, size=None):
    """The same answers: SigLIP's is pooled, and CLIP's tokens are normed, of which ours is the first."""
    pixel_values = images(mine.config, size)
    found, expected = mine(pixel_values), answer(other, pixel_values)
    if type(other).__name__.startswith(("SigLIP", "CLIP")):
        found, expected = found.pooler_output, expected.reshape(len(expected), -1, expected.shape[-1])[:, 0]
    else:
        found = found.last_hidden_state
    assert expected.std() > 0.1  # otherwise much would be equal
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-5, rtol=0)


def shapes_in(file):
    with h5py.File(file) as opened:
        found = {}
        opened.visititems(lambda name, item: found.update({name: item.shape} if hasattr(item, "shape") else {}))
        return found


def test_a_folder_that_we_write_is_a_preset_of_theirs(pair, tmp_path):
    mine, build = pair
    mine.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "preset", to="keras-hub")
    other = models.Backbone.from_preset(str(tmp_path / "preset"))
    assert_same(mine, other)
    again = build()
    again.load_weights(tmp_path / "preset" / "model.weights.h5")
    assert_same(mine, again)
    again.save_weights(tmp_path / "theirs.weights.h5")
    assert shapes_in(tmp_path / "theirs.weights.h5") == shapes_in(tmp_path / "preset" / "model.weights.h5")
    unnamed = {"name", "trainable", "dtype"}
    assert {name: other.get_config()[name] for name in other.get_config().keys() - unnamed} == {
        name: value if not isinstance(value, tuple) else list(value)
        for name, value in again.get_config().items()
        if name not in unnamed
    }


def test_weights_and_presets_of_theirs_load_here(pair, tmp_path):
    mine, build = pair
    other = spread(build())
    other.save_to_preset(tmp_path / "preset")
    other.load_weights(tmp_path / "preset" / "model.weights.h5")
    found = our_model(type(mine).__name__, tmp_path / "preset")
    assert_same(found, other)
    told = {name: getattr(mine.config, name) for name in ("image_size", "hidden_act", "layer_norm_eps", "rope_theta",
            "num_attention_heads") if hasattr(mine.config, name)}  # fmt: skip
    alone = load(tmp_path / "preset" / "model.weights.h5", **told)
    assert alone.tensors.keys() == load(tmp_path / "preset").tensors.keys()


@pytest.mark.parametrize(("size", "antialias"), [(32, False), (128, False), (48, True), (128, True)])
def test_dinov2s_positions_are_resampled_as_theirs_are(size, antialias, tmp_path):
    """Without antialiasing, TensorFlow rounds places to 1/1024, which changes nothing for powers of two."""
    other = spread(theirs("DINOV2Backbone", position_embedding_shape=(64, 64), antialias_in_interpolation=antialias))
    other.save_to_preset(tmp_path / "preset")
    resized = models.Backbone.from_preset(str(tmp_path / "preset"), image_shape=(size, size, 3))
    mine = our_model("Dinov2Model", tmp_path / "preset")
    assert mine.config.position_resampling == ("antialiased" if antialias else "catmull-rom")
    assert_same(mine, resized, (size, size))
    done = convert(tmp_path / "preset", tmp_path / "again", to="keras-hub")
    assert not any("resamples" in note for note in done.notes)
    assert_same(mine, models.Backbone.from_preset(str(tmp_path / "again"), image_shape=(size, size, 3)), (size, size))


def test_of_a_siglip_the_image_tower_is_read_and_the_rest_named(tmp_path):
    tower = theirs("SigLIPVisionEncoder")
    whole = spread(models.SigLIPBackbone(tower, models.SigLIPTextEncoder(**TEXTS, projection_dim=32)))
    whole.save_to_preset(tmp_path / "preset")
    for source in (tmp_path / "preset", tmp_path / "preset" / "model.weights.h5"):
        assert_same(our_model("SiglipVisionModel", source), tower)
        left_out = load(source).left_out
        assert {"layers/sig_lip_head/vars/0", "layers/sig_lip_text_encoder/layers/dense/vars/0"} <= {*left_out}


@pytest.mark.parametrize("numbered", [False, True], ids=["from scratch", "converted"])
def test_of_a_clip_the_image_tower_is_read_with_its_projection(numbered, tmp_path):
    """A model from scratch looks up the same position for every token."""
    tower = theirs("CLIPVisionEncoder")
    whole = spread(models.CLIPBackbone(tower, models.CLIPTextEncoder(**TEXTS), projection_dim=12))
    if numbered:
        tower.embedding.position_ids.assign(np.arange(17)[None])
    whole.save_to_preset(tmp_path / "preset")
    mine = our_model("CLIPVisionModelWithProjection", tmp_path / "preset")
    pixel_values = images(mine.config)
    expected = np.asarray(whole.get_vision_embeddings(pixel_values))
    assert expected.std() > 0.1
    np.testing.assert_allclose(np.asarray(mine(pixel_values).image_embeds), expected, atol=1e-5, rtol=0)
    assert "layers/dense_1/vars/0" in load(tmp_path / "preset").left_out
    done = convert(tmp_path / "preset", tmp_path / "tower", to="keras-hub")
    assert "KerasHub's CLIP has no place for visual_projection.weight; left out" in done.notes
    written = models.Backbone.from_preset(str(tmp_path / "tower"))
    np.testing.assert_allclose(answer(written, pixel_values), answer(tower, pixel_values), atol=1e-5, rtol=0)


def test_what_ours_cannot_be_is_refused(tmp_path):
    theirs("SigLIPVisionEncoder", layer_norm_epsilon=1e-3).save_to_preset(tmp_path / "siglip")
    with pytest.raises(ValueError, match=r"its layers norm with epsilon 0\.001, but its last norm with 1e-06"):
        our_model("SiglipVisionModel", tmp_path / "siglip")
    theirs("DINOV3Backbone", use_mask_token=False).save_to_preset(tmp_path / "dinov3")
    with pytest.raises(ValueError, match="no mask token"):
        our_model("DINOv3ViTModel", tmp_path / "dinov3")
    theirs("CLIPVisionEncoder", intermediate_activation="softsign").save_to_preset(tmp_path / "clip")
    with pytest.raises(ValueError, match="its activation is 'softsign'; it is not supported"):
        our_model("CLIPVisionModel", tmp_path / "clip")
