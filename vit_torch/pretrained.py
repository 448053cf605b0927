"""PyTorch's side of loading, saving and everything else that models have in common."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from conversion.checkpoint import open_for_loading
from vit_core import ViTConfig
from vit_core.array_bytes import contiguous
from vit_core.checkpoint import save_checkpoint
from vit_core.loading_options import request
from vit_core.loading_plan import LoadingPlan
from vit_core.parameters import BASE_MODEL_PREFIX, INITIALIZER_CUT, Parameter, Task, parameters
from vit_core.pretrained import ARCHITECTURES, prepare_loading
from vit_core.push import Pushable
from vit_core.safetensors_file import StoredTensor, dtype_name
from vit_torch.pruning import prune_heads


class ViTPreTrainedModel(nn.Module, Pushable):
    """What the models share: a config, weights from and to checkpoints, and a few conveniences."""

    task: ClassVar[Task]
    config_class = ViTConfig
    base_model_prefix = BASE_MODEL_PREFIX.rstrip(".")
    main_input_name = "pixel_values"

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        if not isinstance(config, ViTConfig):
            raise TypeError(
                f"{type(self).__name__} takes a ViTConfig, not a {type(config).__name__}; to load a checkpoint call "
                f"{type(self).__name__}.from_pretrained."
            )
        config.validate()
        self.config = config

    # The model's place in the table of parameters

    def parameter_table(self) -> tuple[Parameter, ...]:
        """The rows of `vit_core.parameters` that describe this model, in the order of its `state_dict`."""
        return parameters(self.config, self.task)

    def head_table(self) -> tuple[Parameter, ...]:
        """The rows that the head adds to the base model."""
        return tuple(row for row in self.parameter_table() if row.part == "head")

    # Loading and saving

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str],
        *,
        config: ViTConfig | str | PathLike[str] | None = None,
        revision: str | None = "main",
        cache_dir: str | PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        subfolder: str | None = "",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        attn_implementation: str | None = None,
        **config_overrides: Any,
    ) -> Any:
        """Load a model for inference (in `eval` mode) from a checkpoint.

        The weights are mapped from the file and become the parameters without a copy. Weights that the checkpoint
        lacks start at random and are named in one warning.

        Args:
            pretrained_model_name_or_path: a folder, a file of weights, a Hub id, or a checkpoint that ships with the
                package ("bundled/vit-digits"), in any format that `conversion.load` reads.
            config: a config, or where to find one, instead of the checkpoint's own.
            revision: branch, tag or commit on the Hub.
            cache_dir: where downloads are kept; huggingface_hub's cache unless given.
            token: access token for the Hub; huggingface_hub's own unless given.
            local_files_only: never ask the network.
            force_download: download again what is in the cache.
            subfolder: folder inside the repository.
            ignore_mismatched_sizes: start weights whose shape does not fit at random instead of raising.
            output_loading_info: also return the names of missing, unexpected and mismatched weights.
            dtype: dtype of the model, such as torch.bfloat16 or "bfloat16"; "auto" takes that of the checkpoint.
                torch's default dtype unless given.
            torch_dtype: the older name of `dtype`.
            attn_implementation: "sdpa" (default) or "eager".
            **config_overrides: fields of the config to set, such as `num_labels=10` or `image_size=384` (for which the
                position embeddings are resampled), and arguments of the model's constructor.

        Returns:
            The model, or (model, loading info).

        Raises:
            OSError: there is no such checkpoint, or it cannot be reached.
            ValueError: a file is corrupt, the config is impossible, or a shape does not fit.
            TypeError: an option does not exist.
        """
        model_arguments = {
            name: config_overrides.pop(name)
            for name in list(inspect.signature(cls).parameters)[1:]
            if name in config_overrides
        }

        loading = prepare_loading(
            pretrained_model_name_or_path,
            request(
                {
                    **config_overrides,
                    "cache_dir": cache_dir,
                    "force_download": force_download,
                    "local_files_only": local_files_only,
                    "token": token,
                    "revision": revision,
                    "subfolder": subfolder,
                    "attn_implementation": attn_implementation,
                }
            ),
            config=config,
            config_class=cls.config_class,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
            opener=open_for_loading,
        )
        plan = loading.plan(parameters(loading.config, cls.task, **model_arguments))
        model = cls._filled(loading.config, model_arguments, plan, _dtype(dtype or torch_dtype, loading.dtype))
        plan.warn(cls.__name__, loading.source)
        return (model, plan.loading_info()) if output_loading_info else model

    @classmethod
    def _filled(
        cls, config: ViTConfig, model_arguments: Mapping[str, Any], plan: LoadingPlan, dtype: torch.dtype
    ) -> Self:
        """Build the model around the planned weights, so that no memory is taken for others first."""
        device = torch.get_default_device()
        with torch.device("meta"):
            model = cls(config, **model_arguments)
        weights = {name: to_torch(tensor).to(device, dtype) for name, tensor in plan.tensors.items()}
        weights |= {row.name: torch.empty(row.shape, dtype=dtype, device=device) for row in plan.missing}
        model.load_state_dict(weights, assign=True)
        initialize(model, plan.missing)
        return model.eval()

    def save_pretrained(
        self,
        folder: str | PathLike[str],
        max_shard_size: int | str = "5GB",
        *,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Write `config.json` and `model.safetensors`, the same bytes whichever framework saves.

        Args:
            folder: where; made if need be. The checkpoint that is there is replaced at once or, on failure, not at all.
            max_shard_size: largest size of a file, such as "5GB"; larger models are written in shards with an index.
            is_main_process: False writes nothing, for the other processes of distributed training.
            state_dict: weights to write instead of the model's own.
            safe_serialization: must be True; pickled weights are read but not written.

        Raises:
            OSError: it cannot be written; what was there before is untouched.
            ValueError: `state_dict` is not this model's.
        """
        if not safe_serialization:
            raise ValueError("safe_serialization=False asks for pickled weights; only safetensors are written.")
        if not is_main_process:
            return
        weights = self.state_dict() if state_dict is None else state_dict
        expected = {row.name: row.shape for row in self.parameter_table()}
        if wrong := expected.keys() ^ weights.keys():
            raise ValueError(f"state_dict does not fit the model: {min(wrong)} is in one of them only.")
        for name, shape in expected.items():
            if tuple(weights[name].shape) != shape:
                raise ValueError(f"state_dict holds {name} with shape {tuple(weights[name].shape)} instead of {shape}.")
        config = self.config.replaced(architectures=[ARCHITECTURES[self.task]])
        save_checkpoint(Path(folder), config, {name: from_torch(weights[name]) for name in expected}, max_shard_size)

    # Training

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None) -> None:
        """Compute each layer's activations again in the backward pass instead of keeping them.

        Args:
            gradient_checkpointing_kwargs: accepted for scripts that ask for `use_reentrant`; the non-reentrant
                implementation, which torch recommends, is always used.
        """
        self.base_model.encoder.gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations again."""
        self.base_model.encoder.gradient_checkpointing = False

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether gradient checkpointing is on."""
        return self.base_model.encoder.gradient_checkpointing

    def prune_heads(self, heads_to_prune: Mapping[int, Iterable[int]]) -> None:
        """Remove attention heads for good; the config records it and a saved model is loaded without them.

        Args:
            heads_to_prune: {layer: heads}, in the numbering before any pruning.

        Raises:
            ValueError: there is no such layer or head, or no head of a layer would stay.
        """
        prune_heads(self, heads_to_prune)

    # Conveniences

    def get_input_embeddings(self) -> nn.Module:
        """The module that turns pixels into tokens."""
        return self.base_model.embeddings.patch_embeddings

    @property
    def base_model(self) -> Any:
        """The model without its head."""
        return getattr(self, self.base_model_prefix, self)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """The number of parameters.

        Args:
            only_trainable: count those that require gradients.
            exclude_embeddings: leave out the patch projection, as transformers does under this name.
        """
        excluded = {id(parameter) for parameter in self.get_input_embeddings().parameters()}
        return sum(
            parameter.numel()
            for parameter in self.parameters()
            if not (exclude_embeddings and id(parameter) in excluded)
            and (parameter.requires_grad or not only_trainable)
        )

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters."""
        return next(self.parameters()).dtype

    def _returned(self, output: Any, return_dict: bool | None) -> Any:
        """The output in the form that the call or the config asks for."""
        if return_dict is None:
            return_dict = self.config.use_return_dict
        return output if return_dict else output.to_tuple()


def initialize(model: ViTPreTrainedModel, rows: Iterable[Parameter]) -> None:
    """Give parameters of a model the random start that the table names."""
    for row in rows:
        parameter = model.get_parameter(row.name)
        if parameter.is_meta:
            continue
        with torch.no_grad():
            if row.initializer == "normal":
                start = torch.empty(row.shape, device=parameter.device)  # float32, whatever the parameter's dtype
                std = model.config.initializer_range
                parameter.copy_(nn.init.trunc_normal_(start, std=std, a=-INITIALIZER_CUT, b=INITIALIZER_CUT))
            else:
                parameter.fill_(1.0 if row.initializer == "ones" else 0.0)


def to_torch(tensor: StoredTensor) -> Tensor:
    """A tensor of a checkpoint, sharing its memory where that is in canonical order."""
    bits = torch.from_numpy(contiguous(tensor.read()))
    return bits.view(torch.bfloat16) if tensor.dtype == "BF16" else bits


def from_torch(tensor: Tensor) -> StoredTensor:
    """A tensor for a checkpoint; it is brought to the CPU when it is written."""
    shape = tuple(tensor.shape)
    if tensor.dtype == torch.bfloat16:
        return StoredTensor("BF16", shape, lambda: tensor.detach().cpu().contiguous().view(torch.uint16).numpy())
    dtype = np.dtype(str(tensor.dtype).removeprefix("torch."))
    return StoredTensor(dtype_name(dtype), shape, lambda: tensor.detach().cpu().numpy())


def _dtype(dtype: torch.dtype | str | None, stored: str | None) -> torch.dtype:
    if dtype == "auto":
        dtype = stored
    if dtype is None:
        return torch.get_default_dtype()
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype is {dtype!r}; choose a floating-point type such as 'float32', 'bfloat16' or 'auto'.")
    return found
