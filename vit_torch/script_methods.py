"""What scripts for transformers 4 ask of its models and nothing else here needs.

The models inherit it. Most of it serves training loops and programs that were written for models of many kinds, of
which text models are most; what makes no sense for images says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from vit_core import PretrainedConfig
from vit_core.checks import listed
from vit_core.loading_options import loading_options
from vit_torch.filling import build_for_real
from vit_torch.tensors import dtype_of


class ScriptMethods:
    """Attributes and methods of transformers' models that Trivit itself has no use for."""

    framework = "pt"
    is_parallelizable = False
    supports_gradient_checkpointing = True
    supports_tp_plan = False
    generation_config = None

    #: Parts that programs which distribute a model must leave whole.
    _no_split_modules: ClassVar[list[str]] = [
        *("ViTEmbeddings", "MaskedEmbeddings", "ViTLayer", "ScaledLayer", "PostNormLayer", "ParallelLayer")
    ]
    #: Regular expressions that a subclass may set: of names that may be missing from or left over in a checkpoint
    #: without a warning, and of names that are not saved.
    _keys_to_ignore_on_load_missing: ClassVar[Sequence[str] | None] = None
    _keys_to_ignore_on_load_unexpected: ClassVar[Sequence[str] | None] = None
    _keys_to_ignore_on_save: ClassVar[Sequence[str] | None] = None
    #: Parts that a subclass wants in float32 when a model is loaded in float16.
    _keep_in_fp32_modules: Sequence[str] | None = None

    _tied_weights_keys: ClassVar[Sequence[str] | None] = None
    _skip_keys_device_placement: ClassVar[Sequence[str] | None] = None
    _tp_plan = None
    _auto_class = None
    _is_stateful = False
    _supports_sdpa = True
    _supports_flash_attn_2 = False
    _supports_flex_attn = False
    _supports_cache_class = False
    _supports_static_cache = False
    _supports_quantized_cache = False

    # For the methods below; see PreTrainedModel.
    config: PretrainedConfig
    main_input_name: str
    base_model: Any
    get_input_embeddings: Any
    gradient_checkpointing_enable: Any
    num_parameters: Any
    parameters: Any
    buffers: Any
    prune_heads: Any
    dtype: Any

    # Making models

    @classmethod
    def _from_config(cls, config: PretrainedConfig, **options: Any) -> Self:
        """A model with a random start.

        Args:
            config: the config, of which the model gets a copy.
            **options: `torch_dtype` or `dtype`, `attn_implementation`, and arguments of the constructor.
        """
        options = loading_options(options)
        names = (options.pop("torch_dtype", None), options.pop("dtype", None))
        dtype = dtype_of(next((name for name in names if name is not None), None), config.torch_dtype)
        changes = {}
        if (attention := options.pop("attn_implementation", None)) is not None:
            changes["attn_implementation"] = attention
        build: Any = cls
        model: Self = build_for_real(partial(build, config.replaced(**changes), **options), dtype)
        return model

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoModel") -> None:
        """Do nothing: a checkpoint holds no code. `AutoModel.register` makes a class known to this process."""

    @classmethod
    def can_generate(cls) -> bool:
        """Whether this is a language model, which it never is."""
        return False

    # Sizes and costs

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Images of the right size, for programs that need any."""
        return {self.main_input_name: torch.zeros(1, self.config.num_channels, *self.config.image_shape)}

    def estimate_tokens(self, input_dict: Mapping[str, Any]) -> int:
        """How many numbers the input has, which is what transformers' Trainer counts."""
        return int(input_dict[self.main_input_name].numel()) if self.main_input_name in input_dict else 0

    def floating_point_ops(self, input_dict: Mapping[str, Any], exclude_embeddings: bool = True) -> int:
        """An estimate of the operations of a training step: six for each number of the input and each parameter."""
        return 6 * self.estimate_tokens(input_dict) * int(self.num_parameters(exclude_embeddings=exclude_embeddings))

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """The bytes that the parameters and, unless asked otherwise, the buffers take."""
        tensors = [*self.parameters(), *(self.buffers() if return_buffers else ())]
        return sum(tensor.nelement() * tensor.element_size() for tensor in tensors)

    # Embeddings and heads

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another module in place of the patch embeddings."""
        self.base_model.embeddings.patch_embeddings = value

    def get_output_embeddings(self) -> None:
        """What makes words of hidden states: nothing."""

    def tie_weights(self) -> None:
        """Have parameters be shared, if a subclass does; called when a model was made and when it was loaded."""

    def get_position_embeddings(self) -> nn.Parameter | None:
        """The position embeddings, (1, tokens, hidden); None where all positions are relative."""
        positions: nn.Parameter | None = self.base_model.embeddings.position_embeddings
        return positions

    def resize_position_embeddings(self, new_num_position_embeddings: int) -> None:
        """Refuse: positions follow the size of images.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "positions follow the size of images; load the model with image_size=..., which resamples them, or call it "
            "with interpolate_pos_encoding=True."
        )

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Module:
        """Refuse: an image has no vocabulary.

        Raises:
            ValueError: always.
        """
        raise ValueError("a Vision Transformer has no vocabulary, so there are no token embeddings to resize.")

    def _prune_heads(self, heads_to_prune: Any) -> None:
        self.prune_heads(heads_to_prune)

    def get_head_mask(
        self, head_mask: Tensor | None, num_hidden_layers: int, is_attention_chunked: bool = False
    ) -> Tensor | list[None]:
        """A head mask in the form that layers take, (layers, 1, heads, 1, 1); without one, None for each layer.

        Args:
            head_mask: (heads,) or (layers, heads).
            num_hidden_layers: how many layers there are.
            is_attention_chunked: whether to add one more axis.
        """
        if head_mask is None:
            return [None] * num_hidden_layers
        mask = head_mask.expand(num_hidden_layers, -1) if head_mask.ndim == 1 else head_mask
        mask = mask[:, None, :, None, None] if mask.ndim == 2 else mask
        mask = mask.to(self.dtype)
        return mask.unsqueeze(-1) if is_attention_chunked else mask

    def get_extended_attention_mask(
        self, attention_mask: Tensor, input_shape: Any = None, device: Any = None, dtype: Any = None
    ) -> Tensor:
        """A mask of tokens, (batch, tokens) or (batch, tokens, tokens), as what is added to attention scores."""
        mask = attention_mask[:, None, None, :] if attention_mask.ndim == 2 else attention_mask[:, None]
        dtype = dtype or self.dtype
        return (1.0 - mask.to(dtype)) * torch.finfo(dtype).min

    def invert_attention_mask(self, encoder_attention_mask: Tensor) -> Tensor:
        """See `get_extended_attention_mask`."""
        return self.get_extended_attention_mask(encoder_attention_mask)

    def set_attn_implementation(
        self, attn_implementation: str | Mapping[str, str], allow_all_kernels: bool = False
    ) -> None:
        """Choose how attention is computed from now on, as `from_pretrained` does with the argument of this name.

        Args:
            attn_implementation: "sdpa" or "eager"; or such a name for each part, of which "vision_config" and "", the
                model itself, are here.
            allow_all_kernels: kernels from elsewhere are never loaded.

        Raises:
            ValueError: the name is another one.
        """
        name: Any = attn_implementation
        if isinstance(name, Mapping):
            name = name.get("vision_config", name.get(""))
            if name is None:
                raise ValueError(f"attn_implementation names {listed(attn_implementation)}; name vision_config.")
        chosen = self.config.replaced(attn_implementation=name).attn_implementation
        for module in cast(nn.Module, self).modules():
            if isinstance(config := getattr(module, "config", None), PretrainedConfig):
                config.attn_implementation = chosen

    # Training

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """See `gradient_checkpointing_enable`, whose name in transformers 5 this is.

        Args:
            activation_checkpointing_kwargs: see there.
            every_n_layers: must be 1; activations of every layer are computed again.
            offload: must be False; what is kept stays where the model is.

        Raises:
            ValueError: layers are to be left out, or activations to be moved.
        """
        if every_n_layers != 1:
            raise ValueError(
                f"every_n_layers is {every_n_layers}; every layer is checkpointed or none, so leave it at 1."
            )
        if offload:
            raise ValueError("offload=True would move activations to the host, which is not done here; leave it False.")
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs)

    def enable_input_require_grads(self) -> None:
        """Have what comes out of the patch embeddings require gradients, for adapters in an otherwise frozen model."""

        def require_grad(module: nn.Module, inputs: Any, output: Tensor) -> None:
            output.requires_grad_(True)

        self.disable_input_require_grads()
        self._require_grads_hook = self.get_input_embeddings().register_forward_hook(require_grad)

    def disable_input_require_grads(self) -> None:
        """Undo `enable_input_require_grads`."""
        if (hook := vars(self).pop("_require_grads_hook", None)) is not None:
            hook.remove()

    # What other packages did

    def to_bettertransformer(self) -> Self:
        """Refuse: there is nothing to convert.

        Raises:
            ValueError: always.
        """
        raise ValueError("attention runs in torch's scaled_dot_product_attention already; leave this call out.")

    def reverse_bettertransformer(self) -> Self:
        """Refuse, as `to_bettertransformer` does.

        Raises:
            ValueError: always.
        """
        raise ValueError("the model was never converted by to_bettertransformer; leave this call out.")

    def dequantize(self) -> Self:
        """Refuse: models are not loaded quantized.

        Raises:
            ValueError: always.
        """
        raise ValueError("the model was not loaded quantized; undo what a package did to it with that package.")
