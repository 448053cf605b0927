"""A model with its preprocessing: files in, answers out, in whichever framework is installed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conversion.image_processor import AutoImageProcessor
from conversion.proof.answers import probabilities, top_answers
from conversion.proof.frameworks import Framework
from conversion.proof.inputs import fit_channels
from conversion.proof.model_choice import classifiers_to_try
from vit_cli.attention_maps import class_token_rollout
from vit_cli.attention_picture import PicturedImage, PicturedMap
from vit_cli.image_batches import Images
from vit_cli.picture import shortened, unprocess
from vit_core import PretrainedConfig
from vit_core.file_names import PROCESSOR_NAME

#: How many times the pixels that a model was trained with may be meant, of models that resample their positions.
LARGER = 64
LONGEST_LABEL = 20  # characters of a label that fit above an image, with its probability


@dataclass(frozen=True)
class Answer:
    """What the model says about one image.

    Attributes:
        file: the image.
        predictions: (label, probability), the likeliest first.
        pictured: what to draw of it, if it was asked for.
    """

    file: Path
    predictions: list[tuple[str, float]]
    pictured: PicturedImage | None = None


@dataclass(frozen=True)
class Classifier:
    """A model with its preprocessing, in one framework; `name` is what the user calls it."""

    name: str
    model: Any
    processor: Any
    backend: Framework

    @classmethod
    def load(
        cls, name: str, revision: str, backend: Framework, config_fields: Mapping[str, Any], under: str | None = None
    ) -> Classifier:
        """Load a model, with some fields of its config set, and check that it can classify."""
        processor = AutoImageProcessor.from_pretrained(name, revision=revision)
        package = backend.load_package()
        for class_name in classifiers_to_try(package, name, {"revision": revision, "under": under}):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*(at random|no such tensors|left out)")  # refused below
                model, loading = getattr(package, class_name).from_pretrained(
                    name, revision=revision, output_loading_info=True, under=under, **config_fields
                )
            if not (missing := loading["missing_keys"]):
                break
        else:
            raise ValueError(f"{name} is no trained classifier: it lacks {missing[0]}; choose a fine-tuned model")
        if model.config.num_labels < 2 or model.config.problem_type == "regression":
            raise ValueError(f"{name} has {model.config.num_labels} label(s), so it predicts numbers, not classes")
        _require_like_size(processor, model.config, name)
        return cls(name, model, fit_channels(processor, model.config, name), backend)

    def answer(self, images: Images, top_k: int, is_pictured: bool) -> list[Answer]:
        """Run the model on a batch."""
        output = self.backend.forward(self.model, {"pixel_values": images.pixel_values}, is_pictured, False)
        config = self.model.config
        logits = np.asarray(output.logits)
        if not np.isfinite(logits).all():
            raise ValueError(f"the logits of {self.name} are not finite; its weights are damaged")
        scores = probabilities(logits, config.problem_type)
        looked: Iterable[np.ndarray | None] = [None] * len(images.files)
        if is_pictured:
            attentions = [self.backend.to_numpy(attention) for attention in output.attentions]
            looked = class_token_rollout(attentions, config.architecture.num_prefix_tokens)
        answers = []
        for file, pixels, row, weights in zip(images.files, images.pixel_values, scores, looked, strict=True):
            predictions = top_answers(row, config.id2label, top_k)
            pictured = None
            if weights is not None:
                label, score = predictions[0]
                pictured = PicturedImage(
                    f"{shortened(label, LONGEST_LABEL)}  {score:.1%}",
                    unprocess(pixels, self.processor),
                    config.patch_shape,
                    [PicturedMap(weights)],
                    caption=file.name,
                )
            answers.append(Answer(file, predictions, pictured))
        return answers


def _require_like_size(processor: Any, config: PretrainedConfig, name: str) -> None:
    """Check that images come out as large as the model takes them, or nearly, before a batch of them is made."""
    size = processor.crop_size if getattr(processor, "do_center_crop", False) else processor.size
    height, width = size.get("height", size.get("shortest_edge")), size.get("width", size.get("shortest_edge"))
    if processor.do_resize and height * width > LARGER * math.prod(config.image_shape):
        raise ValueError(
            f"{name} takes images of {config.image_shape[1]} x {config.image_shape[0]}, but its {PROCESSOR_NAME} makes "
            f"them {width} x {height}; set its size"
        )
