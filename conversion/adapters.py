"""Adapters, such as LoRA's, are no models: they are recognised, and answered with what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vit_core.checks import shown
from vit_core.hub import ModelSource
from vit_core.json_file import read_json_file

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_STEM = "adapter_model"  # of the file of weights that PEFT writes
#: Parts of the names that PEFT gives to the tensors of its adapters, and to those that they change.
_PARTS = re.compile(
    r"(^|[./])(base_layer|(lora|vera|hada|lokr|oft|boft|ia3|adalora|randlora|bone|miss|shira)_\w+|ranknum"
    r"|modules_to_save|prompt_embeddings|internal_xlora_classifier)([./]|$)"
)


def refuse_adapters(source: ModelSource, names: Iterable[str]) -> None:
    """Raise ValueError if tensors are an adapter's, or a model's that has one.

    Args:
        source: where they are.
        names: the names of the tensors.
    """
    names = list(names)
    found = [name for name in names if _PARTS.search(name)]
    if not found:
        return
    if any(".base_layer." in f".{name}" for name in found):
        raise ValueError(
            f"{source.name} holds a model with an adapter inside ({shown(found[0])}): put it into the model as PEFT "
            f"does, call merge_and_unload() of it, and save what that returns."
        )
    raise ValueError(advice(source, found[0]))


def advice(source: ModelSource, name: str = ADAPTER_CONFIG) -> str:
    """What to do with an adapter that was given as a model.

    Args:
        source: where it is.
        name: what shows that it is one.
    """
    base = _base_model(source)
    return (
        f"{source.name} holds an adapter ({shown(name)}) and not a whole model: load {base}, put the adapter on it "
        f"with peft.PeftModel.from_pretrained(model, {source.name!r}), and call merge_and_unload() for a model that "
        f"can be saved or converted."
    )


def _base_model(source: ModelSource) -> str:
    try:
        file = source.file(ADAPTER_CONFIG)
        base = read_json_file(file).get("base_model_name_or_path") if file else None
    except ValueError:
        base = None
    return f"its base model {shown(base)}" if isinstance(base, str) and base else "the model that it was trained on"
