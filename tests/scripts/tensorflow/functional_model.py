"""A Vision Transformer as a layer of a functional Keras model: first a head alone is trained, then everything."""

import sys

import keras
import numpy as np

from vit_tf import TFViTModel

checkpoint, output = sys.argv[1:]

# Dark pictures and bright ones, with the channels last as Keras has them
generator = np.random.default_rng(0)
targets = np.arange(24) % 2
images = (generator.normal(size=(24, 32, 32, 3)) + 2.0 * targets[:, None, None, None]).astype("float32")

base_model = TFViTModel.from_pretrained(checkpoint)
base_model.vit.trainable = False

inputs = keras.Input(shape=(32, 32, 3), name="images")
pixel_values = keras.layers.Permute((3, 1, 2))(inputs)
embeddings = base_model.vit(pixel_values)[0][:, 0, :]
hidden = keras.layers.Dropout(0.1)(keras.layers.Dense(16, activation="relu")(embeddings))
outputs = keras.layers.Dense(2, activation="softmax")(hidden)
model = keras.Model(inputs=inputs, outputs=outputs)

frozen = [array.copy() for array in base_model.vit.get_weights()]
model.compile(optimizer=keras.optimizers.Adam(1e-2), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
first = model.fit(images, targets, validation_split=0.25, batch_size=6, epochs=4, verbose=0)
unchanged = all(map(np.array_equal, frozen, base_model.vit.get_weights()))

base_model.vit.trainable = True
base_model.vit.encoder.layer[0].trainable = False
model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
second = model.fit(
    images,
    targets,
    batch_size=6,
    epochs=8,
    verbose=0,
    class_weight={0: 1.0, 1: 1.5},
    callbacks=[keras.callbacks.ModelCheckpoint(f"{output}.weights.h5", save_weights_only=True)],
)
probabilities = model.predict(images, verbose=0)
model.save(f"{output}.keras")
base_model.save_pretrained(output)
