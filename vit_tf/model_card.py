"""The model card that a training leaves on the Hub: what was trained on what, how, and with which results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from vit_core.hub_client import LIBRARY_NAME

#: What a script may say about its model.
ARGUMENTS = ("language", "license", "tags", "finetuned_from", "tasks", "dataset_tags", "dataset", "dataset_args")
OWN_TAG = "generated_from_keras_callback"

CARD = """---
{metadata}
---

# {name}

{origin}

{results}## Training

{settings}

Keras {keras}, TensorFlow {tensorflow}.
"""


def model_card(name: str, model: Any, history: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """Write a model card.

    Args:
        name: the model's, on the Hub.
        model: the model, compiled.
        history: the logs of each epoch, with its number as "epoch".
        about: what the script says about the model, some of `ARGUMENTS`: its `language` and `license`; `tags`;
            `finetuned_from`, the model that it was trained from; `tasks`, such as "image-classification"; `dataset`,
            its name; `dataset_tags`, its name on the Hub; `dataset_args`, the name of its configuration.

    Returns:
        The text of a README.md, with metadata for the Hub.
    """
    from huggingface_hub import EvalResult, ModelCardData

    base = _hub_id(about.get("finetuned_from") or getattr(getattr(model, "config", None), "name_or_path", None))
    datasets, dataset_names, configs = _datasets(about)
    tasks = _listed(about.get("tasks") or getattr(model, "task", None))
    results = [
        EvalResult(
            task_type=task,
            dataset_type=dataset,
            dataset_name=dataset_name,
            dataset_config=config,
            metric_type=metric.removeprefix("val_"),
            metric_value=float(value),
        )
        for task in tasks
        for dataset, dataset_name, config in zip(datasets, dataset_names, configs, strict=False)
        for metric, value in (history[-1].items() if history else ())
        if metric.startswith("val_")
    ]
    metadata = ModelCardData(
        library_name=LIBRARY_NAME,
        language=about.get("language"),
        license=about.get("license"),
        base_model=base,
        tags=list(dict.fromkeys([*_listed(about.get("tags")), OWN_TAG])),
        datasets=datasets or None,
        pipeline_tag=tasks[0] if tasks == ["image-classification"] else None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    start = f"Trained from `{base}`" if base else "Trained from a random start"
    return CARD.format(
        metadata=metadata.to_yaml(),
        name=name,
        origin=" on ".join([start, *([", ".join(dataset_names)] if dataset_names else [])]) + ".",
        results=_table(history),
        settings=_settings(model),
        keras=keras.__version__,
        tensorflow=tf.__version__,
    )


def _table(history: Sequence[Mapping[str, Any]]) -> str:
    """The logs, one line an epoch."""
    columns = list(dict.fromkeys(["epoch", *(key for epoch in history for key in epoch)]))
    cells = [
        [_in_words(column) for column in columns],
        ["---:"] * len(columns),
        *([_rounded(epoch.get(column)) for column in columns] for epoch in history),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n\n" if history else ""


def _settings(model: Any) -> str:
    optimizer = getattr(model, "optimizer", None)
    lines = {"optimizer": type(optimizer).__name__, **optimizer.get_config()} if optimizer is not None else {}
    lines["precision"] = model.dtype_policy.name
    return "\n".join(f"- {name}: {value}" for name, value in lines.items() if value is not None)


def _datasets(about: Mapping[str, Any]) -> tuple[list[str], list[str], list[str | None]]:
    """Ids on the Hub, names and configurations of the datasets that the script names."""
    dataset: Any = about.get("dataset")
    tags, configs = _listed(about.get("dataset_tags")), _listed(about.get("dataset_args"))
    if hasattr(dataset, "builder_name"):  # a datasets.Dataset, which knows where it is from
        tags, configs = tags or _listed(dataset.builder_name), configs or _listed(dataset.config_name)
        dataset = None
    names = _listed(dataset) or tags
    return tags, names, [*configs, *[None] * len(tags)][: len(tags)]


def _hub_id(name: str | None) -> str | None:
    """Where the weights came from, if that is a repository on the Hub, which refuses a card that names a folder."""
    if not name or name.count("/") > 1 or name.startswith((".", "/", "bundled/")) or Path(name).exists():
        return None
    return name


def _listed(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _in_words(column: str) -> str:
    if column.startswith("val_"):
        column = f"validation_{column.removeprefix('val_')}"
    elif column != "epoch":
        column = f"train_{column}"
    return column.replace("_", " ").capitalize()


def _rounded(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int | str) else f"{float(value):.4g}"
