"""Options of from_pretrained that no signature has.

Most are of transformers 4, where scripts still pass them: which change nothing, which have another name. One is about
patches of another size than a checkpoint was trained with. What any other option means stands in the signature of each
`from_pretrained`. None of them ever becomes a field of a config or a setting of a processor: some are secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from vit_core.checks import require_choice, shown
from vit_core.weights_choice import WeightsChoice

#: How patches are thought to be resized where the projection of a checkpoint's patches is resampled for patches of
#: another size: bicubically with antialiasing, as timm has it, or bilinearly without, as FlexiViT's authors do, and as
#: its models were trained. See `vit_core.patch_projection`.
PatchResampling = Literal["antialiased", "bilinear"]
#: The option of loading that says it. Where it is not given, a `patch_size` among the options asks for the first way,
#: or that of the family, beside `ignore_mismatched_sizes` for a random start. A config with another size asks for none.
PATCH_RESAMPLING = "patch_resampling"
PATCH_RESAMPLINGS: tuple[PatchResampling, ...] = get_args(PatchResampling)

#: Options of `vit_core.hub.locate`.
LOCATION = ("revision", "cache_dir", "token", "local_files_only", "force_download", "subfolder")

#: Options that say what is always so here, or that concern what Trivit does not do.
WITHOUT_EFFECT = frozenset(
    (
        *("resume_download", "proxies", "mirror", "user_agent", "trust_remote_code", "code_revision"),
        *("low_cpu_mem_usage", "_fast_init", "weights_only", "offload_folder", "offload_state_dict", "offload_buffers"),
        *("max_memory", "tp_plan", "tp_size", "device_mesh", "key_mapping", "adapter_kwargs", "generation_config"),
        *("_commit_hash", "_from_auto", "_from_pipeline", "_configuration_file", "local_dir_use_symlinks"),
        *("tf_to_pt_weight_rename", "load_weight_prefix", "skip_logger_warnings"),
    )
)

#: What no file gets even where a script sets it as a field or setting, or an older file has it: how to reach a
#: checkpoint is no part of one, and some of it is secret.
NEVER_SAVED = frozenset((*LOCATION, "use_auth_token", "return_unused_kwargs", PATCH_RESAMPLING, *WITHOUT_EFFECT))

#: Options that ask for what Trivit does not have, unless they are off; with what to do instead.
REFUSED = {
    "load_in_8bit": "quantize the loaded model, with torchao in PyTorch or quantize('int8') in Keras",
    "load_in_4bit": "quantize the loaded model, with torchao in PyTorch or quantize('int4') in Keras",
    "quantization_config": "quantize the loaded model, with torchao in PyTorch or quantize('int8') in Keras",
    "gguf_file": "load the checkpoint that the GGUF file was made from",
}


#: Values of `device_map` that leave the choice to the framework; no model here needs several devices.
AUTOMATIC_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")

#: Options of `WeightsChoice.from_options`.
CHOICE = ("use_safetensors", "from_pt", "from_tf", "from_flax", "variant", "under")


def loading_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a `from_pretrained` that mean something here, under the names that they have here.

    Args:
        options: as a script for transformers 4 gives them.

    Returns:
        Those that are left when `WITHOUT_EFFECT` is taken away, with `token` for `use_auth_token`, and without None
        where None says "as usual".

    Raises:
        ValueError: an option asks for what Trivit does not have; the message says what to do instead.
    """
    for name, advice in REFUSED.items():
        if options.get(name):
            raise ValueError(f"{name}={options[name]!r} asks for what Trivit does not have; {advice}.")
    kept = {name: value for name, value in options.items() if name not in WITHOUT_EFFECT and name not in REFUSED}
    if (token := kept.pop("use_auth_token", None)) is not None and kept.get("token") is None:
        kept["token"] = token
    if kept.pop("use_flash_attention_2", False):
        kept["attn_implementation"] = "flash_attention_2"
    return kept


def place_and_rest(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of a `from_pretrained` that say where a checkpoint is, those of `locate`, and the others.

    Raises:
        ValueError: as `loading_options`.
    """
    rest = loading_options(options)
    return {name: rest.pop(name) for name in LOCATION if name in rest}, rest


@dataclass(frozen=True)
class Request:
    """What a call of `from_pretrained` asks for.

    Attributes:
        location: the options of `vit_core.hub.locate`.
        choice: which file of weights.
        config_overrides: fields of the config to set.
        mmap: whether the weights are mapped from their files rather than read.
        patch_resampling: see `PATCH_RESAMPLING`; None where nothing says it.
    """

    location: dict[str, Any]
    choice: WeightsChoice
    config_overrides: dict[str, Any]
    mmap: bool = True
    patch_resampling: PatchResampling | None = None


def request(options: Mapping[str, Any]) -> Request:
    """Sort the options of a model's `from_pretrained`.

    Raises:
        ValueError: an option asks for what Trivit does not have, or has an impossible value.
    """
    location, rest = place_and_rest(options)
    if not isinstance(mmap := rest.pop("mmap", True), bool):
        raise ValueError(f"mmap is {shown(mmap)}; give True or False.")
    if (patch_resampling := rest.pop(PATCH_RESAMPLING, None)) is not None:
        require_choice(PATCH_RESAMPLING, patch_resampling, PATCH_RESAMPLINGS)
    choice = WeightsChoice.from_options(**{name: rest.pop(name) for name in CHOICE if name in rest})
    # The checkpoint's own name is the one that counts, and a model is returned alone.
    for name in ("name_or_path", "_name_or_path", "return_unused_kwargs"):
        rest.pop(name, None)
    if rest.get("attn_implementation", "") is None:
        del rest["attn_implementation"]
    return Request(location, choice, rest, mmap, patch_resampling)
