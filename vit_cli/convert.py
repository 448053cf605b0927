"""`trivit convert`: what was recognised, what was assumed, what was written, and the proof."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from conversion.casting import Progress
from conversion.converter import Conversion, convert, untold
from conversion.formats import FORMATS
from conversion.proof.comparison import TOLERANCE
from conversion.proof.frameworks import FRAMEWORKS, run_forward
from conversion.proof.inputs import make_noise
from vit_cli.settings import parse_settings
from vit_cli.terminal import bytes_in_words, plain_console, print_json, printable

IMAGES, SEED = 2, 0


def show_conversion(
    source: str,
    destination: Path,
    *,
    to: str,
    dtype: str | None = None,
    settings: Sequence[str] = (),
    under: str | None = None,
    verify: bool = True,
    overwrite: bool = False,
    allow_nan: bool = False,
    max_shard_size: str = "5GB",
    as_json: bool = False,
    revision: str = "main",
) -> bool:
    """Convert and print what was done; the arguments are those of the command.

    Returns:
        Whether source and result gave the same answers; True if that was not asked for or no framework is installed.

    Raises:
        OSError: there is no such source, or the destination exists or cannot be written.
        TypeError: a setting is no field of the config.
        ValueError: the source cannot be read, or the format cannot hold it.
    """
    fields = parse_settings(settings)
    with _progress() as progress:
        conversion = convert(
            source,
            destination,
            to,
            dtype,
            overwrite=overwrite,
            allow_nan=allow_nan,
            compare=verify,
            max_shard_size=max_shard_size,
            progress=progress,
            revision=revision,
            under=under,
            **fields,
        )
    options = {**fields, "revision": revision, **({} if under is None else {"under": under})}
    answers = _compare_answers(source, conversion, options) if verify else None
    passed = dtype is not None or answers is None or answers["difference"] <= TOLERANCE * max(1.0, answers["largest"])
    if as_json:
        print_json(_document(conversion, answers))
    else:
        _print(conversion, answers, passed)
    return passed


def _compare_answers(source: str, conversion: Conversion, options: dict[str, Any]) -> dict[str, Any] | None:
    """How far the answers of source and result are apart, in the first framework that is installed."""
    framework = _installed_framework()
    if framework is None:
        return None
    config, told = conversion.config, {}
    if conversion.destination.is_file():
        told = untold(config)
    shape = (IMAGES, config.num_channels, *config.image_shape)
    images = np.random.default_rng(SEED).standard_normal(shape, np.float32)
    noise = [make_noise(each, IMAGES, SEED) for each in (conversion.source.config, config)]
    before = run_forward(framework, source, images, more=noise[0], **options)
    after = run_forward(framework, conversion.destination, images, more=noise[1], **told)
    compared = [name for name in before if name in after and before[name].shape == after[name].shape]
    if not compared:  # a head was left out
        return None
    difference = max(_difference(before[name], after[name]) for name in compared)
    largest = max(float(np.nan_to_num(np.abs(before[name])).max()) for name in compared)
    return {"framework": framework, "compared": compared, "difference": difference, "largest": largest}


def _installed_framework() -> str | None:
    return next((name for name, each in FRAMEWORKS.items() if each.missing is None), None)


def _difference(before: np.ndarray, after: np.ndarray) -> float:
    """The largest difference; NaN is the same as NaN, and as far as can be from anything else."""
    apart = np.where(np.isnan(before) & np.isnan(after), 0, np.abs(before - after))
    return float(np.nan_to_num(apart, nan=np.inf).max())


def _print(conversion: Conversion, answers: dict[str, Any] | None, passed: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    source = conversion.source
    size = sum(tensor.nbytes for tensor in source.tensors.values())
    lines = [("read", f"{FORMATS[source.format].title}, {source.task.replace('-', ' ')}, {bytes_in_words(size)}")]
    if source.wrapper.strip("./") not in ("", source.config.base_model_prefix):
        lines.append(("", f"the model under {source.wrapper!r}"))
    lines += [("assumed", str(each)) for each in source.assumed]
    if left_out := _left_out(conversion):
        lines.append(("left out", f"{len(left_out)} tensors, such as {left_out[0]}"))
    lines.append(("wrote", f"{conversion.destination}: {FORMATS[conversion.format].title}"))
    lines += [("", f"{name}  {bytes_in_words(size)}") for name, size in conversion.files.items()]
    lines += [("note", note) for note in conversion.notes]
    if conversion.compared:
        lines.append(("verified", f"{conversion.compared} tensors read back, bit for bit the same"))
    if answers:
        words = "largest difference" if answers["difference"] else "no difference"
        amount = (
            f" {answers['difference']:.1e} of values up to {answers['largest']:.2g}" if answers["difference"] else ""
        )
        lines.append(("", f"{' and '.join(answers['compared'])} in {answers['framework']}: {words}{amount}"))
    elif conversion.compared:
        reason = "since a head was left out" if _installed_framework() else "since no framework is installed"
        lines.append(("", f"answers were not compared, {reason}"))
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines:
        style = "yellow" if name in ("assumed", "note", "left out") else ""
        table.add_row(Text(name, style="dim"), Text(printable(value), style=style))
    console = plain_console()
    console.print(table)
    if not passed:
        console.print(Text("source and result do not give the same answers", style="bold red"))


def _left_out(conversion: Conversion) -> list[str]:
    return [name for name in conversion.source.left_out if name not in conversion.carried]


def _document(conversion: Conversion, answers: dict[str, Any] | None) -> dict[str, Any]:
    source = conversion.source
    return {
        "format": source.format,
        "task": source.task,
        "assumed": {each.name: f"{each.value} ({each.reason})" for each in source.assumed},
        "left_out": _left_out(conversion),
        "config": conversion.config.to_diff_dict(),
        "destination": str(conversion.destination),
        "to": conversion.format,
        "files": dict(conversion.files),
        "notes": list(conversion.notes),
        "compared_tensors": conversion.compared,
        "answers": answers and {name: None if value == math.inf else value for name, value in answers.items()},
    }


@contextlib.contextmanager
def _progress() -> Iterator[Progress | None]:
    """A bar on standard error that grows with the bytes, on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("converting"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bar(*columns, console=plain_console(stderr=True), transient=True) as bar:
        task = bar.add_task("converting", total=None)
        yield lambda name, done, total: bar.update(task, completed=done, total=total)
