"""A model of which only the features of images are wanted, in whichever framework is installed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from conversion.checkpoint import require_fields
from conversion.proof.frameworks import Framework
from conversion.proof.model_choice import encoder_of
from vit_cli.fitting_processor import fitting_processor
from vit_core import PretrainedConfig

#: Poolers that were trained to say what is on the whole image, in SigLIP and in CLIP: their output is the default.
SUMMARIES = ("attention", "class-norm")


@dataclass(frozen=True)
class FeatureModel:
    """A model with its preprocessing, in one framework.

    Attributes:
        name: what the user calls it.
        kind: the features that are wanted of it, one of `vit_cli.feature_kinds.KINDS`.
        model: the framework's base model.
        processor: its image processor.
        backend: the framework.
    """

    name: str
    kind: str
    model: Any
    processor: Any
    backend: Framework

    @classmethod
    def load(
        cls,
        name: str,
        kind: str | None,
        revision: str,
        backend: Framework,
        config_fields: Mapping[str, Any],
        under: str | None = None,
    ) -> FeatureModel:
        """Load the base model of a checkpoint, whatever it is for, with some fields of its config set.

        Args:
            name: the checkpoint.
            kind: one of `KINDS`; unless given, what sums up an image best: the output of a pooler in `SUMMARIES`, or
                the class token, or the mean of the patches.
            revision: branch, tag or commit on the Hub.
            backend: the framework.
            config_fields: fields of the config to set.
            under: what stands before the names of the model that is meant, in a file that holds several.

        Raises:
            OSError: there is no such model.
            TypeError: there is no such field.
            ValueError: the model is corrupt, lacks weights, the token or the pooler, or its preprocessing does not fit.
        """
        require_fields(config_fields)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*(no such tensors|is left out)")  # heads, texts
            warnings.filterwarnings("ignore", message=".*start at random")  # refused below
            package = backend.load_package()
            model_class = getattr(package, encoder_of(package, name, {"revision": revision, "under": under}))
            model, loading = model_class.from_pretrained(
                name,
                revision=revision,
                add_pooling_layer=kind in (None, "pooled"),
                output_loading_info=True,
                under=under,
                **config_fields,
            )
        missing = loading["missing_keys"]
        if lacking := [key for key in missing if ".pooler." not in f".{key}"]:
            raise ValueError(f"{name} is no complete model: it lacks {lacking[0]}; choose another")
        pooler = None if missing else model.config.architecture.pooler
        kind = _choose_kind(name, kind, pooler, "cls_token" in model.config.architecture.prefix_tokens)
        return cls(name, kind, model, fitting_processor(name, revision, model.config), backend)

    @property
    def config(self) -> PretrainedConfig:
        """The model's."""
        return self.model.config

    def look(self, pixel_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute features.

        Args:
            pixel_values: (batch, channels, height, width).

        Returns:
            The features that are wanted, (batch, width) or of patches (batch, patches, width); and those of the
            patches in any case, row by row of the image. Both are float32 and as the model's `last_hidden_state` and
            `pooler_output` have them.

        Raises:
            ValueError: there are features that are no numbers.
        """
        output = self.backend.forward(self.model, {"pixel_values": pixel_values}, False, False)
        tokens = self.backend.to_numpy(output.last_hidden_state)
        patches = tokens[:, self.config.architecture.num_prefix_tokens :]
        if self.kind == "pooled":
            features = self.backend.to_numpy(output.pooler_output)
        elif self.kind == "class":
            features = tokens[:, 0]
        else:
            features = patches if self.kind == "patches" else patches.mean(axis=1)
        if not np.isfinite(features).all() or not np.isfinite(patches).all():
            raise ValueError(f"features of {self.name} are not finite; its weights are damaged")
        return features, patches


def _choose_kind(name: str, kind: str | None, pooler: str | None, has_class_token: bool) -> str:
    """The kind of features that is meant, if the model has them."""
    best = "pooled" if pooler in SUMMARIES else "class" if has_class_token else "mean"
    if kind == "class" and not has_class_token:
        raise ValueError(f"{name} has no class token; use --features {best}")
    if kind == "pooled" and pooler is None:
        raise ValueError(f"{name} has no trained pooler; use --features {best}")
    return kind or best
