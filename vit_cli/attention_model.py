"""A model of which only the attention is wanted, in whichever framework is installed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from conversion.checkpoint import require_fields
from conversion.proof.frameworks import Framework
from conversion.proof.model_choice import encoder_of
from vit_cli.attention_maps import class_token_attention, class_token_rollout
from vit_cli.fitting_processor import fitting_processor
from vit_core import PretrainedConfig

ALL, ROLLOUT = "all", "rollout"

#: Images go through the model together as long as their attention maps, of all layers, stay below this, in bytes.
LARGEST_ATTENTIONS, MOST_AT_ONCE = 2**30, 8


@dataclass(frozen=True)
class AttentionModel:
    """A model with its preprocessing, in one framework."""

    name: str
    model: Any
    processor: Any
    backend: Framework

    @classmethod
    def load(
        cls, name: str, revision: str, backend: Framework, config_fields: Mapping[str, Any], under: str | None = None
    ) -> AttentionModel:
        """Load what leads to a model's attention, whatever it is for, with some fields of its config set.

        Raises:
            OSError: there is no such model.
            TypeError: there is no such field.
            ValueError: the model is corrupt, lacks weights or has no layers, or its preprocessing does not fit it.
        """
        require_fields(config_fields)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*(no such tensors|is left out)")  # heads, texts
            warnings.filterwarnings("ignore", message=".*start at random")  # refused below
            package = backend.load_package()
            model_class = getattr(package, encoder_of(package, name, {"revision": revision, "under": under}))
            model, loading = model_class.from_pretrained(
                name, revision=revision, add_pooling_layer=False, output_loading_info=True, under=under, **config_fields
            )
        if missing := loading["missing_keys"]:
            raise ValueError(f"{name} is no complete model: it lacks {missing[0]}; choose another")
        if model.config.num_hidden_layers == 0:
            raise ValueError(f"{name} has no layers, and so no attention to show; choose a model that has some")
        return cls(name, model, fitting_processor(name, revision, model.config), backend)

    @property
    def config(self) -> PretrainedConfig:
        """The model's."""
        return self.model.config

    @property
    def prefix_tokens(self) -> int:
        """How many tokens stand before the patches."""
        return self.config.architecture.num_prefix_tokens

    @property
    def images_at_once(self) -> int:
        """How many images may go through the model together."""
        tokens = self.prefix_tokens + math.prod(self.config.grid)
        bytes_an_image = 4 * self.config.num_hidden_layers * self.config.num_attention_heads * tokens**2
        return min(max(LARGEST_ATTENTIONS // bytes_an_image, 1), MOST_AT_ONCE)

    def find_layer(self, layer: int | None) -> int:
        """The layer that is meant, counted from 0; the last one unless given.

        Raises:
            ValueError: there is no such layer.
        """
        last = self.config.num_hidden_layers - 1
        if layer is not None and not 0 <= layer <= last:
            raise ValueError(f"{self.name} has no layer {layer}; {_choice(range(last + 1))}")
        return last if layer is None else layer

    def find_heads(self, layer: int, head: str) -> list[int | str]:
        """The heads that are meant, by their numbers before any was pruned, or the rollout alone.

        Args:
            layer: the layer, counted from 0.
            head: the number of a head, counted from 0, or "all" or "rollout".

        Raises:
            ValueError: there is no such head in that layer.
        """
        if head == ROLLOUT:
            return [ROLLOUT]
        kept = self.config.kept_heads(layer)
        if head == ALL:
            return [*kept]
        if int(head) not in kept:
            raise ValueError(f"layer {layer} of {self.name} has no head {head}; {_choice(kept)}")
        return [int(head)]

    def look(self, pixel_values: np.ndarray, layer: int, heads: Iterable[int | str]) -> np.ndarray:
        """Where the class token looks.

        Args:
            pixel_values: (batch, channels, height, width).
            layer: the layer, counted from 0; the rollout ends there.
            heads: what `find_heads` found.

        Returns:
            (batch, heads, patches), float32 or float64, patches row by row.

        Raises:
            ValueError: there are results that are no numbers.
        """
        attentions = self.backend.forward(self.model, {"pixel_values": pixel_values}, True, False).attentions
        if [*heads] == [ROLLOUT]:
            layers = [self.backend.to_numpy(attention) for attention in attentions[: layer + 1]]
            weights = class_token_rollout(layers, self.prefix_tokens)[:, None]
        else:
            kept = self.config.kept_heads(layer)
            by_head = class_token_attention(self.backend.to_numpy(attentions[layer]), self.prefix_tokens)
            weights = by_head[:, [kept.index(int(head)) for head in heads]]
        if not np.isfinite(weights).all():
            raise ValueError(f"the attention of {self.name} in layer {layer} is not finite; its weights are damaged")
        return weights


def _choice(numbers: Iterable[int]) -> str:
    """What to choose from, in words: "choose 0", "choose from 0 to 11", or "choose from 0, 2, 3"."""
    numbers = [*numbers]
    if len(numbers) == 1:
        return f"choose {numbers[0]}"
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"choose from {numbers[0]} to {numbers[-1]}"
    return f"choose from {', '.join(map(str, numbers))}"
