"""What ViT can do, each of its relatives can, from the same code."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import vit_tf
from vit_core.families import FAMILIES
from vit_core.layouts import KERAS

# Keras itself, when it writes variables.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(4, 3, 32, 32)).astype(np.float32)
MASK = np.tile(np.arange(16) % 3 == 0, (4, 1))
NOISE = RANDOM.random((4, 16)).astype(np.float32)
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
    "num_labels": 5,
    "initializer_range": 0.2,
}
DECODER = {
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 24,
}
#: What the families' own fields are in these tests.
FIELDS = {
    "vit": {"encoder_stride": 8},
    "deit": {"encoder_stride": 8},
    "vit_mae": DECODER,
    "beit": {"use_mask_token": True, "use_relative_position_bias": True, "vocab_size": 11},
    "data2vec-vision": {"use_shared_relative_position_bias": True, "use_absolute_position_embeddings": True},
    "dinov2": {"mlp_ratio": 1.5},
    "dinov2_with_registers": {"mlp_ratio": 1.5, "num_register_tokens": 2, "use_swiglu_ffn": True},
    "dinov3_vit": {"num_register_tokens": 2, "pos_embed_shift": 0.1, "pos_embed_jitter": 1.1},
    "clip_vision_model": {"projection_dim": 6},
    "vision_transformer": {
        "encoder_stride": 8,
        "vocab_size": 11,
        "prefix_tokens": ["cls_token", "distillation_token"],
        "register_tokens": 2,
        "positioned": "patches",
        "rotary_positions": "mixed",
        "rotary_first": "columns",
        "rotary_stretch": False,
        "patch_norm": True,
        "embedding_norm": True,
        "query_key_norm": True,
        "attention_norm": True,
        "gated_mlp": True,
        "mlp_norm": True,
        "halves": "parallel",
        "norm": "rms",
        "absolute_positions": "sincos",
        "relative_positions": "layers",
        "layer_scale": 0.5,
        "drop_path_rate": 0.2,
        "pooler": "mean-norm",
        "classifier_reads": "pooler",
        "key_bias": False,
    },
}
#: Where graphs are traced, which takes longer for each layer.
ONE_LAYER = {"num_hidden_layers": 1}
#: Of rotary positions, what moves none in training.
STILL = {"pos_embed_shift": None, "pos_embed_jitter": None, "pos_embed_rescale": None}
SHARED = {"use_shared_relative_position_bias": True, "use_relative_position_bias": False}
MODELS = {
    name: (family, task)
    for family in FAMILIES.values()
    for task, name in family.models.items()
    if family.model_type != "vit" and task != "backbone"  # of which are tests of its own
}
#: Of base models that have a pooler, what leaves it out.
WITHOUT_POOLER = {
    name: {"add_pooling_layer": False}
    for name in ("DeiTModel", "BeitModel", "SiglipVisionModel", "VisionTransformerModel")
}
WITH_HEADS = [name for name, (_, task) in MODELS.items() if task != "model"]
#: One of each family, the last of its models.
OF_EACH_FAMILY = list({family.model_type: name for name, (family, _) in MODELS.items()}.values())
#: One of each kind of parts, for what takes seconds: two tokens and two heads, pixels, a decoder, relative positions,
#: visual tokens, the mean of the patches, rotary positions, registers and a gated MLP.
OF_EACH_KIND = [
    *("DeiTForImageClassificationWithTeacher", "DeiTForMaskedImageModeling", "ViTMAEForPreTraining"),
    *("BeitForImageClassification", "BeitForMaskedImageModeling", "IJepaForImageClassification"),
    *("DINOv3ViTModel", "Dinov2WithRegistersForImageClassification"),
]


def config_of(name, fields=None):
    """A config, without what it says of itself."""
    family, task = MODELS[name]
    config_class = family.config_classes.get(task, family.config_class)
    given = {**SIZES, **FIELDS.get(family.model_type, {}), **(fields or {})}
    return config_class(**{key: given[key] for key in given if key != "intermediate_size" or "mlp_ratio" not in given})


@pytest.fixture
def build():
    """A model with random weights, by its name."""

    def build(name, fields=None, **options):
        model = getattr(vit_tf, name)(config_of(name, fields), **options)
        for weight in model.weights:  # tables, scales and mask tokens that start at one number would hide mistakes
            if weight.path.endswith(("table", "lambda_1", "lambda_2", "mask_token")):
                weight.assign(keras.random.normal(weight.shape, stddev=0.3))
        return model

    return build


def batch(name, images=IMAGES):
    """What a model learns from."""
    _, task = MODELS[name]
    inputs = {"pixel_values": images}
    if task == "image-classification":
        inputs["labels"] = np.arange(4)
    if task in ("masked-image-modeling", "masked-token-modeling"):
        inputs["bool_masked_pos"] = MASK
    if task == "masked-token-modeling":
        inputs["labels"] = np.arange(64).reshape(4, 16) % 11
    return inputs


def fixed(name):
    """The same, without what is drawn at random."""
    is_mae = MODELS[name][0].model_type == "vit_mae"
    return {**batch(name), **({"noise": NOISE} if is_mae else {})}


def answer(model, inputs, **options):
    """The output that says most."""
    given = {name: value for name, value in inputs.items() if name != "labels"}
    output = model(given, **options)
    return np.asarray(output["last_hidden_state" if "last_hidden_state" in output else plain_name(output)])


def plain_name(output):
    return next(key for key in ("reconstruction", "logits", "image_embeds", "pooler_output") if key in output)


@pytest.mark.parametrize("name", MODELS)
def test_variables_are_those_of_the_table(name, build):
    model = build(name)
    table = model.parameter_table()
    held = [model.get_parameter(row) for row in table]
    assert {id(variable) for variable in held} == {id(variable) for variable in model.weights}
    for row, variable in zip(table, held, strict=True):
        assert tuple(variable.shape) == KERAS.shape(row), row.name
        assert variable.trainable == row.trainable, row.name


@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables")  # such as a mask token, without a mask
@pytest.mark.parametrize("name", ["DeiTForMaskedImageModeling", "ViTMAEForPreTraining", "BeitForImageClassification"])
def test_fit_with_the_models_own_loss(name, build):
    model = build(name, ONE_LAYER)
    # Momentum, since Adam's graph takes longer to trace than the model's.
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9), jit_compile=name == "BeitForImageClassification")
    inputs = batch(name)
    images_alone = set(inputs) == {"pixel_values"}
    losses = model.fit(IMAGES if images_alone else inputs, batch_size=4, epochs=12, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    predicted = model.predict({name: value for name, value in inputs.items() if name != "labels"}, verbose=0)
    assert plain_name(predicted) in predicted


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_channels_last(name, build):
    model = build(name)
    other = build(name, data_format="channels_last")
    other.set_weights(model.get_weights())
    inputs = fixed(name)
    found = answer(other, {**inputs, "pixel_values": IMAGES.transpose(0, 2, 3, 1)})
    expected = answer(model, inputs)
    if MODELS[name][1] == "masked-image-modeling":
        found = found.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", OF_EACH_FAMILY)
def test_a_head_mask_silences_heads(name, build):
    model = build(name)
    inputs = fixed(name)
    plain = answer(model, inputs)
    np.testing.assert_allclose(answer(model, inputs, head_mask=np.ones((2, 4), np.float32)), plain, atol=1e-5)
    silenced = answer(model, inputs, head_mask=np.array([1, 0, 1, 1], np.float32))
    assert np.abs(silenced - plain).max() > 1e-3
    with pytest.raises(ValueError, match=r"head_mask has shape \(3,\); the model takes \(4,\) or \(2, 4\)"):
        model(inputs["pixel_values"], head_mask=np.ones(3))


@pytest.mark.parametrize(
    ("name", "policy"),
    [*((name, "mixed_bfloat16") for name in OF_EACH_KIND), *((name, "mixed_float16") for name in OF_EACH_KIND[2:4])],
)
def test_mixed_precision(name, build, policy):
    model = build(name)
    half = build(name, dtype=policy)
    half.set_weights(model.get_weights())
    inputs = {key: value for key, value in fixed(name).items() if key != "labels"}
    found = half(inputs)
    assert found[plain_name(found)].dtype == policy.removeprefix("mixed_")
    assert {variable.dtype for variable in half.weights} == {"float32"}
    expected = np.asarray(model(inputs)[plain_name(found)])
    error = np.abs(np.asarray(found[plain_name(found)], np.float32) - expected).max()
    assert error < 0.1 * np.abs(expected).max()
    if "mask" in found:  # noise is not rounded
        np.testing.assert_array_equal(found.mask, model(inputs).mask)


@pytest.mark.parametrize("name", OF_EACH_KIND)
def test_gradient_checkpointing_changes_no_gradient(name, build):
    still = STILL if name == "DINOv3ViTModel" else {}
    model = build(name, {"drop_path_rate": 0.0, **still} if hasattr_drop(name) else None)
    inputs = fixed(name)

    def gradients():
        with tf.GradientTape() as tape:
            output = model(inputs, training=True)
            loss = output["loss"] if "loss" in output else tf.reduce_mean(output[plain_name(output)] ** 2)
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    plain = gradients()
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    for variable, one, other in zip(model.trainable_variables, plain, gradients(), strict=True):
        assert (one is None) == (other is None), variable.path
        if one is not None:
            np.testing.assert_allclose(tf.convert_to_tensor(other), tf.convert_to_tensor(one), atol=1e-5)
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing


def hasattr_drop(name):
    return hasattr(config_of(name), "drop_path_rate")


@pytest.mark.parametrize("name", [*OF_EACH_KIND, "SiglipForImageClassification", "CLIPVisionModelWithProjection"])
def test_a_keras_file_holds_the_model(name, build, tmp_path):
    model = build(name)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is type(model)
    assert again.config.to_dict() == model.config.to_dict()
    np.testing.assert_array_equal(answer(again, fixed(name)), answer(model, fixed(name)))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["BeitModel", "DeiTForImageClassification", "ViTMAEForPreTraining"])
def test_an_hdf5_file_of_keras_holds_the_model(name, build, tmp_path):
    model = build(name)
    model.save(tmp_path / "model.h5")
    again = keras.saving.load_model(tmp_path / "model.h5")
    assert type(again) is type(model)
    np.testing.assert_array_equal(answer(again, fixed(name)), answer(model, fixed(name)))


# tests/tf/test_reference_results.py has graphs that leave the size open for relative positions, too.
@pytest.mark.parametrize("name", ["ViTMAEForPreTraining", "DINOv3ViTModel"])
def test_an_export_serves_the_model(name, build, tmp_path):
    model = build(name, ONE_LAYER | ({"mask_ratio": 0.0} if MODELS[name][0].model_type == "vit_mae" else {}))
    model.export(tmp_path / "served", interpolate_pos_encoding=True, verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "served"))  # which owns the variables
    served = loaded.serve
    key = plain_name(model(IMAGES))
    np.testing.assert_allclose(served(IMAGES)[key], model(IMAGES)[key], atol=1e-5)
    larger = RANDOM.normal(size=(1, 3, 48, 40)).astype(np.float32)
    expected = model(larger, interpolate_pos_encoding=True)[key]
    np.testing.assert_allclose(served(larger)[key], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["DINOv3ViTModel"])  # which has no logits; of classifiers, test_script_methods.py
def test_a_saved_model_has_the_signature_of_transformers(name, build, tmp_path):
    model = build(name, ONE_LAYER)
    model.save_pretrained(tmp_path, saved_model=True)
    loaded = tf.saved_model.load(str(tmp_path / "saved_model" / "1"))
    assert plain_name(model(IMAGES)) in loaded.signatures["serving_default"](pixel_values=tf.constant(IMAGES))


@pytest.mark.parametrize("name", ["DeiTForImageClassificationWithTeacher", "BeitForImageClassification"])
def test_int8(name, build, tmp_path):
    model = build(name)
    expected = answer(model, fixed(name))
    model.quantize("int8")
    found = answer(model, fixed(name))
    assert np.abs(found - expected).max() < 0.15 * np.abs(expected).max()
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(answer(keras.saving.load_model(tmp_path / "model.keras"), fixed(name)), found)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", [*OF_EACH_KIND, "SiglipForImageClassification", "CLIPVisionModelWithProjection"])
def test_a_checkpoint_holds_the_model(name, build, tmp_path):
    model = build(name)
    model.save_pretrained(tmp_path)
    again, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert again.config.architectures == [name]
    np.testing.assert_array_equal(answer(again, fixed(name)), answer(model, fixed(name)))


#: The group of a base model and the name of a model in transformers' tf_model.h5, of those that it has in TensorFlow.
GROUPS = {
    "DeiTModel": "deit/tf_dei_t_model/deit/",
    "DeiTForMaskedImageModeling": "deit/tf_dei_t_for_masked_image_modeling/deit/",
    "DeiTForImageClassification": "deit/tf_dei_t_for_image_classification/deit/",
    "DeiTForImageClassificationWithTeacher": "deit/tf_dei_t_for_image_classification_with_teacher/deit/",
    "ViTMAEModel": "vit/tf_vi_tmae_model/vit/",
    "ViTMAEForPreTraining": "vit/tf_vi_tmae_for_pre_training/vit/",
    "CLIPVisionModel": "clip/tfclip_vision_model/clip/vision_model/",
    "Data2VecVisionModel": "data2vec_vision/tf_data2_vec_vision_model/data2vec_vision/",
    "Data2VecVisionForImageClassification": "data2vec_vision/tf_data2_vec_vision_for_image_classification/"
    "data2vec_vision/",
}


@pytest.mark.parametrize("name", GROUPS)
def test_tf_model_h5_has_the_names_of_transformers_and_holds_the_model(name, build, tmp_path):
    import h5py

    model = build(name)
    model.save_pretrained(tmp_path, safe_serialization=False)
    with h5py.File(tmp_path / "tf_model.h5") as file:
        of_clip = "CLIP" in name
        assert f"{GROUPS[name]}embeddings/{'class_embedding' if of_clip else 'cls_token'}:0" in file
        query = "layers_._1/self_attn/q_proj" if of_clip else "layer_._1/attention/attention/query"
        assert f"{GROUPS[name]}encoder/{query}/kernel:0" in file
        if name == "ViTMAEForPreTraining":
            assert "decoder/tf_vi_tmae_for_pre_training/decoder/decoder_layers.0/output/dense/bias:0" in file
            assert "decoder/tf_vi_tmae_for_pre_training/decoder/mask_token:0" in file
    again = type(model).from_pretrained(tmp_path)
    np.testing.assert_array_equal(answer(again, fixed(name)), answer(model, fixed(name)))


@pytest.mark.parametrize("name", ["BeitForImageClassification", "IJepaModel", "SiglipVisionModel", "DINOv3ViTModel"])
def test_tf_model_h5_of_a_model_that_transformers_has_not_in_tensorflow(name, build, tmp_path):
    model = build(name)
    model.save_pretrained(tmp_path, safe_serialization=False)
    again = type(model).from_pretrained(tmp_path)
    np.testing.assert_array_equal(answer(again, fixed(name)), answer(model, fixed(name)))


@pytest.mark.filterwarnings("ignore:.*pooler.* in the checkpoint, but this model has no")
@pytest.mark.parametrize("name", ["DeiTModel", "BeitModel", "VisionTransformerModel"])
def test_a_subclass_with_a_head_of_its_own(name, build, tmp_path):
    base = build(name, {"use_mask_token": False} if hasattr(build(name).config, "use_mask_token") else None)
    base.save_pretrained(tmp_path)

    class Mine(type(base).__mro__[1]):
        def __init__(self, config, **kwargs):
            super().__init__(config, **kwargs)
            self.backbone = type(base)(config, **WITHOUT_POOLER.get(name, {}), name="backbone")
            self.head = keras.layers.Dense(3)

        def call(self, pixel_values, labels=None, training=False):
            return self.head(self.backbone(pixel_values, training=training)[0][:, 0])

    with pytest.warns(UserWarning, match="head.kernel, head.bias were not in the checkpoint"):
        model = Mine.from_pretrained(tmp_path)
    np.testing.assert_array_equal(answer(model.backbone, fixed(name)), answer(base, fixed(name)))
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    model.fit(IMAGES, np.arange(4) % 3, verbose=0)
    assert {row.name.split(".")[0] for row in model.parameter_table()} == {"backbone"}
    model.save_pretrained(tmp_path / "mine")
    again = Mine.from_pretrained(tmp_path / "mine")
    np.testing.assert_array_equal(again.head.kernel, model.head.kernel)


@pytest.mark.parametrize(
    "name", ["BeitForImageClassification", "BeitForMaskedImageModeling", "Dinov2ForImageClassification"]
)
def test_drop_path_is_random_in_training_and_the_same_under_a_seed(name, build):
    def run(training):
        keras.utils.set_random_seed(7)
        model = build(name, {"drop_path_rate": 0.9})
        return [answer(model, fixed(name), training=training) for _ in range(2)]

    one, other = run(True)
    assert np.abs(one - other).max() > 1e-3
    np.testing.assert_array_equal([one, other], run(True))
    np.testing.assert_array_equal(*run(False))


def test_drop_path_leaves_out_whole_images_and_keeps_the_mean():
    from vit_tf.layers import DropPath

    dropped = np.asarray(DropPath(0.25, seed=0)(np.ones((4000, 3, 2), np.float32), training=True))
    per_image = dropped.reshape(4000, -1)
    assert (per_image == per_image[:, :1]).all()
    np.testing.assert_allclose(np.unique(per_image), [0, 1 / 0.75], rtol=1e-6)
    assert abs(per_image.mean() - 1) < 0.03


def test_errors_of_relatives(build):
    mae = build("ViTMAEForPreTraining")
    with pytest.raises(ValueError, match=r"noise has shape \(4, 15\); one entry for each patch is needed, \(4, 16\)"):
        mae(IMAGES, noise=NOISE[:, :15])
    with pytest.raises(ValueError, match="images are 33 pixels high, which patches of 8 do not fill"):
        mae.patchify(np.zeros((1, 3, 33, 32), np.float32))
    with pytest.raises(ValueError, match="there are 16 patches, but images of 40 x 32 pixels have 20"):
        mae.unpatchify(np.zeros((1, 16, 192), np.float32), (40, 32))
    np.testing.assert_array_equal(mae.unpatchify(mae.patchify(IMAGES)), IMAGES)
    beit = build("BeitForMaskedImageModeling")
    with pytest.raises(ValueError, match="there are 5 labels for 24 patches; give one to each masked patch"):
        beit(IMAGES, bool_masked_pos=MASK, labels=np.arange(5))
    with pytest.raises(ValueError, match="labels hold 11; with vocab_size=11 they go from 0 to 10"):
        beit(IMAGES, bool_masked_pos=MASK, labels=np.full(24, 11))
    with pytest.raises(ValueError, match="there are labels and no bool_masked_pos"):
        beit(IMAGES, labels=np.arange(24) % 11)
    beit.compile("sgd")
    with pytest.raises(ValueError, match="there are no labels or no bool_masked_pos"):
        beit.fit(IMAGES, verbose=0)
    with pytest.raises(ValueError, match="bool_masked_pos needs a mask token"):
        build("BeitForMaskedImageModeling", {"use_mask_token": False})(IMAGES, bool_masked_pos=MASK)
    with pytest.raises(ValueError, match=r"prefix_tokens are \('cls_token',\); a model with a teacher"):
        vit_tf.VisionTransformerForImageClassificationWithTeacher(vit_tf.VisionTransformerConfig(**SIZES))


@pytest.mark.parametrize(
    "fields", [{}, {"use_relative_position_bias": False, "use_shared_relative_position_bias": True}]
)
def test_pruned_heads_are_those_that_a_head_mask_silences(build, fields):
    model = build("BeitForImageClassification", fields)
    config = model.config.replaced(pruned_heads={0: [1]})
    columns = [column for column in range(32) if column // 8 != 1]
    weights = {}
    for row in type(model)(config).parameter_table():
        full = KERAS.to_canonical(row, model.get_parameter(row).numpy())
        for axis, (whole, kept) in enumerate(zip(full.shape, row.shape, strict=True)):
            if whole != kept:
                full = full.take(columns if whole == 32 else [0, 2, 3], axis)
        weights[row.name] = full
    pruned = type(model).from_pretrained(None, config=config, state_dict=weights)
    masked = model(IMAGES, head_mask=np.array([[1, 0, 1, 1], [1, 1, 1, 1]], np.float32), output_attentions=True)
    found = pruned(IMAGES, output_attentions=True)
    np.testing.assert_allclose(found.logits, masked.logits, atol=1e-5)
    assert found.attentions[0].shape == (4, 3, 17, 17)
    np.testing.assert_allclose(found.attentions[0][:, 1], masked.attentions[0][:, 2], atol=1e-5)


@pytest.mark.parametrize("name", [name for name in WITH_HEADS if hasattr_drop(name) and "Dinov2" not in name])
def test_gradient_checkpointing_leaves_out_the_same_paths_again(name, build):
    def gradients(checkpointing):
        keras.utils.set_random_seed(3)
        fields = SHARED if name.startswith("Beit") else {}
        model = build(name, {"drop_path_rate": 0.5, "hidden_dropout_prob": 0.2, **fields})
        if checkpointing:
            model.gradient_checkpointing_enable()
        with tf.GradientTape() as tape:
            loss = model(batch(name), training=True).loss
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    for one, other in zip(gradients(False), gradients(True), strict=True):
        if one is not None:
            np.testing.assert_allclose(tf.convert_to_tensor(other), tf.convert_to_tensor(one), atol=1e-5)
