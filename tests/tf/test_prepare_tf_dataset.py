"""`prepare_tf_dataset`, on tables like those of the package `datasets` and on plain Python's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from vit_tf import (
    DefaultDataCollator,
    TFViTForImageClassification,
    TFViTForMaskedImageModeling,
    TFViTModel,
    ViTImageProcessor,
)

IMAGES = np.random.default_rng(0).normal(size=(10, 3, 32, 32)).astype("float32")
LABELS = [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]


class Table:
    """What is asked of a `datasets.Dataset`: columns of lists, formats, and transforms when rows are read."""

    def __init__(self, columns, kind=None, only=None, transform=None):
        self.columns, self.format, self.only, self.transform = columns, {"type": kind}, only, transform

    @property
    def column_names(self):
        return list(self.columns)

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key):
        assert isinstance(key, slice) or all(type(index) is int for index in key)
        rows = list(range(len(self)))[key] if isinstance(key, slice) else key
        found = {
            name: [column[i] for i in rows]
            for name, column in self.columns.items()
            if name in (self.only or self.columns)
        }
        if self.transform:
            return self.transform(found)
        return {name: np.array(column) for name, column in found.items()} if self.format["type"] == "numpy" else found

    def with_format(self, kind, columns=None):
        return Table(self.columns, kind, columns)

    def with_transform(self, transform):
        return Table(self.columns, "custom", None, transform)


COLUMNS = {"pixel_values": IMAGES.tolist(), "label": LABELS, "file": [f"{i}.png" for i in range(10)]}
SOURCES = {
    "table": Table(COLUMNS),
    "arrays": {"pixel_values": IMAGES, "labels": np.array(LABELS), "file": np.array(COLUMNS["file"])},
    "rows": [{"pixel_values": image, "label": label, "file": "x"} for image, label in zip(IMAGES, LABELS, strict=True)],
    "transformed": Table({"n": list(range(10))}).with_transform(
        lambda rows: {"pixel_values": [IMAGES[n] for n in rows["n"]], "labels": [LABELS[n] for n in rows["n"]]}
    ),
}


@pytest.fixture
def model(one_layer):
    return TFViTForImageClassification(one_layer)


@pytest.mark.parametrize("source", SOURCES)
def test_batches_have_the_images_and_the_labels_in_order(model, source):
    dataset = model.prepare_tf_dataset(SOURCES[source], batch_size=4, shuffle=False)
    assert dataset.element_spec == (
        tf.TensorSpec((None, 3, 32, 32), tf.float32),
        tf.TensorSpec((None,), tf.int64),
    )
    assert len(dataset) == 3
    batches = list(dataset.as_numpy_iterator())
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([images for images, _ in batches]), IMAGES)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in batches]), LABELS)


@pytest.mark.parametrize("source", SOURCES)
def test_each_epoch_has_an_order_of_its_own_and_full_batches(model, source):
    dataset = model.prepare_tf_dataset(SOURCES[source], batch_size=3)
    assert dataset.element_spec[0].shape == (3, 3, 32, 32)
    assert len(dataset) == 3
    epochs = [[int(label) for _, labels in dataset for label in labels] for _ in range(4)]
    assert all(len(epoch) == 9 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    images, labels = next(iter(dataset.as_numpy_iterator()))
    for image, label in zip(images, labels, strict=True):
        assert LABELS[int(np.argmin(np.abs(IMAGES - image).sum(axis=(1, 2, 3))))] == label


def test_an_order_is_the_same_under_the_same_seed(model):
    def order():
        keras.utils.set_random_seed(3)
        dataset = model.prepare_tf_dataset(SOURCES["arrays"], batch_size=5)
        return [labels.tolist() for _ in range(2) for _, labels in dataset.as_numpy_iterator()]

    assert order() == order()


@pytest.mark.parametrize("drop_remainder", [False, True])
def test_the_remainder_is_dropped_as_asked(model, drop_remainder):
    for shuffle in (False, True):
        dataset = model.prepare_tf_dataset(SOURCES["rows"], 4, shuffle, drop_remainder=drop_remainder, prefetch=False)
        assert len(list(dataset)) == len(dataset) == (2 if drop_remainder else 3)


def test_a_model_learns_from_them(model):
    model.compile(keras.optimizers.Adam(3e-3), metrics=["accuracy"])
    training = model.prepare_tf_dataset(SOURCES["table"], batch_size=5)
    validation = model.prepare_tf_dataset(SOURCES["arrays"], batch_size=4, shuffle=False)
    history = model.fit(training, validation_data=validation, epochs=12, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["val_accuracy"][-1] > 0.5
    logits = model.predict(validation, verbose=0).logits
    np.testing.assert_allclose(logits, model(IMAGES).logits, atol=1e-5)


def test_replicas_share_them(one_layer, strategy):
    with strategy.scope():
        model = TFViTForImageClassification(one_layer)
        model.compile(keras.optimizers.SGD(1e-3), metrics=["accuracy"])
    dataset = model.prepare_tf_dataset(SOURCES["arrays"], batch_size=4)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    assert np.isfinite(model.fit(dataset.with_options(options), verbose=0).history["loss"][0])


def test_inputs_are_a_tensor_or_a_dict_as_the_model_takes_them(one_layer):
    columns = {**SOURCES["arrays"], "bool_masked_pos": np.arange(160).reshape(10, 16) % 2 == 0}
    images = TFViTModel(one_layer).prepare_tf_dataset(SOURCES["arrays"], shuffle=False)
    assert images.element_spec == tf.TensorSpec((None, 3, 32, 32), tf.float32)
    masked = TFViTForMaskedImageModeling(one_layer)
    dataset = masked.prepare_tf_dataset(columns, shuffle=False)
    assert {name: spec.shape for name, spec in dataset.element_spec.items()} == {
        "pixel_values": (None, 3, 32, 32),
        "bool_masked_pos": (None, 16),
    }
    masked.compile(keras.optimizers.SGD(1e-3))
    assert masked.fit(dataset, verbose=0).history["loss"][0] > 0


@pytest.mark.parametrize("framework", ["np", "tf"])
def test_a_collate_function_sees_the_rows_and_its_options(model, framework):
    seen = []

    def collate(rows, scale):
        seen.append([type(row["label"]) for row in rows])
        batch = DefaultDataCollator(return_tensors=framework)(rows)
        return {**batch, "pixel_values": batch["pixel_values"] * scale, "noise": 0}

    dataset = model.prepare_tf_dataset(
        SOURCES["table"], batch_size=2, shuffle=False, collate_fn=collate, collate_fn_args={"scale": 2.0}
    )
    images, labels = next(iter(dataset))
    np.testing.assert_array_equal(images, IMAGES[:2] * 2)
    np.testing.assert_array_equal(labels, [0, 1])
    assert {kind for batch in seen for kind in batch} == {int}  # what collators make whole numbers of


def test_a_collate_function_may_make_the_inputs_of_other_columns(model):
    processor = ViTImageProcessor(size=32)
    pictures = [np.full((40, 30, 3), 20 * i, "uint8") for i in range(4)]

    def collate(rows):
        batch = processor([row["image"] for row in rows], return_tensors="np")
        return {**batch, "labels": np.array([row["target"] for row in rows])}

    rows = [{"image": picture, "target": i} for i, picture in enumerate(pictures)]
    dataset = model.prepare_tf_dataset(rows, batch_size=2, shuffle=False, collate_fn=collate)
    images = np.concatenate([images for images, _ in dataset.as_numpy_iterator()])
    np.testing.assert_array_equal(images, processor(pictures, return_tensors="np").pixel_values)


def test_a_tokenizer_or_an_image_processor_changes_nothing(model):
    with_it = model.prepare_tf_dataset(SOURCES["arrays"], shuffle=False, tokenizer=ViTImageProcessor(size=32))
    np.testing.assert_array_equal(next(iter(with_it))[0], IMAGES[:8])


def test_axes_in_which_rows_differ_are_open(one_layer):
    rows = [{"pixel_values": np.zeros((3, 32, 32 + 8 * (i % 2)), "float32")} for i in range(4)]
    dataset = TFViTModel(one_layer).prepare_tf_dataset(rows, batch_size=1, shuffle=False)
    assert dataset.element_spec.shape == (None, 3, 32, None)
    assert [batch.shape[3] for batch in dataset] == [32, 40, 32, 40]


def test_what_is_no_dataset_is_refused(model):
    with pytest.raises(TypeError, match=r"has the splits train, test; pass one, such as dataset\['train'\]"):
        model.prepare_tf_dataset({"train": Table(COLUMNS), "test": Table(COLUMNS)})
    with pytest.raises(TypeError, match=r"is a tf.data.Dataset already; pass it to fit"):
        model.prepare_tf_dataset(tf.data.Dataset.range(3))
    with pytest.raises(TypeError, match="dataset is of type generator; pass a datasets.Dataset"):
        model.prepare_tf_dataset(row for row in SOURCES["rows"])
    with pytest.raises(TypeError, match="dataset is empty; pass"):
        model.prepare_tf_dataset({})
    with pytest.raises(TypeError, match=r"rows\[0\] is a tuple; each row must be a dict"):
        model.prepare_tf_dataset([(IMAGES[0], 1)] * 8)


def test_datasets_without_a_batch_are_refused(model):
    with pytest.raises(ValueError, match="the dataset is empty"):
        model.prepare_tf_dataset([])
    with pytest.raises(ValueError, match=r"10 rows and batch_size is 16.*drop_remainder=False"):
        model.prepare_tf_dataset(SOURCES["arrays"], batch_size=16)
    with pytest.raises(ValueError, match="batch_size is 0"):
        model.prepare_tf_dataset(SOURCES["arrays"], batch_size=0)
    with pytest.raises(
        ValueError, match=r"has image, label and nothing that the model is called with, such as pixel_values"
    ):
        model.prepare_tf_dataset(Table({"image": IMAGES, "label": LABELS}))
    with pytest.raises(ValueError, match="the columns must have one length"):
        model.prepare_tf_dataset({"pixel_values": IMAGES, "labels": LABELS[:9]})
    with pytest.raises(ValueError, match="pixel_values is text"):
        model.prepare_tf_dataset({"pixel_values": np.array(["a.png"])}, shuffle=False)
    with pytest.raises(ValueError, match="pixel_values becomes an array of complex128"):
        model.prepare_tf_dataset({"pixel_values": np.zeros((1, 3, 32, 32), complex)}, shuffle=False)


def test_no_thread_tunes_them(one_layer):
    """For whose sleep the end of an epoch would wait."""
    for prefetch in (True, False):
        dataset = TFViTModel(one_layer).prepare_tf_dataset(SOURCES["arrays"], prefetch=prefetch)
        assert dataset.options().autotune.enabled is False
