"""What scripts for transformers 4 ask of its models and nothing else here needs.

The models inherit it. What makes no sense for images says so.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import keras
import tensorflow as tf
from keras import ops

from vit_core import PretrainedConfig
from vit_core.loading_options import loading_options
from vit_core.saving import write_file
from vit_tf.dtypes import default_policy, dtype_policy


class ScriptMethods:
    """Attributes and methods of transformers' TensorFlow models that Trivit itself has no use for."""

    framework = "tf"
    supports_gradient_checkpointing = True
    generation_config = None

    #: Regular expressions that a subclass may set, of names that may be missing from or left over in a checkpoint
    #: without a warning.
    _keys_to_ignore_on_load_missing: ClassVar[Sequence[str] | None] = None
    _keys_to_ignore_on_load_unexpected: ClassVar[Sequence[str] | None] = None

    # For the methods below; see ViTPreTrainedModel.
    config: PretrainedConfig
    main_input_name: str
    weights: list[Any]
    call: Any
    _base_model: Any
    build_missing: Any

    # Making models

    @classmethod
    def _from_config(cls, config: PretrainedConfig, *args: Any, **options: Any) -> Self:
        """A model with a random start.

        Args:
            config: the config, of which the model gets a copy.
            *args: further arguments of the constructor.
            **options: `torch_dtype` or `dtype`, `attn_implementation`, and arguments of the constructor.
        """
        options = loading_options(options)
        if (dtype := options.pop("torch_dtype", None)) is not None:
            options.setdefault("dtype", dtype)
        if options.get("dtype") is not None:
            options["dtype"] = dtype_policy(options["dtype"], None)
        attention = options.pop("attn_implementation", None)
        copied = config.replaced(**({} if attention is None else {"attn_implementation": attention}))
        build: Any = cls
        with default_policy(options.get("dtype")):
            model: Self = build(copied, *args, **options)
        return model

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "TFAutoModel") -> None:
        """Do nothing: a checkpoint holds no code. `TFAutoModel.register` makes a class known to this process."""

    @classmethod
    def can_generate(cls) -> bool:
        """Whether this is a language model, which it never is."""
        return False

    def build_in_name_scope(self) -> None:
        """Make the variables, which a subclass may leave to the first call; see `build_missing`."""
        self.build_missing()

    def create_model_card(self, output_dir: str | PathLike[str], model_name: str, **about: Any) -> None:
        """Write `README.md`, with what the last `fit` showed.

        Args:
            output_dir: the folder.
            model_name: the model's name, on the Hub.
            **about: what the card says besides; see `vit_tf.model_card.model_card`.

        Raises:
            TypeError: the card has no place for something.
        """
        from vit_tf.model_card import ARGUMENTS, model_card

        if unknown := [name for name in about if name not in ARGUMENTS]:
            raise TypeError(f"a model card takes no {unknown[0]!r}; it takes {', '.join(ARGUMENTS)}.")
        history = getattr(self, "history", None)
        logs = {} if history is None else history.history
        epochs = [] if history is None else history.epoch
        by_epoch = [{"epoch": epoch, **{k: v[i] for k, v in logs.items()}} for i, epoch in enumerate(epochs)]
        text = model_card(model_name, self, by_epoch, about)
        write_file(Path(output_dir) / "README.md", text.encode())

    # Facts

    @property
    def num_labels(self) -> int:
        """The number of classes."""
        return self.config.num_labels

    @property
    def name_or_path(self) -> str:
        """Where the model was loaded from."""
        return self.config.name_or_path

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        """Images of the right size, for programs that need any."""
        return {self.main_input_name: ops.zeros((3, *self._image_batch_shape()[1:]))}

    @property
    def input_signature(self) -> dict[str, tf.TensorSpec]:
        """The inputs of a served model."""
        spec = tf.TensorSpec(self._image_batch_shape(), tf.float32, name=self.main_input_name)
        return {self.main_input_name: spec}

    def _image_batch_shape(self) -> tuple[int | None, ...]:
        model: Any = self
        return model.image_batch_shape

    def get_memory_footprint(self) -> int:
        """The bytes that the parameters take."""
        return sum(math.prod(weight.shape) * tf.as_dtype(weight.dtype).size for weight in self.weights)

    # Embeddings and heads

    def set_input_embeddings(self, value: keras.layers.Layer) -> None:
        """Put another layer in place of the patch embeddings."""
        self._base_model().embeddings.patch_embeddings = value

    def get_output_embeddings(self) -> None:
        """What makes words of hidden states: nothing."""

    def get_lm_head(self) -> None:
        """Likewise nothing."""

    def get_bias(self) -> None:
        """The bias of an output that makes words: nothing."""

    def get_prefix_bias_name(self) -> None:
        """Its name: nothing."""

    def resize_token_embeddings(self, new_num_tokens: int | None = None) -> None:
        """Refuse: an image has no vocabulary.

        Raises:
            ValueError: always.
        """
        raise ValueError("a Vision Transformer has no vocabulary, so there are no token embeddings to resize.")

    def prune_heads(self, heads_to_prune: Mapping[int, Sequence[int]]) -> None:
        """Refuse: a Keras layer's variables keep their shape.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "heads are not pruned in Keras; load the model in vit_torch, call prune_heads and save_pretrained there, "
            "and load it here again."
        )

    def get_head_mask(self, head_mask: Any, num_hidden_layers: int) -> Any:
        """A head mask for each layer, (layers, heads); without one, None for each layer.

        Args:
            head_mask: (heads,) or (layers, heads).
            num_hidden_layers: how many layers there are.
        """
        if head_mask is None:
            return [None] * num_hidden_layers
        return ops.broadcast_to(head_mask, (num_hidden_layers, ops.shape(head_mask)[-1]))

    # Serving

    def serving(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What a served model does: the output for `inputs`, by name, as tensors."""
        model: Any = self
        parameters = inspect.signature(self.call).parameters
        options = {"return_dict": True} if "return_dict" in parameters else {}  # a subclass may not take it
        return self.serving_output(model(dict(inputs), **options))

    def eager_serving(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The same as `serving`."""
        return self.serving(inputs)

    def serving_output(self, output: Any) -> dict[str, Any]:
        """An output as a served model returns it: hidden states and attention maps of all layers in one tensor."""
        if not isinstance(output, Mapping):
            return {"output": output}
        return {name: ops.stack(item) if isinstance(item, tuple) else item for name, item in output.items()}

    def load_repo_checkpoint(self, repo_path_or_name: str) -> None:
        """Refuse: the state of an optimizer is not kept on the Hub.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "checkpoints with an optimizer's state are Keras' files here; use keras.callbacks.BackupAndRestore, or "
            "save('model.keras') and keras.saving.load_model."
        )
