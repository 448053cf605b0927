"""PyTorch's side of loading, saving and everything else that models have in common."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from conversion.checkpoint import open_for_loading
from conversion.description import described
from conversion.published import as_canonical, has_other_names
from vit_core import PretrainedConfig
from vit_core.families import family_of, require_config
from vit_core.loading_options import request
from vit_core.loading_plan import LoadingPlan, unwrapped
from vit_core.memory import explaining_shortage
from vit_core.parameters import BARE, Parameter, Task, parameters
from vit_core.pretrained import Loading, prepare_loading
from vit_core.push import PushableModel, push_if_asked
from vit_torch.adapters import Adapters
from vit_torch.filling import build_for_real, build_to_fill, can_be_filled, fill
from vit_torch.initialization import start_module, start_rows
from vit_torch.placement import place, single_device
from vit_torch.pruning import prune_heads, pruned_as_built
from vit_torch.saving import gathered, save, without_wrappers
from vit_torch.script_methods import ScriptMethods
from vit_torch.tensors import as_tensor, dtype_of, in_canonical_names, state_dict_for_loading
from vit_torch.token_merging import TokenMerging


class PreTrainedModel(nn.Module, ScriptMethods, Adapters, TokenMerging, PushableModel):
    """What the models share, and what models of one's own are built on: a config, weights from and to checkpoints.

    A subclass makes its parts in `__init__` and calls `self.post_init()` at the end. The parameters of every model of
    this package in it are described by the table of parameters; what it adds is loaded and saved beside them, under its
    own names.

    Args:
        config: its sizes and settings.
        *inputs: ignored, as further arguments by name are: subclasses written for transformers pass theirs on.
        **kwargs: likewise.
    """

    task: ClassVar[Task | None] = None
    config_class: type[PretrainedConfig] = PretrainedConfig
    base_model_prefix = PretrainedConfig.base_model_prefix
    main_input_name = "pixel_values"

    def __init__(self, config: PretrainedConfig, *inputs: Any, **kwargs: Any) -> None:
        super().__init__()
        require_config(config, self.config_class, type(self).__name__)
        config.validate()
        self.config = config
        self.name_or_path = config.name_or_path
        self.warnings_issued: dict[str, bool] = {}  # where transformers' Trainer notes what it has said

    # The model's place in the table of parameters

    def parameter_table(self, config: PretrainedConfig | None = None) -> tuple[Parameter, ...]:
        """The rows of `vit_core.parameters` that describe this model, in the order of its `state_dict`.

        Args:
            config: another config than the model's.
        """
        config = config or self.config
        if self.task is not None:
            return parameters(config, self.task)
        return tuple(
            replace(row, name=f"{path}.{row.name}")
            for path, model in self.inner_models()
            for row in model.parameter_table(config if model.config is self.config else None)
        )

    def inner_models(self) -> Iterator[tuple[str, PreTrainedModel]]:
        """The models of this package that this one is built on, with the names that they have in it."""
        paths: list[str] = []
        for path, module in self.named_modules():
            if path and isinstance(module, PreTrainedModel) and not path.startswith(tuple(f"{p}." for p in paths)):
                paths.append(path)
                yield path, module

    @property
    def _prefix(self) -> str:
        """What the names of the base model's parameters start with in this model."""
        paths = [path for path, _ in self.inner_models()]
        if not paths:
            return f"{self.base_model_prefix}."
        return f"{self.base_model_prefix if self.base_model_prefix in paths else paths[0]}."

    @classmethod
    def _own_class(cls) -> type[PreTrainedModel]:
        """The class as it was written, without what FSDP2 and parametrizations make of it."""
        return next(each for each in cls.__mro__ if not each.__module__.startswith("torch."))

    # The random start

    def post_init(self) -> None:
        """Start the parameters that no model inside this one has started; the last thing that a constructor does."""
        self.init_weights()
        if getattr(self.config, "gradient_checkpointing", False):  # a setting of this run, which no file gets
            self.gradient_checkpointing_enable()
            del self.config.gradient_checkpointing

    def init_weights(self) -> None:
        """Call `_init_weights` with every module that it was not called with before."""
        for module in reversed(list(self.modules())):  # from the inside out
            self._initialize_weights(module)
        self.tie_weights()

    def _initialize_weights(self, module: nn.Module) -> None:
        if not getattr(module, "_is_hf_initialized", False):  # scripts set it to keep a start of their own
            self._init_weights(module)
            vars(module)["_is_hf_initialized"] = (
                True  # as setting it does, which looks for a parameter of that name first
            )

    def _init_weights(self, module: nn.Module) -> None:
        """Give one module its random start, as the table of parameters has it; a subclass may know better."""
        if callable(start_parameters := getattr(module, "start_parameters", None)):  # of ViTEmbeddings
            start_parameters()
        else:
            start_module(module, self.config)

    def start_missing(self, rows: Sequence[Parameter], extras: Sequence[str]) -> None:
        """Give parameters that a checkpoint lacks their random start, as a constructor would.

        Args:
            rows: those that the table describes.
            extras: those that a subclass added. They have the start that its constructor gave them, and get the one
                that its `_init_weights` gives if the constructor did not ask for that.
        """
        start_rows(self, rows, self.config)
        if self._own_class()._init_weights is not PreTrainedModel._init_weights:
            for path in dict.fromkeys(row.name.rpartition(".")[0] for row in rows):
                self._init_weights(self.get_submodule(path))
            for path in dict.fromkeys(name.rpartition(".")[0] for name in extras):
                self._initialize_weights(self.get_submodule(path))

    # Loading and saving

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str] | None,
        *model_args: Any,
        config: PretrainedConfig | str | PathLike[str] | None = None,
        cache_dir: str | PathLike[str] | None = None,
        ignore_mismatched_sizes: bool = False,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = "main",
        use_safetensors: bool | None = None,
        subfolder: str | None = "",
        variant: str | None = None,
        state_dict: Mapping[str, Any] | None = None,
        output_loading_info: bool = False,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        attn_implementation: str | None = None,
        device_map: str | int | torch.device | Mapping[str, Any] | None = None,
        mmap: bool = True,
        **config_overrides: Any,
    ) -> Any:
        """Load a model for inference (in `eval` mode) from a checkpoint.

        The weights are mapped from the file and become the parameters without a copy. Weights that the checkpoint
        lacks start at random and are named in one warning.

        Args:
            pretrained_model_name_or_path: a folder, a file of weights, a Hub id, or a checkpoint that ships with the
                package ("bundled/vit-digits"), in any format that `conversion.load` reads; None with `config` and
                `state_dict`.
            *model_args: further arguments of the model's constructor.
            config: a config, or where to find one, instead of the checkpoint's own.
            cache_dir: where downloads are kept; huggingface_hub's cache unless given.
            ignore_mismatched_sizes: start weights whose shape does not fit at random instead of raising.
            force_download: download again what is in the cache.
            local_files_only: never ask the network.
            token: access token for the Hub; huggingface_hub's own unless given.
            revision: branch, tag or commit on the Hub.
            use_safetensors: True reads safetensors and nothing else, False prefers any other file of weights.
            subfolder: folder inside the repository.
            variant: of the names of files, such as "fp16" for `model.fp16.safetensors`.
            state_dict: weights to load instead of the checkpoint's.
            output_loading_info: also return the names of missing, unexpected and mismatched weights.
            dtype: dtype of the model, such as torch.bfloat16 or "bfloat16"; "auto" takes that of the checkpoint.
                torch's default dtype unless given.
            torch_dtype: the older name of `dtype`.
            attn_implementation: "sdpa" (default) or "eager".
            device_map: where the model goes: a device such as "cuda:0" or 0; "auto" for a GPU if there is one; or
                {name of a part: device}, for several of which accelerate is needed. torch's default unless given.
            mmap: whether the weights are mapped from the file, into which nobody must then write while the model lives:
                it would follow, or the system end the process. False reads the file into memory.
            **config_overrides: fields of the config to set, such as `num_labels=10`, `image_size=384` (for which the
                position embeddings are resampled) or `patch_size=8` (for which the patches' projection is, too; see
                `vit_core.loading_options.PATCH_RESAMPLING`), arguments of the model's constructor, and the options of
                `vit_core.loading_options`.

        Returns:
            The model, or (model, loading info).

        Raises:
            OSError: there is no such checkpoint, or it cannot be reached.
            ValueError: a file is corrupt, the config is impossible, or a shape does not fit.
            TypeError: an option does not exist.
        """
        model_arguments, config_overrides = cls._model_arguments(config_overrides, config)
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
                    "use_safetensors": use_safetensors,
                    "subfolder": subfolder,
                    "variant": variant,
                    "attn_implementation": attn_implementation,
                    "mmap": mmap,
                }
            ),
            config=config,
            config_class=cls.config_class,
            ignore_mismatched_sizes=ignore_mismatched_sizes,
            opener=open_for_loading,
            state_dict=None
            if state_dict is None
            else as_canonical(state_dict_for_loading(state_dict), family_of(cls.config_class)),
        )
        chosen = dtype if dtype is not None else torch_dtype
        found = dtype_of(chosen, loading.dtype)
        if chosen is not None:
            loading.config.torch_dtype = found
        device = single_device(device_map)

        build = partial(cls, loading.config, *model_args, **model_arguments)
        with explaining_shortage(f"loading {loading.source}"):
            model = build_to_fill(build, found)
            plan = model._plan(loading)
            if not can_be_filled(model, plan) and torch.get_default_device().type != "meta":
                model = build_for_real(build, found)
            exact = model._keep_in_fp32_modules if found == torch.float16 else None
            fill(model, plan, device or torch.get_default_device(), found, exact or ())
        model.tie_weights()
        model.eval()
        if device_map is not None:
            place(model, device_map)
        plan.warn(
            cls.__name__,
            loading.source,
            model._keys_to_ignore_on_load_missing or (),
            model._keys_to_ignore_on_load_unexpected or (),
        )
        return (model, plan.loading_info()) if output_loading_info else model

    @classmethod
    def _model_arguments(cls, options: Mapping[str, Any], config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The options that are arguments of the constructor, and the others.

        A name that both the constructor and the checkpoint's config know is meant for both.
        """
        named = list(inspect.signature(cls).parameters.values())[1:]
        fields = cls.config_class()
        takes_any = any(each.kind is each.VAR_KEYWORD for each in named)
        names = {each.name for each in named if each.kind is not each.VAR_KEYWORD}
        known = {*request(options).config_overrides} if takes_any else names
        arguments = {
            name: value
            for name, value in options.items()
            if name in names or (name in known and not hasattr(fields, name))
        }
        others = {
            name: value
            for name, value in options.items()
            if name not in arguments or (config is None and hasattr(fields, name))
        }
        return arguments, others

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """See `torch.nn.Module.load_state_dict`; names may also be those that transformers' files have."""
        family = family_of(self.config)
        if has_other_names(family):
            state_dict = in_canonical_names(state_dict, family, self.task in BARE)
        return super().load_state_dict(state_dict, strict, assign)

    def _plan(self, loading: Loading) -> LoadingPlan:
        """Which tensor of the checkpoint fills which parameter of this model, as it was built."""
        shapes = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items() if isinstance(tensor, Tensor)}
        rows = [row for row in self.parameter_table() if shapes.get(row.name) == row.shape]
        known = {row.name for row in rows}
        extras = {name: shape for name, shape in shapes.items() if name not in known}
        plan = loading.plan(rows, extras, self._prefix)
        if not plan.missing_extras:
            return plan
        tensors = self.state_dict()
        filled = {id(tensors[name]) for name in plan.tensors}  # one of the names of a shared parameter is enough
        missing = tuple(name for name in plan.missing_extras if id(tensors[name]) not in filled)
        return replace(plan, missing_extras=missing)

    def save_pretrained(
        self,
        save_directory: str | PathLike[str],
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        save_function: Callable[..., Any] | None = None,
        push_to_hub: bool = False,
        max_shard_size: int | str = "5GB",
        safe_serialization: bool = True,
        variant: str | None = None,
        token: str | bool | None = None,
        save_peft_format: bool = True,
        **pushing: Any,
    ) -> None:
        """Write `config.json` and `model.safetensors`, the same bytes whichever framework saves.

        Where parts of the model were replaced, the config that is written follows them.

        Args:
            save_directory: where; made if need be. The checkpoint that is there is replaced at once or, on failure, not
                at all.
            is_main_process: False writes nothing, for the other processes of distributed training; each has to call,
                since sharded weights are gathered from all of them.
            state_dict: weights to write instead of the model's own.
            save_function: with `safe_serialization=False`, writes (weights, path) instead of torch.save.
            push_to_hub: also upload the folder to the Hub.
            max_shard_size: largest size of a file, such as "5GB"; larger models are written in shards with an index.
            safe_serialization: False writes `pytorch_model.bin`, for programs that read nothing else.
            variant: of the names of files: "fp16" writes `model.fp16.safetensors`.
            token: access token for the Hub.
            save_peft_format: whether adapters get the names that PEFT loads.
            **pushing: options of `push_to_hub`, such as `repo_id` (the folder's name unless given).

        Raises:
            OSError: it cannot be written; what was there before is untouched.
            ValueError: `state_dict` is not this model's, or no config gives such a model; the message says what to set.
        """
        weights = gathered(self.state_dict() if state_dict is None else state_dict, is_main_process)
        if not is_main_process:
            return
        if self._hf_peft_config_loaded:
            self.save_adapter(Path(save_directory), weights, save_peft_format)
        else:
            config, tensors = self._described(weights if state_dict is None else self._checked(weights))
            save(Path(save_directory), config, tensors, max_shard_size, variant, safe_serialization, save_function)
        push_if_asked(save_directory, push_to_hub, {"token": token, "tags": self.model_tags, **pushing})

    def _described(self, weights: Mapping[str, Tensor]) -> tuple[PretrainedConfig, dict[str, Tensor]]:
        """The config and the weights as a checkpoint has them: those of the table in its order, then what was added."""
        own_class = self._own_class()
        weights = without_wrappers(weights)
        shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        config = self.config.replaced(
            architectures=[own_class.__name__], pruned_heads=pruned_as_built(self.base_model, self.config)
        )
        found = described(
            config,
            self.parameter_table,
            shapes,
            own_class.__name__,
            is_own=own_class.__module__.partition(".")[0] == __name__.partition(".")[0],
            prefix=self._prefix,
        )
        left_out = [re.compile(pattern) for pattern in self._keys_to_ignore_on_save or ()]
        names = [*(row.name for row in found.rows), *found.extras]
        return found.config, {
            name: weights[name] for name in names if not any(pattern.search(name) for pattern in left_out)
        }

    def _checked(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights that a caller gave, if they are this model's; their names may have what wrappers put in."""
        own = without_wrappers(self.state_dict())
        given = unwrapped(state_dict, own)
        if wrong := own.keys() ^ given.keys():
            raise ValueError(f"state_dict does not fit the model: {min(wrong)} is in one of them only.")
        for name, tensor in own.items():
            if given[name].shape != tensor.shape:
                raise ValueError(
                    f"state_dict holds {name} with shape {tuple(given[name].shape)} instead of {tuple(tensor.shape)}."
                )
        return given

    # Training

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Compute each layer's activations again in the backward pass instead of keeping them.

        Args:
            gradient_checkpointing_kwargs: arguments of `torch.utils.checkpoint.checkpoint`. `use_reentrant` is accepted
                and not followed: the other implementation, which torch recommends, is always used.
            **kwargs: the same, given one by one.
        """
        options = {**(gradient_checkpointing_kwargs or {}), **kwargs, "use_reentrant": False}
        self._set_gradient_checkpointing(True, partial(checkpoint, **options))
        if self._hf_peft_config_loaded:
            self.enable_input_require_grads()

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations again."""
        self._set_gradient_checkpointing(False)
        if self._hf_peft_config_loaded:
            self.disable_input_require_grads()

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable[..., Any] | None = None
    ) -> None:
        """Switch it in every module that has it, a subclass's own among them."""
        modules = [module for module in self.modules() if hasattr(module, "gradient_checkpointing")]
        if not modules:
            raise ValueError(
                f"{type(self).__name__} has no part with an attribute gradient_checkpointing, as ViTEncoder has; set "
                f"one in __init__ of the part that looks at it."
            )
        for module in modules:
            module.gradient_checkpointing = enable  # type: ignore[assignment]
            if gradient_checkpointing_func is not None:
                module._gradient_checkpointing_func = gradient_checkpointing_func  # type: ignore[assignment]

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether gradient checkpointing is on."""
        return any(getattr(module, "gradient_checkpointing", False) for module in self.modules())

    def prune_heads(self, heads_to_prune: Mapping[int, Iterable[int]]) -> None:
        """Remove attention heads for good; the config records it and a saved model is loaded without them.

        Args:
            heads_to_prune: {layer: heads}, in the numbering before any pruning; layer -1 is the last.

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
        """The model without its head: what `base_model_prefix` names, or else the first model in this one."""
        if self.base_model_prefix in self._modules:
            return self._modules[self.base_model_prefix]
        return next((model.base_model for _, model in self.inner_models()), self)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """The number of parameters.

        Args:
            only_trainable: count those that require gradients.
            exclude_embeddings: leave out the tables of `nn.Embedding` that a subclass may have; patches have none.
        """
        tables = [module for module in self.modules() if exclude_embeddings and isinstance(module, nn.Embedding)]
        excluded = {id(table.weight) for table in tables}
        return sum(
            parameter.numel()
            for parameter in self.parameters()
            if id(parameter) not in excluded and (parameter.requires_grad or not only_trainable)
        )

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters."""
        return next(parameter.dtype for parameter in self.parameters() if parameter.is_floating_point())

    def _images(self, pixel_values: Any) -> Tensor:
        """The images of a forward pass as a tensor.

        Raises:
            ValueError: there are none.
        """
        if pixel_values is None:
            raise ValueError("pixel_values are missing; pass images of shape (batch, channels, height, width).")
        images: Tensor = self._as_tensor(pixel_values)
        return images

    def _as_tensor(self, value: Any) -> Any:
        """An argument of a forward pass, which may also be an array or a list, as a tensor."""
        return value if value is None or isinstance(value, Tensor) else as_tensor(value, self.device)

    def _returned(self, output: Any, return_dict: bool | None) -> Any:
        """The output in the form that the call or the config asks for."""
        if return_dict is None:
            return_dict = self.config.use_return_dict
        return output if return_dict else output.to_tuple()


def __getattr__(name: str) -> Any:
    """What ViT's models share, which scripts import from here too; it is in `vit_torch.relatives`."""
    if name == "ViTPreTrainedModel":
        from vit_torch.relatives import ViTPreTrainedModel

        return ViTPreTrainedModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
