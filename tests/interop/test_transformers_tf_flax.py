"""transformers' models in TensorFlow and Flax load what we write, and we load what they save.

Run by `nox -s interop`, with transformers 4.47.1: later ones have PyTorch's models only. What those versions of
TensorFlow and JAX are for ours is too old, so that PyTorch answers on our side.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

import vit_torch  # noqa: E402
from conversion import convert  # noqa: E402

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 56, "image_size": 32,
         "patch_size": 8, "encoder_stride": 8}  # fmt: skip
VARIANTS = {
    "plain": {},
    "ten classes": {"id2label": {i: f"class {i}" for i in range(10)}},
    "gray, relu, no biases of query, key and value": {"num_channels": 1, "hidden_act": "relu", "qkv_bias": False},
    "tanh gelu, another epsilon": {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3},
    "twelve layers": {"num_hidden_layers": 12},
}
TASKS = ["ViTModel", "ViTForImageClassification"]
SPREAD = 0.15  # wide enough that each term of the forward pass shows


@pytest.fixture(params=["TF", "Flax"])
def side(request):
    """The prefix of their classes, if that framework is there and transformers still has models for it."""
    pytest.importorskip({"TF": "tf_keras", "Flax": "flax"}[request.param])
    if not hasattr(transformers, f"{request.param}ViTModel"):
        pytest.skip("these transformers have PyTorch's models only")
    return request.param


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request):
    return {**SIZES, **request.param}


@pytest.fixture(params=TASKS)
def task(request):
    return request.param


FORMATS = {"TF": "transformers-tf", "Flax": "transformers-flax"}
FILES = {"TF": "tf_model.h5", "Flax": "flax_model.msgpack"}


def their_class(side, task):
    return getattr(transformers, side + task)


def their_model(side, task, config):
    """One of theirs, with all weights away from where they start, from which many would not show."""
    rng = np.random.default_rng(0)
    if side == "TF":
        model = their_class(side, task)(config)
        model.build_in_name_scope()  # as from_pretrained does
        model.set_weights([w + SPREAD * rng.standard_normal(w.shape, np.float32) for w in model.get_weights()])
        return model
    import jax

    shape = (1, config.image_size, config.image_size, config.num_channels)  # theirs takes it for square
    model = their_class(side, task)(config, input_shape=shape)
    model.params = jax.tree_util.tree_map(
        lambda array: array + SPREAD * rng.standard_normal(array.shape, np.float32), model.params
    )
    return model


def our_model(task, source, **fields):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*the text tower, .* is left out")
        return getattr(vit_torch, task).from_pretrained(source, **fields)


def loaded_by_them(side, task, folder, config, **arguments):
    """Theirs from a folder, in which nothing may be missing and nothing too much."""
    if side == "TF":
        theirs, info = their_class(side, task).from_pretrained(folder, output_loading_info=True, **arguments)
        assert not any(info.values())
        return theirs
    from flax import serialization

    shape = (1, *config.image_shape, config.num_channels)
    theirs = their_class(side, task).from_pretrained(folder, input_shape=shape, **arguments)
    serialization.from_bytes(theirs.params, (folder / FILES[side]).read_bytes())  # raises where names differ
    return theirs


def assert_same_results(ours, theirs, side):
    images = torch.randn(2, ours.config.num_channels, *ours.config.image_shape)
    with torch.no_grad():
        mine = ours.eval()(images)
    pixel_values = images.numpy()
    other = theirs(pixel_values=pixel_values)
    for name in ("logits",) if "logits" in mine else ("last_hidden_state", "pooler_output"):
        expected = np.asarray(other[name])
        assert expected.std() > 0.1  # otherwise much would be equal
        np.testing.assert_allclose(mine[name].numpy(), expected, atol=1e-5, rtol=0)


def test_they_load_what_we_write(side, task, variant, ours, tmp_path):
    folder, model = ours(task, **variant)
    convert(folder, tmp_path / "theirs", to=FORMATS[side])
    assert (tmp_path / "theirs" / FILES[side]).exists()
    theirs = loaded_by_them(side, task, tmp_path / "theirs", model.config)
    assert_same_results(model, theirs, side)


@pytest.mark.parametrize("safe", [False, True], ids=["its own format", "safetensors"])
def test_what_they_save_loads_here(side, task, variant, safe, tmp_path):
    theirs = their_model(side, task, transformers.ViTConfig(**variant))
    theirs.save_pretrained(tmp_path, safe_serialization=safe)
    name = "model.safetensors" if safe else FILES[side]
    assert (tmp_path / name).exists()
    ours = our_model(task, tmp_path)
    assert_same_results(ours, theirs, side)


def test_a_base_model_of_theirs_loads_from_our_classifier(side, ours, tmp_path):
    folder, model = ours("ViTForImageClassification", **SIZES)
    convert(folder, tmp_path / "theirs", to=FORMATS[side])
    theirs = their_class(side, "ViTModel").from_pretrained(tmp_path / "theirs", add_pooling_layer=False)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        mine = model.vit(images).last_hidden_state.numpy()
    other = np.asarray(theirs(pixel_values=images.numpy())["last_hidden_state"])
    np.testing.assert_allclose(mine, other, atol=1e-5, rtol=0)


def test_what_theirs_saves_after_loading_ours_is_ours_again(side, task, ours, tmp_path):
    folder, model = ours(task, **SIZES)
    convert(folder, tmp_path / "theirs", to=FORMATS[side])
    their_class(side, task).from_pretrained(tmp_path / "theirs").save_pretrained(
        tmp_path / "again", safe_serialization=False
    )
    convert(tmp_path / "again", tmp_path / "back")
    again = our_model(task, tmp_path / "back")
    expected = model.state_dict()
    found = again.state_dict()
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=0, rtol=0)


@pytest.mark.parametrize("start", ["build", "call"])
def test_names_of_a_tensorflow_model_that_was_not_built_by_from_pretrained_are_read(start, task, tmp_path):
    """Its own name, with a number from the second one on, stands before those of its weights or does not."""
    pytest.importorskip("tf_keras")
    if not hasattr(transformers, "TFViTModel"):
        pytest.skip("these transformers have PyTorch's models only")
    rng = np.random.default_rng(0)
    for _ in range(2):
        theirs = their_class("TF", task)(transformers.ViTConfig(**SIZES))
        theirs.build() if start == "build" else theirs(np.zeros((1, 3, 32, 32), np.float32))
    theirs.set_weights([w + SPREAD * rng.standard_normal(w.shape, np.float32) for w in theirs.get_weights()])
    theirs.save_pretrained(tmp_path, safe_serialization=False)
    assert_same_results(our_model(task, tmp_path), theirs, "TF")


@pytest.mark.parametrize("file", ["model.h5", "weights.h5", "model.keras"])
@pytest.mark.parametrize("inside", ["model.vit", "model", "classifier"])
def test_the_vit_in_a_functional_keras_model_loads_here(file, inside, tmp_path):
    """The usual way to put one into a model of one's own, and Keras 2's ways to save that."""
    keras = pytest.importorskip("tf_keras")
    if not hasattr(transformers, "TFViTModel"):
        pytest.skip("these transformers have PyTorch's models only")
    config = transformers.ViTConfig(**SIZES, layer_norm_eps=1e-3)
    task = "ViTForImageClassification" if inside == "classifier" else "ViTModel"
    theirs = their_class("TF", task)(config)
    pixels = keras.Input((3, 32, 32), name="pixel_values")
    features = theirs.vit(pixels)[0] if inside == "model.vit" else theirs(pixels)[0]
    features = features if inside == "classifier" else features[:, 0, :]
    model = keras.Model(pixels, keras.layers.Dense(3, name="head", activation="softmax")(features))
    rng = np.random.default_rng(0)
    built = theirs.vit if inside == "model.vit" else theirs
    built.set_weights([w + SPREAD * rng.standard_normal(w.shape, np.float32) for w in built.get_weights()])
    model.compile("adam", "categorical_crossentropy")
    images = rng.standard_normal((2, 3, 32, 32), np.float32)
    model.fit(images, np.eye(3, dtype=np.float32)[:2], verbose=0)
    (model.save_weights if file == "weights.h5" else model.save)(tmp_path / file)
    untold = {"num_attention_heads": config.num_attention_heads, "layer_norm_eps": 1e-3, "hidden_act": "gelu"}
    told = untold | {"num_labels": config.num_labels} if file == "weights.h5" else {}
    ours = our_model(task, tmp_path / file, **told)
    with torch.no_grad():
        mine = ours(torch.from_numpy(images))[0].numpy()
    np.testing.assert_allclose(mine, np.asarray(theirs(images)[0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("safe", [False, True])
def test_shards_of_theirs_load_here(side, task, safe, tmp_path):
    if side == "Flax" and safe:
        pytest.skip("safetensors of Flax are not split")
    theirs = their_model(side, task, transformers.ViTConfig(**SIZES))
    theirs.save_pretrained(tmp_path, safe_serialization=safe, max_shard_size="30KB")
    assert len(list(tmp_path.glob("*-of-*"))) > 2
    assert_same_results(our_model(task, tmp_path), theirs, side)


# Relatives of ViT, of which transformers had DeiT, MAE, data2vec and CLIP in TensorFlow; BEiT, DINOv2 and CLIP in Flax

RELATIVES = {
    "TF": {
        "DeiTModel": {},
        "DeiTForImageClassification": {},
        "DeiTForImageClassificationWithTeacher": {},
        "DeiTForMaskedImageModeling": {"encoder_stride": 8},
        "ViTMAEForPreTraining": {
            "decoder_hidden_size": 24,
            "decoder_num_hidden_layers": 2,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 40,
        },
        "Data2VecVisionForImageClassification": {"use_relative_position_bias": True, "use_mask_token": True},
        "CLIPVisionModel": {},
    },
    "Flax": {
        "BeitModel": {"use_relative_position_bias": True},
        "BeitForImageClassification": {"use_shared_relative_position_bias": True, "use_mask_token": True},
        "BeitForMaskedImageModeling": {
            "use_relative_position_bias": True,
            "use_mask_token": True,
            "use_mean_pooling": False,
            "vocab_size": 20,
        },
        "CLIPVisionModel": {},
        "Dinov2Model": {},
        "Dinov2ForImageClassification": {"num_labels": 10},
    },
}
OF_SIDES = [pytest.param(side, task, id=side + task) for side, tasks in RELATIVES.items() for task in tasks]


@pytest.mark.parametrize(("side", "task"), OF_SIDES, indirect=["side"])
def test_relatives_travel_in_both_directions(side, task, tmp_path):
    config_class = task.partition("For")[0].removesuffix("Model") + "Config"
    dropped = ("encoder_stride", "intermediate_size") if "Dinov2" in task else ("encoder_stride",)
    sizes = {name: size for name, size in SIZES.items() if name not in dropped} | RELATIVES[side][task]
    theirs = their_model(side, task, getattr(transformers, config_class)(**sizes))
    theirs.save_pretrained(tmp_path / "theirs", safe_serialization=False)
    ours = our_model(task, tmp_path / "theirs")
    assert_same_relatives(ours, theirs)
    ours.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "back", to=FORMATS[side])
    assert_same_relatives(ours, loaded_by_them(side, task, tmp_path / "back", ours.config))


def assert_same_relatives(ours, theirs):
    inputs = {"pixel_values": np.random.default_rng(1).standard_normal((2, 3, 32, 32), np.float32)}
    if hasattr(ours.config, "mask_ratio"):
        inputs["noise"] = np.random.default_rng(2).random((2, 16), np.float32)
    with torch.no_grad():
        mine = ours.eval()(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    other = theirs(**inputs)
    name = next(name for name in ("logits", "reconstruction", "last_hidden_state") if name in mine)
    expected = np.asarray(other[name])
    assert expected.std() > 0.1  # otherwise much would be equal
    np.testing.assert_allclose(mine[name].numpy(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("safe", [False, True])
def test_a_whole_clip_of_theirs_opens_as_its_image_tower(side, safe, tmp_path):
    sizes = {name: size for name, size in SIZES.items() if name != "encoder_stride"}
    text = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "eos_token_id": 2}
    config = transformers.CLIPConfig(text_config=text, vision_config=sizes, projection_dim=20)
    rng = np.random.default_rng(0)
    pixel_values = rng.standard_normal((2, 3, 32, 32), np.float32)
    if side == "TF":
        import tensorflow as tf

        given = tf.constant(pixel_values)  # no array, in this method alone
        theirs = transformers.TFCLIPModel(config)
        theirs.build_in_name_scope()
        theirs.set_weights([w + SPREAD * rng.standard_normal(w.shape, np.float32) for w in theirs.get_weights()])
    else:
        import jax

        given = pixel_values
        theirs = transformers.FlaxCLIPModel(config, input_shape=((1, 1), (1, 32, 32, 3)))
        theirs.params = jax.tree_util.tree_map(
            lambda array: array + SPREAD * rng.standard_normal(array.shape, np.float32), theirs.params
        )
    theirs.save_pretrained(tmp_path, safe_serialization=safe)
    ours = our_model("CLIPVisionModelWithProjection", tmp_path).eval()
    with torch.no_grad():
        mine = ours(torch.from_numpy(pixel_values)).image_embeds.numpy()
    expected = np.asarray(theirs.get_image_features(pixel_values=given))
    assert expected.std() > 0.1
    np.testing.assert_allclose(mine, expected, atol=1e-5, rtol=0)
