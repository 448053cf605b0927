"""What a family of models is to everything but its own code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vit_core.config import PretrainedConfig
from vit_core.parameters import Task


@dataclass(frozen=True, kw_only=True)
class Family:
    """A relative of ViT.

    Attributes:
        title: what it is called in sentences.
        paper: where it was published.
        config_class: the class of its configs, which says what its models are made of.
        config_classes: of some of its models, a class that extends it: what their files describe beside them, too.
        models: the name of its model for each task, which a saved `config.json` has under "architectures".
        image_processor: the name of the class that prepares its images.
        encoder_is: the model type of a family whose models take the weights of its base model as their own, if any.
    """

    title: str
    paper: str
    config_class: type[PretrainedConfig]
    models: Mapping[Task, str]
    config_classes: Mapping[Task, type[PretrainedConfig]] = field(default_factory=dict)
    image_processor: str = "ViTImageProcessor"
    encoder_is: str | None = None

    @property
    def model_type(self) -> str:
        """What a saved `config.json` has under "model_type"."""
        return self.config_class.model_type

    @property
    def all_config_classes(self) -> tuple[type[PretrainedConfig], ...]:
        """The classes of the configs that its models take, its own first."""
        return (self.config_class, *dict.fromkeys(self.config_classes.values()))

    @property
    def prefix(self) -> str:
        """What the names of the base model's parameters start with in a model with a head."""
        return f"{self.config_class.base_model_prefix}."

    def task_of(self, model: str) -> Task | None:
        """The task of one of its models; None if it has no model of that name."""
        return next((task for task, name in self.models.items() if name == model), None)
