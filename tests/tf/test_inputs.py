import numpy as np
import pytest
import tensorflow as tf

from vit_tf import (
    BatchFeature,
    TFViTForImageClassification,
    TFViTForMaskedImageModeling,
    TFViTModel,
    ViTConfig,
    ViTImageProcessor,
)

MODELS = [TFViTModel, TFViTForImageClassification, TFViTForMaskedImageModeling]
IMAGES = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
HEAD_MASK = np.array([1, 0, 0.5, 1], np.float32)
ANY_IMAGES = tf.TensorSpec([None, None, None, None])


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, atol=1e-6)


# The forms that arguments come in


@pytest.fixture(scope="module")
def model():
    """A model that no test changes."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    return TFViTModel(ViTConfig(**sizes, image_size=32, patch_size=8))


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model(IMAGES, HEAD_MASK),
        lambda model: model(tf.constant(IMAGES), tf.constant(HEAD_MASK)),
        lambda model: model(IMAGES, head_mask=HEAD_MASK),
        lambda model: model(pixel_values=IMAGES, head_mask=HEAD_MASK),
        lambda model: model([IMAGES, HEAD_MASK]),
        lambda model: model((IMAGES,), head_mask=HEAD_MASK),
        lambda model: model([IMAGES], HEAD_MASK),
        lambda model: model({"pixel_values": IMAGES, "head_mask": HEAD_MASK}),
        lambda model: model({"pixel_values": IMAGES}, head_mask=HEAD_MASK),
        lambda model: model({"head_mask": HEAD_MASK}, IMAGES),
        lambda model: model(BatchFeature({"pixel_values": IMAGES, "head_mask": HEAD_MASK})),
        lambda model: model(BatchFeature({"pixel_values": IMAGES}, "tf"), head_mask=HEAD_MASK),
        lambda model: model(**BatchFeature({"pixel_values": IMAGES, "head_mask": HEAD_MASK}, "tf")),
        lambda model: tf.function(model)({"pixel_values": IMAGES, "head_mask": HEAD_MASK}),
    ],
)
def test_arguments_come_by_position_by_name_in_a_sequence_and_in_a_dict(model, call):
    outputs = call(model)
    assert_close(outputs.last_hidden_state, model(IMAGES, head_mask=HEAD_MASK).last_hidden_state)
    assert np.abs(outputs.last_hidden_state - model(IMAGES).last_hidden_state).max() > 1e-3


def test_labels_and_masks_may_be_in_the_dict(tiny_config):
    labels, mask = np.array([0, 4]), np.arange(32).reshape(2, 16) % 2
    classifier, reconstructor = TFViTForImageClassification(tiny_config), TFViTForMaskedImageModeling(tiny_config)
    assert_close(classifier({"pixel_values": IMAGES, "labels": labels}).loss, classifier(IMAGES, labels=labels).loss)
    assert_close(
        reconstructor({"pixel_values": IMAGES, "bool_masked_pos": mask}).loss, reconstructor([IMAGES, mask]).loss
    )


def test_the_second_argument_is_that_of_the_signature(tiny_config):
    mask = np.ones((2, 16), bool)
    assert TFViTForMaskedImageModeling(tiny_config)(IMAGES, mask).loss is not None
    # In classifiers it is the head mask.
    model = TFViTForImageClassification(tiny_config)
    assert_close(model(IMAGES, HEAD_MASK).logits, model(IMAGES, head_mask=HEAD_MASK).logits)


def test_what_a_processor_returns_is_an_input(tiny_config):
    model = TFViTForImageClassification(tiny_config)
    pictures = list(np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), np.uint8))
    logits = []
    for return_tensors in ("tf", "np"):
        batch = ViTImageProcessor(size=32)(pictures, return_tensors=return_tensors)
        logits += [model(batch).logits, model(**batch).logits]
    for each in logits:
        assert each.shape == (2, 5)
        assert_close(each, logits[0])


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float16", "float64", "bool"])
def test_images_of_any_dtype_are_numbers(tiny_config, dtype):
    model, images = TFViTModel(tiny_config), np.arange(2 * 3 * 32 * 32).reshape(2, 3, 32, 32) % 7
    images = images.astype(dtype)
    expected = model(images.astype(np.float32)).last_hidden_state
    for each in (images, tf.constant(images)):
        found = model(each).last_hidden_state
        assert found.dtype == "float32"
        assert_close(found, expected)


@pytest.mark.parametrize("dtype", ["bool", "int32", "int64", "float32"])
def test_masks_of_any_dtype_are_masks(tiny_config, dtype):
    model, mask = TFViTForMaskedImageModeling(tiny_config), np.arange(32).reshape(2, 16) % 3 == 0
    expected = model(IMAGES, mask)
    for each in (mask.astype(dtype), tf.constant(mask.astype(dtype)), mask.astype(dtype).tolist()):
        found = model(IMAGES, bool_masked_pos=each)
        assert_close(found.loss, expected.loss)
        assert_close(found.reconstruction, expected.reconstruction)


@pytest.mark.parametrize("head_mask", [[1, 0, 1, 1], [[1, 0, 1, 1]] * 2, np.array([True, False, True, True])])
def test_head_masks_may_be_lists_integers_and_booleans(tiny_config, head_mask):
    model = TFViTModel(tiny_config)
    expected = model(IMAGES, head_mask=np.array([1, 0, 1, 1], np.float32)).last_hidden_state
    assert_close(model(IMAGES, head_mask=head_mask).last_hidden_state, expected)


# Arguments that cannot be understood


@pytest.mark.parametrize("model_class", MODELS)
@pytest.mark.parametrize("nothing", [(), (None,), ([],), ({},)], ids=repr)
def test_missing_images_are_named(tiny_config, model_class, nothing):
    with pytest.raises(ValueError, match=r"pixel_values are missing; pass images of shape \(batch, channels, height"):
        model_class(tiny_config)(*nothing)


@pytest.mark.parametrize("images", [IMAGES.tolist()[0][0][0][0], "cat.png", BatchFeature({"pixel_values": [IMAGES]})])
def test_images_that_are_no_array_are_named(tiny_config, images):
    with pytest.raises((TypeError, ValueError), match="pixel_values"):
        TFViTModel(tiny_config)(images)


@pytest.mark.parametrize(
    "call", [lambda model: model(IMAGES, label=1), lambda model: model({"pixel_values": IMAGES, "label": 1})]
)
def test_unknown_names_are_named_with_those_there_are(tiny_config, call):
    with pytest.raises(TypeError, match="TFViTForImageClassification takes no 'label'; it takes pixel_values, "):
        call(TFViTForImageClassification(tiny_config))


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model(IMAGES, HEAD_MASK, head_mask=HEAD_MASK),
        lambda model: model([IMAGES, HEAD_MASK], head_mask=HEAD_MASK),
        lambda model: model({"pixel_values": IMAGES, "head_mask": HEAD_MASK}, head_mask=HEAD_MASK),
    ],
)
def test_arguments_given_twice_are_named(tiny_config, call):
    with pytest.raises(TypeError, match="TFViTModel got 'head_mask' twice"):
        call(TFViTModel(tiny_config))


def test_images_given_twice_are_named(tiny_config):
    with pytest.raises(TypeError, match="'pixel_values'"):
        TFViTModel(tiny_config)(IMAGES, pixel_values=IMAGES)
    with pytest.raises(TypeError, match="got 'pixel_values' twice"):
        TFViTModel(tiny_config)({"pixel_values": IMAGES}, IMAGES)


def test_too_many_arguments_are_counted(tiny_config):
    with pytest.raises(TypeError, match="TFViTModel takes 10 arguments, pixel_values, head_mask, .*; not 11"):
        TFViTModel(tiny_config)([IMAGES] * 11)


# Images and masks that do not fit, in the three ways in which a model can run

IMAGES_THAT_DO_NOT_FIT = [
    ((1, 1, 32, 32), False, "1 channels, the model takes 3"),
    ((1, 32, 32, 3), False, "32 channels, the model takes 3; channels come first"),
    ((1, 3, 48, 32), False, "48 x 32 pixels do not fit a model for 32 x 32; .* interpolate_pos_encoding=True"),
    ((1, 3, 32, 31), False, "32 x 31 pixels do not fit a model for 32 x 32"),
    ((1, 3, 4, 32), True, "4 x 32 pixels are smaller than one patch of 8 x 8"),
    ((1, 3, 32, 7), True, "32 x 7 pixels are smaller than one patch of 8 x 8"),
]


@pytest.mark.parametrize("shape", [(3, 32, 32), (32,), (), (1, 1, 3, 32, 32)])
def test_images_of_another_rank_are_named(tiny_config, shape):
    model, images = TFViTModel(tiny_config), np.zeros(shape, np.float32)
    shown = str(shape).replace("(", r"\(").replace(")", r"\)")
    for run in (model, tf.function(model)):
        with pytest.raises(ValueError, match=rf"shape {shown}; they need \(batch, channels, height, width\)"):
            run(images)


def test_images_of_unknown_rank_are_refused_while_a_graph_is_traced(tiny_config):
    model = TFViTModel(tiny_config)
    with pytest.raises(ValueError, match=r"shape unknown; they need \(batch, channels, height, width\)"):
        tf.function(model, input_signature=[tf.TensorSpec(None)])(IMAGES)


@pytest.mark.parametrize(("shape", "interpolate", "words"), IMAGES_THAT_DO_NOT_FIT)
def test_images_that_do_not_fit_are_named_at_once_where_sizes_are_known(tiny_config, shape, interpolate, words):
    model, images = TFViTModel(tiny_config), np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=words):
        model(images, interpolate_pos_encoding=interpolate)
    with pytest.raises(ValueError, match=words):
        tf.function(model)(images, interpolate_pos_encoding=interpolate)
    with pytest.raises(ValueError, match=words):  # the number of images may be open
        tf.function(
            lambda images: model(images, interpolate_pos_encoding=interpolate),
            input_signature=[tf.TensorSpec([None, *shape[1:]])],
        )(images)


@pytest.mark.parametrize("interpolate", [False, True])
def test_a_graph_for_any_size_names_images_that_do_not_fit_when_it_runs(tiny_config, interpolate):
    model = TFViTModel(tiny_config)
    run = tf.function(
        lambda images: model(images, interpolate_pos_encoding=interpolate)[0], input_signature=[ANY_IMAGES]
    )
    assert_close(run(IMAGES), model(IMAGES)[0])
    for shape, is_interpolated, words in IMAGES_THAT_DO_NOT_FIT:
        if is_interpolated == interpolate:
            with pytest.raises(tf.errors.InvalidArgumentError) as error:
                run(np.zeros(shape, np.float32))
            assert_says(error, words.split(";")[0])


def assert_says(error, words):
    """TensorFlow puts values in brackets; the words between them are the same."""
    said = " ".join(error.value.message.replace("[", " ").replace("]", " ").split())
    assert words in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"head_mask": np.ones(3)}, r"head_mask has shape \(3,\); the model takes \(4,\) or \(2, 4\)"),
        ({"head_mask": np.ones((1, 4))}, r"head_mask has shape \(1, 4\); the model takes \(4,\) or \(2, 4\)"),
        ({"bool_masked_pos": np.ones((2, 16))}, "needs a mask token; .* use_mask_token=True"),
    ],
)
def test_masks_that_a_model_cannot_take_are_named(tiny_config, options, words):
    model = TFViTModel(tiny_config)
    for run in (model, tf.function(model)):
        with pytest.raises(ValueError, match=words):
            run(IMAGES, **options)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 15), r"shape \(2, 15\); one entry for each patch is needed, \(2, 16\)"),
        ((1, 16), r"shape \(1, 16\); one entry for each patch is needed, \(2, 16\)"),
        ((16,), r"shape \(16,\); \(batch, patches\) is needed"),
        ((2, 4, 4), r"shape \(2, 4, 4\); \(batch, patches\) is needed"),
    ],
)
def test_masks_of_the_wrong_shape_are_named(tiny_config, shape, words):
    model, mask = TFViTForMaskedImageModeling(tiny_config), np.ones(shape, bool)
    for run in (model, tf.function(model)):
        with pytest.raises(ValueError, match=words):
            run(IMAGES, mask)


def test_a_graph_for_any_mask_names_one_that_does_not_fit_when_it_runs(tiny_config):
    model = TFViTForMaskedImageModeling(tiny_config)
    run = tf.function(
        lambda images, mask: model(images, mask, interpolate_pos_encoding=True).loss,
        input_signature=[ANY_IMAGES, tf.TensorSpec([None, None], "bool")],
    )
    assert_close(run(IMAGES, np.ones((2, 16), bool)), model(IMAGES, np.ones((2, 16), bool)).loss)
    for shape in ((2, 15), (1, 16), (3, 16)):
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            run(IMAGES, np.ones(shape, bool))
        assert_says(error, f"bool_masked_pos has shape ( {shape[0]} , {shape[1]} ); one entry for each patch is needed")


def test_patches_that_the_decoder_cannot_reconstruct_are_named(tiny_config):
    tiny_config.encoder_stride = 16
    model = TFViTForMaskedImageModeling(tiny_config)
    words = "patch_size is 8 and encoder_stride 16; with bool_masked_pos they must be equal"
    for run in (model, tf.function(model)):
        with pytest.raises(ValueError, match=words):
            run(IMAGES, np.ones((2, 16)))


# Labels that do not fit


@pytest.mark.parametrize("label", [5, -1])
def test_labels_out_of_range_are_named_at_once_or_when_the_graph_runs(tiny_config, label):
    model, labels = TFViTForImageClassification(tiny_config), np.array([0, label])
    with pytest.raises(ValueError, match=rf"labels hold {label}; with num_labels=5 they go from 0 to 4"):
        model(IMAGES, labels=labels)
    run = tf.function(lambda images, labels: model(images, labels=labels).loss)
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        run(IMAGES, labels)
    assert_says(error, f"labels hold {label} ; with num_labels=5 they go from 0 to 4")


def test_labels_out_of_range_make_the_loss_nan_under_xla(tiny_config):
    model = TFViTForImageClassification(tiny_config)
    run = tf.function(lambda labels: model(IMAGES, labels=labels).loss, jit_compile=True)
    for label in (5, -1):
        assert np.isnan(run(tf.constant([0, label])))
    for label in (4, -100):
        assert_close(run(tf.constant([0, label])), model(IMAGES, labels=np.array([0, label])).loss)


def test_too_few_labels_are_named(tiny_config):
    model = TFViTForImageClassification(tiny_config)
    for run in (model, tf.function(model)):
        with pytest.raises(ValueError, match=r"labels of shape \(1,\) do not give one class to each of 2 images"):
            run(IMAGES, labels=np.array([0]))
        with pytest.raises(ValueError, match=r"labels have shape \(2, 4\); they need that of the logits, \(2, 5\)"):
            run(IMAGES, labels=np.zeros((2, 4), np.float32))


def test_a_graph_for_any_labels_counts_them_when_it_runs(tiny_config):
    model = TFViTForImageClassification(tiny_config)
    run = tf.function(
        lambda images, labels: model(images, labels=labels).loss,
        input_signature=[ANY_IMAGES, tf.TensorSpec([None], "int64")],
    )
    assert_close(run(IMAGES, np.array([0, 4])), model(IMAGES, labels=np.array([0, 4])).loss)
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        run(IMAGES, np.array([0]))
    assert_says(error, "do not give one class to each of 2 images")
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        run(IMAGES, np.array([0, 5]))
    assert_says(error, "labels hold 5 ; with num_labels=5")


# No images at all


@pytest.mark.parametrize("model_class", MODELS)
def test_a_graph_gives_no_results_for_no_images(tiny_config, model_class):
    model = model_class(tiny_config)
    run = tf.function(lambda images: model(images)[0], input_signature=[tf.TensorSpec([None, 3, 32, 32])])
    assert run(IMAGES[:0]).shape == (0, *run(IMAGES).shape[1:])
