"""What from_pretrained and save_pretrained have in common in every framework."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vit_core.checkpoint import OpenCheckpoint, read_config
from vit_core.checks import shown
from vit_core.config import PretrainedConfig
from vit_core.hub import locate
from vit_core.loading_options import PATCH_RESAMPLINGS, PatchResampling, Request
from vit_core.loading_plan import LoadingPlan, Shape, plan_loading
from vit_core.parameters import Parameter
from vit_core.resampling import usual_patch_resampling
from vit_core.stored_tensor import StoredTensor, first_float_name

HARMLESS_LAYERS = 64  # of which a file may lack all, as of a backbone's head alone; they start at random

#: Arguments of base models that decide which parameters there are.
PARTS = ("add_pooling_layer", "use_mask_token")

#: Opens a checkpoint: (source, what the caller says of its config, which file of weights, the config's class, whether
#: files are mapped).
Opener = Callable[..., OpenCheckpoint]


@dataclass(frozen=True)
class Loading:
    """What a framework needs to build a model from a checkpoint.

    Attributes:
        source: what to call the checkpoint in messages.
        config: the model's.
        checkpoint: the opened checkpoint.
        ignore_mismatched_sizes: see `plan_loading`.
        patch_resampling: likewise.
    """

    source: str
    config: PretrainedConfig
    checkpoint: OpenCheckpoint
    ignore_mismatched_sizes: bool = False
    patch_resampling: PatchResampling | None = None

    @property
    def dtype(self) -> str | None:
        """The dtype of the checkpoint's first floating-point tensor, such as "float32"; None if it has none."""
        return first_float_name(self.checkpoint.tensors)

    def plan(
        self, table: Sequence[Parameter], extras: Mapping[str, Shape] | None = None, prefix: str | None = None
    ) -> LoadingPlan:
        """Match the tensors of the checkpoint with a model's parameters; see `plan_loading`."""
        return plan_loading(
            table,
            self.checkpoint,
            self.config,
            self.source,
            self.ignore_mismatched_sizes,
            extras,
            prefix,
            self.patch_resampling,
        )


def prepare_loading(
    pretrained_model_name_or_path: str | os.PathLike[str] | None,
    request: Request,
    *,
    config: PretrainedConfig | str | os.PathLike[str] | None,
    config_class: type[PretrainedConfig],
    ignore_mismatched_sizes: bool,
    opener: Opener,
    state_dict: Mapping[str, StoredTensor] | None = None,
) -> Loading:
    """Do what `from_pretrained` does in every framework before there is a model.

    Args:
        pretrained_model_name_or_path: a folder, a file, a Hub id, or a checkpoint that ships with the package; None
            where `config` and `state_dict` say everything.
        request: what the call asks for besides.
        config: a config, or where to find one, instead of the checkpoint's own.
        config_class: the class of the model's config.
        ignore_mismatched_sizes: see `plan_loading`.
        opener: opens the checkpoint, whatever its format.
        state_dict: weights instead of the checkpoint's.

    Raises:
        OSError: there is no such checkpoint, or it cannot be reached.
        ValueError: a file is corrupt, or the config is impossible.
        TypeError: an override is no field of the config.
    """
    given: PretrainedConfig | None
    if isinstance(config, str | os.PathLike):
        given = config_class.from_pretrained(config, **request.location)
    else:
        given = config
    if pretrained_model_name_or_path is None:
        if state_dict is None or given is None:
            raise ValueError(
                "there is no checkpoint to load; give its folder or Hub id, or config=... and state_dict=..."
            )
        name, checkpoint = "state_dict", OpenCheckpoint({}, state_dict, ())
    else:
        source = locate(pretrained_model_name_or_path, **request.location)
        name = source.name
        if state_dict is not None:
            metadata, files = read_config(source)
            checkpoint = OpenCheckpoint(metadata, state_dict, files)
        else:
            known = {**({} if given is None else given.to_dict()), **request.config_overrides}
            checkpoint = opener(source, known, choice=request.choice, config_class=config_class, mmap=request.mmap)
    final = config_for_loading(checkpoint, name, given, request.config_overrides, config_class)
    if given is None and state_dict is None:
        _require_layers(final, checkpoint, name, request.config_overrides)
    final.name_or_path = name if pretrained_model_name_or_path is not None else ""
    patch_resampling = request.patch_resampling
    if patch_resampling is None and "patch_size" in request.config_overrides and not ignore_mismatched_sizes:
        patch_resampling, is_flexible = usual_patch_resampling(final)
        if not is_flexible:
            _warn_of_other_patches(name, checkpoint, final)
    return Loading(name, final, checkpoint, ignore_mismatched_sizes, patch_resampling)


def _warn_of_other_patches(source: str, checkpoint: OpenCheckpoint, config: PretrainedConfig) -> None:
    """Say that a projection is resampled, and in which way, where patches have another size than in training."""
    size = checkpoint.config.get("patch_size", type(config)().patch_size)
    trained = PretrainedConfig(image_size=size, patch_size=size)
    if trained.patch_shape != config.patch_shape:
        (height, width), (new_height, new_width) = trained.patch_shape, config.patch_shape
        warnings.warn(
            f"{source} was trained with patches of {height} x {width} pixels; its projection is resampled for "
            f"{new_height} x {new_width}, as timm does it. Unless it was trained for several sizes, as FlexiViT is, "
            f"train it before use. patch_resampling={' or '.join(map(repr, PATCH_RESAMPLINGS))} chooses, and says no "
            f"more.",
            stacklevel=4,
        )


def _require_layers(
    config: PretrainedConfig, checkpoint: OpenCheckpoint, source: str, overrides: Mapping[str, Any]
) -> None:
    """Check, before there is a model of so many layers, that the weights may be of as many as the files say."""
    for name in ("num_hidden_layers", "decoder_num_hidden_layers"):
        count = getattr(config, name, 0)
        if name not in overrides and count > max(HARMLESS_LAYERS, len(checkpoint.tensors)):
            raise ValueError(
                f"{source} has a config with {name}={count}, but holds {len(checkpoint.tensors)} tensors, not one for "
                f"each layer; get it again, or give {name}."
            )


def config_for_loading(
    checkpoint: OpenCheckpoint,
    source: str,
    config: PretrainedConfig | None,
    overrides: Mapping[str, Any],
    config_class: type[PretrainedConfig],
) -> PretrainedConfig:
    """The config a model is loaded with: the caller's or the checkpoint's, with some fields set anew.

    Raises:
        OSError: the checkpoint has no config and none was given.
        TypeError: an override is no field of the config.
        ValueError: a value is impossible.
    """
    if config is None and not checkpoint.config:
        raise OSError(f"{source} has no config.json; give the model's config as config={config_class.__name__}(...).")
    if config is not None:
        require_fields(config, overrides)
        return config.replaced(**overrides)
    loaded, unused = config_class.from_dict(checkpoint.config, return_unused_kwargs=True, **overrides)
    require_fields(loaded, unused)
    return loaded


def require_fields(config: PretrainedConfig, overrides: Mapping[str, Any]) -> None:
    """Raise TypeError if a name is no field of the config."""
    if unknown := [name for name in overrides if not hasattr(config, name)]:
        raise TypeError(f"from_pretrained has no option {shown(unknown[0])}, nor is it a field of the config.")
