"""`trivit verify`: a checkpoint in every framework, and how far they are apart, as tables or as JSON."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from conversion.proof.comparison import Comparison, part_of, worst_of_groups
from conversion.proof.verifier import Report, verify
from vit_cli.settings import parse_settings
from vit_cli.terminal import bytes_in_words, plain_console, print_json, printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def show_verification(
    model: str,
    *,
    frameworks: Sequence[str],
    image: Path | None = None,
    gradients: bool = False,
    settings: Sequence[str] = (),
    tolerance: float = 1e-5,
    as_json: bool = False,
    revision: str = "main",
) -> bool:
    """Verify a model and print what was found; the arguments are those of the command.

    Returns:
        Whether the frameworks agree.

    Raises:
        ImportError: none of the frameworks is installed.
        OSError: there is no such model or image.
        TypeError: a setting is no field of the config.
        ValueError: the model is corrupt or lacks weights, or a setting is impossible.
    """
    overrides = parse_settings(settings)
    if revision != "main":
        overrides["revision"] = revision
    with _progress() as say:
        report = verify(
            model, frameworks, image=image, gradients=gradients, tolerance=tolerance, on_start=say, **overrides
        )
    if as_json:
        print_json(report.to_dict())
    else:
        print_report(report)
    return report.passed


def print_report(report: Report) -> None:
    """Print a report: what was compared, how long it took, what the model answers, and the outcome in words."""
    from rich.text import Text

    console = plain_console()
    if report.comparisons:
        console.print(_comparison_table(report))
    console.print(_cost_table(report))
    if report.runs[0].answers:
        console.print(_answer_table(report))
    console.print(Text(printable(report.summary), style="green" if report.passed else "bold red"))


def _comparison_table(report: Report) -> Table:
    """A row for each kind of result and three columns for each framework, about the worst result of that kind."""
    worst = worst_of_groups(report.comparisons)
    frameworks = [name for name in _frameworks(report) if any(name in compared for compared in worst.values())]
    table = _table(f"difference\nfrom {report.reference}")
    for name in frameworks:
        table.add_column(f"{name}\nlargest", justify="right", no_wrap=True)
        table.add_column("\nmean", justify="right", no_wrap=True)
        table.add_column("\nwhere", no_wrap=True)
    for group, compared in worst.items():
        cells = [cell for name in frameworks for cell in _cells(compared.get(name))]
        table.add_row(_text(group), *cells)
    return table


def _cells(comparison: Comparison | None) -> tuple[Text, Text, Text]:
    if comparison is None:
        return _text(""), _text(""), _text("")
    style = "bold red" if comparison.differs else ""
    mark = "!" if comparison.differs else ""  # for those who see no colours
    where = _text(part_of(comparison.name), style)
    if comparison.problem is not None:
        return _text(mark, style), _text("", style), where
    return _text(f"{mark}{comparison.largest:.1e}", style), _text(f"{comparison.mean:.1e}", style), where


def _cost_table(report: Report) -> Table:
    images = len(report.inputs)
    table = _table(f"a batch of {images} images")
    for column in ("first pass", "later passes", "peak memory"):
        table.add_column(column, justify="right", no_wrap=True)
    for run in report.runs:
        later = "" if run.seconds is None else _time_in_words(run.seconds)
        memory = "unknown" if run.peak_bytes is None else bytes_in_words(run.peak_bytes)
        table.add_row(_text(run.framework), _text(_time_in_words(run.first_seconds)), _text(later), _text(memory))
    return table


def _answer_table(report: Report) -> Table:
    """A row for each likely class of each input, with the probability that each framework gives it."""
    table = _table("input")
    table.add_column("answer", overflow="fold")
    for name in _frameworks(report):
        table.add_column(name, justify="right", no_wrap=True)
    for place, image in enumerate(report.inputs):
        answers = [dict(run.answers[place]) if place < len(run.answers) else {} for run in report.runs]
        for row, label in enumerate(dict.fromkeys(label for found in answers for label in found)):
            shares = [_text(f"{found[label]:.1%}" if label in found else "") for found in answers]
            table.add_row(_text("" if row else image), _text(label), *shares, style="dim" if row else "")
    return table


def _table(title: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(title, overflow="fold")
    return table


def _text(content: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(printable(content), style=style)


def _frameworks(report: Report) -> list[str]:
    return [run.framework for run in report.runs]


def _time_in_words(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None] | None]:
    """What says on standard error which framework is running, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return

    with plain_console(stderr=True).status("verifying") as status:
        yield lambda framework: status.update(f"running {framework}")
