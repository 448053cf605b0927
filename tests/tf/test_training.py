import keras
import numpy as np
import pytest

from vit_tf import TFViTForImageClassification, TFViTForMaskedImageModeling

COLOURS = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype("float32")
IMAGES = COLOURS.repeat(32, axis=2).repeat(32, axis=3)
MASKS = (np.arange(16) % 2).repeat(4).reshape(16, 4).T


@pytest.mark.parametrize(
    ("model_class", "targets"),
    [
        (TFViTForImageClassification, {"labels": np.arange(4)}),
        (TFViTForMaskedImageModeling, {"bool_masked_pos": MASKS}),
    ],
)
def test_a_few_steps_learn_a_batch_by_heart(tiny_config, model_class, targets):
    tiny_config.num_hidden_layers = 1
    model = model_class(tiny_config)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9))  # Adam's graph takes longer to trace
    losses = model.fit({"pixel_values": IMAGES, **targets}, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 2
