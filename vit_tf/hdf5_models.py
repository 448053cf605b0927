"""Lets Keras load models from the HDF5 files that `model.save("model.h5")` writes.

Such a file names classes without the package in which they are registered, and Keras knows no class for the slices of a
functional model, such as the class token that scripts take by `[:, 0, :]`.
"""

from __future__ import annotations

import keras

from vit_core.families import FAMILIES
from vit_tf import backbone, masked_image_modeling, modeling, relatives


def register() -> None:
    """Make the names in such files known to Keras; one that a program has registered itself stays."""
    a_slice = keras.KerasTensor((None, 2, 2))[:, 0]._keras_history.operation
    ours = {**vars(modeling), **vars(masked_image_modeling), **vars(backbone), **vars(relatives)}
    models = [ours[f"TF{name}"] for family in FAMILIES.values() for name in family.models.values()]
    for each in (*models, type(a_slice)):
        keras.saving.get_custom_objects().setdefault(each.__name__, each)
