"""Losses under the names that scripts for transformers 4 inherit and override."""

from __future__ import annotations

from typing import Any

from keras import backend, ops

from vit_core import PretrainedConfig
from vit_tf.losses import classification_losses


class TFSequenceClassificationLoss:
    """Gives a model with a `config` the loss of a classifier.

    What a subclass makes of `hf_compute_loss` is what `fit` minimises, and the `loss` of an output.
    """

    config: PretrainedConfig

    def hf_compute_loss(self, labels: Any, logits: Any) -> Any:
        """The losses of the images.

        Args:
            labels: see `vit_tf.losses.classification_loss`. Of floating-point numbers, of which there is one for each
                image and not for each label, the classes: Keras makes such of all targets.
            logits: (batch, num_labels).
        """
        labels, logits = ops.convert_to_tensor(labels), ops.convert_to_tensor(logits)
        is_classes = self.config.problem_type in (None, "single_label_classification") and logits.shape[-1] != 1
        has_one_each = len(labels.shape) == 1 or labels.shape[-1] == 1
        if is_classes and has_one_each and "float" in backend.standardize_dtype(labels.dtype):
            labels = ops.cast(labels, "int64")
        return classification_losses(logits, labels, self.config)
