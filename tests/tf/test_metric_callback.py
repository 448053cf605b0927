"""`KerasMetricCallback` in `fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from vit_tf import BatchFeature, KerasMetricCallback, TFViTForImageClassification, TFViTModel, ViTConfig

IMAGES = np.random.default_rng(0).normal(size=(10, 3, 32, 32)).astype("float32")
LABELS = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3, 4])


@pytest.fixture
def model(tiny_config):
    model = TFViTForImageClassification(tiny_config)
    model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
    return model


@pytest.fixture(scope="module")
def compiled_once():
    """A model for tests that may go on with it as another left it."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    model = TFViTForImageClassification(ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=5))
    model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
    return model


def batches(elements):
    return tf.data.Dataset.from_tensor_slices(elements).batch(4)


#: How a script may have its evaluation data, and what it passes beside.
DATA = {
    "inputs and labels": (batches((IMAGES, LABELS)), {}),
    "a dict and labels": (batches(({"pixel_values": IMAGES}, LABELS)), {}),
    "labels in the dict": (batches({"pixel_values": IMAGES, "labels": LABELS}), {}),
    "named labels": (batches({"pixel_values": IMAGES, "labels": LABELS}), {"label_cols": ["labels"]}),
    "with weights": (batches((IMAGES, LABELS, np.ones(10))), {}),
    "arrays": ((IMAGES, LABELS), {"batch_size": 4}),
    "a dict of arrays": ({"pixel_values": IMAGES, "labels": LABELS}, {"batch_size": 3}),
    "what a processor returns": (BatchFeature({"pixel_values": IMAGES, "labels": LABELS}), {"batch_size": 20}),
}


@pytest.mark.parametrize("kind", DATA)
def test_the_function_gets_logits_and_labels_of_the_whole_dataset(compiled_once, kind):
    model, seen = compiled_once, []

    def metrics(arguments):
        predictions, labels = arguments
        seen.append((predictions, labels))
        return {"error": float((predictions.argmax(-1) != labels).mean()), "rows": len(labels)}

    dataset, options = DATA[kind]
    history = model.fit(
        IMAGES, LABELS, epochs=2, verbose=0, callbacks=[KerasMetricCallback(metrics, dataset, **options)]
    )
    assert history.history["rows"] == [10, 10]
    assert len(seen) == len(history.history["error"]) == 2
    logits, labels = seen[-1]
    assert type(logits) is type(labels) is np.ndarray
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_allclose(logits, model(IMAGES).logits, atol=1e-5)
    assert history.history["error"][-1] == np.mean(logits.argmax(-1) != LABELS)


def test_other_callbacks_and_the_progress_bar_see_the_metrics(model, capsys):
    best = keras.callbacks.EarlyStopping("score", patience=0, mode="max")
    scores = iter([3.0, 2.0, 9.0])
    callbacks = [KerasMetricCallback(lambda _: {"score": next(scores)}, (IMAGES, LABELS), batch_size=5), best]
    history = model.fit(IMAGES, LABELS, epochs=3, verbose=2, callbacks=callbacks)
    assert history.history["score"] == [3.0, 2.0]
    assert "score: 3" in capsys.readouterr().out


def test_several_outputs_and_labels_come_by_name(tiny_config):
    tiny_config.output_hidden_states = True
    model = TFViTForImageClassification(tiny_config)
    model.compile(keras.optimizers.SGD(0.01))
    seen = {}

    def metrics(arguments):
        seen["predictions"], seen["labels"] = arguments
        return {}

    data = {"pixel_values": IMAGES, "labels": LABELS}
    callback = KerasMetricCallback(metrics, data, label_cols=["labels", "pixel_values"], batch_size=4)
    model.fit(IMAGES, LABELS, verbose=0, callbacks=[callback])
    assert set(seen["predictions"]) == {"logits", "hidden_states"}
    assert [each.shape for each in seen["predictions"]["hidden_states"]] == [(10, 17, 32)] * 3
    np.testing.assert_array_equal(seen["labels"]["pixel_values"], IMAGES)
    callback = KerasMetricCallback(metrics, data, output_cols=["logits"], batch_size=4)
    model.fit(IMAGES, LABELS, verbose=0, callbacks=[callback])
    assert seen["predictions"].shape == (10, 5)


def test_a_functional_model_has_metrics_too(tiny_config):
    images = keras.Input((3, 32, 32))
    tokens = TFViTModel(tiny_config, add_pooling_layer=False)(images).last_hidden_state
    model = keras.Model(images, keras.layers.Dense(5)(tokens[:, 0]))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    shapes = []
    callback = KerasMetricCallback(
        lambda each: shapes.append(each[0].shape) or {"x": 1.0}, (IMAGES, LABELS), batch_size=4
    )
    assert model.fit(IMAGES, LABELS, verbose=0, callbacks=[callback]).history["x"] == [1.0]
    assert shapes == [(10, 5)]


def test_replicas_count_each_image_once(tiny_config, strategy):
    with strategy.scope():
        model = TFViTForImageClassification(tiny_config)
        model.compile(keras.optimizers.SGD(0.01))
    seen = []
    callback = KerasMetricCallback(lambda each: seen.append(each) or {}, batches((IMAGES, LABELS)))
    model.fit(IMAGES, LABELS, batch_size=4, verbose=0, callbacks=[callback])
    logits, labels = seen[0]
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_allclose(logits, model(IMAGES).logits, atol=1e-5)


def test_what_cannot_be_measured_is_refused(model):
    with pytest.raises(ValueError, match="predict_with_generate=True asks for text"):
        KerasMetricCallback(dict, (IMAGES, LABELS), batch_size=2, predict_with_generate=True)
    with pytest.raises(ValueError, match="pass a batch_size"):
        KerasMetricCallback(dict, (IMAGES, LABELS))
    with pytest.raises(ValueError, match=r"no 'labels' among its inputs \(pixel_values\) and no labels beside them"):
        KerasMetricCallback(dict, {"pixel_values": IMAGES}, batch_size=2)
    with pytest.raises(ValueError, match=r"no 'classes' among its inputs \(pixel_values, labels\)"):
        KerasMetricCallback(dict, {"pixel_values": IMAGES, "labels": LABELS}, batch_size=2, label_cols=["classes"])
    with pytest.raises(TypeError, match=r"metric_fn returned a float; it must return a dict"):
        model.fit(
            IMAGES, LABELS, verbose=0, callbacks=[KerasMetricCallback(lambda _: 0.5, (IMAGES, LABELS), batch_size=2)]
        )
    callback = KerasMetricCallback(dict, (IMAGES, LABELS), output_cols=["scores"], batch_size=2)
    with pytest.raises(ValueError, match="output_cols names 'scores', and the model returns logits"):
        model.fit(IMAGES, LABELS, verbose=0, callbacks=[callback])
