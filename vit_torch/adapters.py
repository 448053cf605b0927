"""Adapters such as LoRA inside of a model, through PEFT, as scripts for transformers add and load them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from vit_core.safetensors_file import write_safetensors
from vit_core.saving import replacing_files
from vit_torch.tensors import from_torch

WEIGHTS_NAME, CONFIG_NAME = "adapter_model.safetensors", "adapter_config.json"
#: What PEFT's own models, which wrap the model, put before each name.
PEFT_PREFIX = "base_model.model."
DEFAULT_NAME = "default"


class Adapters:
    """The methods of models that have adapters put into them; each needs PEFT (`pip install peft`)."""

    _hf_peft_config_loaded = False
    peft_config: dict[str, Any]

    # For the methods below; see torch.nn.Module and PreTrainedModel.
    device: Any
    modules: Any

    def add_adapter(self, adapter_config: Any, adapter_name: str | None = None) -> None:
        """Put a new adapter into the model, to be trained; the other weights are frozen.

        Args:
            adapter_config: what it is, such as a `peft.LoraConfig`.
            adapter_name: what to call it; "default" unless given.

        Raises:
            ImportError: PEFT is not installed.
            TypeError: `adapter_config` is none.
            ValueError: there is an adapter of that name.
        """
        peft = _peft()
        if not isinstance(adapter_config, peft.PeftConfig):
            raise TypeError(
                f"adapter_config is a {type(adapter_config).__name__}; give one of PEFT's, such as LoraConfig."
            )
        name = self._new_name(adapter_name)
        adapter_config.base_model_name_or_path = getattr(self, "name_or_path", None)
        peft.inject_adapter_in_model(adapter_config, self, name)
        self._hf_peft_config_loaded = True
        self.set_adapter(name)

    def load_adapter(
        self,
        peft_model_id: str | PathLike[str] | None = None,
        adapter_name: str | None = None,
        revision: str | None = None,
        token: str | None = None,
        device_map: Any = "auto",
        max_memory: Any = None,
        offload_folder: Any = None,
        offload_index: Any = None,
        peft_config: Any = None,
        adapter_state_dict: Mapping[str, Tensor] | None = None,
        low_cpu_mem_usage: bool = False,
        is_trainable: bool = False,
        adapter_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Put an adapter with its weights into the model.

        Args:
            peft_model_id: a folder or Hub id with an adapter that PEFT saved.
            adapter_name: what to call it; "default" unless given.
            revision: branch, tag or commit on the Hub.
            token: access token for the Hub.
            device_map: accepted for scripts that give it, as the next three are: the adapter goes where the model is.
            max_memory: see `device_map`.
            offload_folder: see `device_map`.
            offload_index: see `device_map`.
            peft_config: with `adapter_state_dict`, what the adapter is, instead of `peft_model_id`.
            adapter_state_dict: its weights.
            low_cpu_mem_usage: PEFT's option of that name.
            is_trainable: whether it is to be trained further.
            adapter_kwargs: more options for PEFT's loading.

        Raises:
            ImportError: PEFT is not installed.
            OSError: there is no such adapter.
            ValueError: there is an adapter of that name, or nothing says which one to load, or its weights do not fit.
        """
        peft = _peft()
        from peft.utils import set_peft_model_state_dict

        name = self._new_name(adapter_name)
        options = {"revision": revision, "token": token, **(adapter_kwargs or {})}
        options = {option: value for option, value in options.items() if value is not None}
        if peft_config is None:
            if peft_model_id is None:
                raise ValueError(
                    "nothing says which adapter to load; give peft_model_id, or peft_config and its weights."
                )
            try:
                peft_config = peft.PeftConfig.from_pretrained(peft_model_id, **options)
            except ValueError as error:  # so PEFT says that there is no file
                raise OSError(
                    f"{peft_model_id} has no adapter_config.json of PEFT; name a folder or Hub id of one."
                ) from error
            peft_config.inference_mode = not is_trainable
        if peft_model_id is not None:
            adapter_state_dict = peft.load_peft_weights(str(peft_model_id), device=str(self.device), **options)
        if adapter_state_dict is None:
            raise ValueError("peft_config comes without weights; give them as adapter_state_dict, or call add_adapter.")
        memory = {"low_cpu_mem_usage": True} if low_cpu_mem_usage else {}
        peft.inject_adapter_in_model(peft_config, self, name, **memory)
        self._hf_peft_config_loaded = True
        bare = {each.removeprefix(PEFT_PREFIX): tensor for each, tensor in adapter_state_dict.items()}
        keys = set_peft_model_state_dict(self, bare, name, **memory)
        if keys is not None and keys.unexpected_keys:
            raise ValueError(
                f"the adapter has weights that the model has no place for: {', '.join(keys.unexpected_keys[:6])}; it "
                f"was made for another model."
            )
        self.set_adapter(name)

    def set_adapter(self, adapter_name: str | list[str]) -> None:
        """Have one adapter, or several, act and be trained, and the others not."""
        names = adapter_name if isinstance(adapter_name, list) else [adapter_name]
        known = self._adapter_names()
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"there is no adapter {unknown[0]!r}; the model has {', '.join(known)}.")
        for layer in self._adapter_layers():
            layer.set_adapter(adapter_name)

    def enable_adapters(self) -> None:
        """Have the adapters act again."""
        self._switch_adapters(True)

    def disable_adapters(self) -> None:
        """Have the model compute as it would without adapters."""
        self._switch_adapters(False)

    def active_adapters(self) -> list[str]:
        """The names of the adapters that act."""
        self._adapter_names()
        active = next(self._adapter_layers()).active_adapter
        return [active] if isinstance(active, str) else list(active)

    def active_adapter(self) -> str:
        """The name of the first adapter that acts."""
        warnings.warn("active_adapter is the older form of active_adapters.", FutureWarning, stacklevel=2)
        return self.active_adapters()[0]

    def get_adapter_state_dict(
        self, adapter_name: str | None = None, state_dict: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The weights of an adapter.

        Args:
            adapter_name: its name; the one that acts unless given.
            state_dict: weights to take them from, instead of the model's own.
        """
        name = adapter_name or self.active_adapters()[0]
        weights: dict[str, Tensor] = _peft().get_peft_model_state_dict(self, state_dict=state_dict, adapter_name=name)
        return weights

    def save_adapter(self, folder: Path, state_dict: Mapping[str, Tensor], save_peft_format: bool = True) -> None:
        """Write the adapter that acts, as PEFT does: `adapter_config.json` and `adapter_model.safetensors`.

        Args:
            folder: where; made if need be.
            state_dict: the model's weights.
            save_peft_format: whether names get the prefix with which PEFT loads them.

        Raises:
            ValueError: several adapters act.
        """
        active = self.active_adapters()
        if len(active) > 1:
            raise ValueError(
                f"the adapters {', '.join(active)} act; save them one by one, each after set_adapter(name)."
            )
        prefix = PEFT_PREFIX if save_peft_format else ""
        weights = self.get_adapter_state_dict(active[0], state_dict)
        with replacing_files(folder, (WEIGHTS_NAME, CONFIG_NAME)) as staging:
            write_safetensors(
                staging / WEIGHTS_NAME, {f"{prefix}{name}": from_torch(weights[name]) for name in weights}
            )
            self.peft_config[active[0]].save_pretrained(str(staging))

    def _new_name(self, adapter_name: str | None) -> str:
        name = adapter_name or DEFAULT_NAME
        if self._hf_peft_config_loaded and name in self.peft_config:
            raise ValueError(f"there is an adapter {name!r} already; give this one another adapter_name.")
        return name

    def _adapter_names(self) -> list[str]:
        if not self._hf_peft_config_loaded:
            raise ValueError("the model has no adapter; call add_adapter or load_adapter first.")
        return list(self.peft_config)

    def _switch_adapters(self, enabled: bool) -> None:
        self._adapter_names()
        for layer in self._adapter_layers():
            layer.enable_adapters(enabled=enabled)

    def _adapter_layers(self) -> Iterator[Any]:
        _peft()
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils import ModulesToSaveWrapper

        for module in self.modules():
            if isinstance(module, BaseTunerLayer | ModulesToSaveWrapper):
                yield module


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ImportError("adapters need PEFT, which is not installed: pip install peft") from error
    return peft
