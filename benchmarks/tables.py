"""What was measured as tables: text for a terminal, Markdown for the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.growth import Cost, points
from benchmarks.subjects import subject_of

NOTHING = "-"
#: The part of the cores' time from which on others spoil a measurement, and what is said of it.
DISTURBANCE = 0.05
DISTURBED = "That is too much: these numbers say little, and a quiet machine has to measure again."
Table = list[list[str]]  # the first line is the header
Row = Mapping[str, Any]


def time(seconds: float) -> str:
    """Seconds or milliseconds, with three digits."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{digits(seconds * 1e3)} ms"


def digits(value: float) -> str:
    """Three digits, and no exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def size(taken: float) -> str:
    """Bytes as MB."""
    return f"{digits(taken / 1e6)} MB"


def spread(quartiles: Sequence[float]) -> str:
    """A ratio with its quartiles."""
    low, middle, high = quartiles
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def of(kept: Mapping[str, Any], subject: str) -> list[Row]:
    """The rows of a subject."""
    return [row for row in kept["rows"] if row["subject"] == subject]


def subjects_of(kept: Mapping[str, Any]) -> list[str]:
    """The names of the subjects that were measured, in the order in which they were."""
    return list(dict.fromkeys(row["subject"] for row in kept["rows"]))


def peers_of(rows: Iterable[Row]) -> list[str]:
    """All whom ours is compared with."""
    return list(dict.fromkeys(name for row in rows for name in row["ratios"]))


def speeds(rows: Sequence[Row]) -> Table:
    """Our time, how many times as much each of the others takes, and which part of ours the limit takes."""
    peers = peers_of(rows)
    has_limits = any("limit" in row for row in rows)
    qualities = list(dict.fromkeys(name for row in rows for name in row.get("quality", {})))
    table = [["", "ours", *peers, *(["the limit"] if has_limits else []), *qualities, "rounds"]]
    for row in rows:
        ours = row["seconds"].get(row["ours"])
        others = [spread(row["ratios"][peer]) if peer in row["ratios"] else NOTHING for peer in peers]
        limit = [limit_of(row)] if has_limits else []
        quality = row.get("quality", {})
        shares = [f"{quality[name]:.1%}" if name in quality else NOTHING for name in qualities]
        table.append([row["title"], time(ours[1]) if ours else NOTHING, *others, *limit, *shares, str(row["rounds"])])
    return table


def limit_of(row: Row) -> str:
    """Which part of our time the limit takes; and, if it is arithmetic, how much of it ours and it do in a second."""
    if "limit" not in row:
        return NOTHING
    name = row["limit"]["name"]
    rate = ""
    if "operations" in row and name.startswith("matrix products"):
        rates = (digits(row["operations"] / row["seconds"][each][1] / 1e9) for each in (row["ours"], name))
        rate = f" ({' of '.join(rates)} GFLOP/s)"
    return f"{name}: {100 * row['limit']['part'][1]:.0f} %{rate}"


def memory(rows: Sequence[Row]) -> Table:
    """Bytes that each needed at a time, besides what was there before."""
    peers = [name for name in peers_of(rows) if any(name in row["bytes"] for row in rows)]
    table = [["", "ours", *peers]]
    for row in rows:
        names = [row["ours"], *peers]
        if row["ours"] in row["bytes"]:
            table.append(
                [row["title"], *(size(row["bytes"][name]) if name in row["bytes"] else NOTHING for name in names)]
            )
    return table


def growth(rows: Sequence[Row]) -> Table:
    """Time and memory along each axis, with how many times the prediction they are."""
    table = [["", "", "time", "of the prediction", "memory", "of the prediction"]]
    for each in points(rows):
        name = f"{each.framework}, {each.axis}"
        costs = [time(each.time.taken), part(each.time), size(each.memory.taken), part(each.memory)]
        table.append([name, str(each.value), *costs])
    return table


def part(cost: Cost) -> str:
    """Times the prediction, and whether that is a surprise."""
    return f"{cost.ratio:.2f}{' (a surprise)' if cost.is_surprise else ''}"


def summary(kept: Mapping[str, Any]) -> Table:
    """For each subject and peer: the median of the ratios, and in how many rows we are ahead, level and behind.

    Level is a row whose quartiles have 1 between them.
    """
    table = [["", "beside", "median ratio", "ahead", "level", "behind"]]
    for subject in (name for name in subjects_of(kept) if subject_of(name).has_peers):
        rows = of(kept, subject)
        for peer in peers_of(rows):
            ratios = [row["ratios"][peer] for row in rows if peer in row["ratios"]]
            ahead = sum(low > 1 for low, _, _ in ratios)
            behind = sum(high < 1 for _, _, high in ratios)
            counts = (ahead, len(ratios) - ahead - behind, behind)
            middle = statistics.median(middle for _, middle, _ in ratios)
            table.append([subject_of(subject).title, peer, f"{middle:.2f}", *map(str, counts)])
    return table


def left_out(kept: Mapping[str, Any]) -> Table:
    """Who is missing, where, and why."""
    table = [["", "without", "because"]]
    for row in kept["rows"]:
        table += [[f"{row['subject']}: {row['title']}", name, why] for name, why in row["left_out"].items()]
    return table


def conditions(kept: Mapping[str, Any]) -> list[str]:
    """What the numbers were measured on, with which versions, in sentences."""
    machine = kept["machine"]
    cores = f"{machine['processor']} ({', '.join(machine['instructions'])}), {machine['cores']} cores"
    where = [machine.get("card"), cores, f"{machine['memory'] / 2**30:.0f} GiB", machine["system"]]
    lines = [
        f"{kept['date']}: {', '.join(filter(None, where))}, Python {machine['python']}.",
        f"A run of {kept['minutes']} minutes, in which other programs had {100 * kept['others']:.0f} % of the cores' "
        f"time.{f' {DISTURBED}' if is_disturbed(kept) else ''}",
    ]
    for environment, versions in kept["versions"].items():
        lines.append(f"{environment}: {', '.join(f'{name} {version}' for name, version in versions.items())}.")
    return lines


def is_disturbed(kept: Mapping[str, Any]) -> bool:
    """Whether others used the machine."""
    return kept["others"] > DISTURBANCE


def as_text(kept: Mapping[str, Any]) -> str:
    """All tables, for a terminal."""
    parts = ["\n".join(conditions(kept)), titled("Summary: theirs / ours, above 1 where ours is faster", summary(kept))]
    for subject in subjects_of(kept):
        rows, title = of(kept, subject), subject_of(subject).title
        if subject == "growth":
            parts.append(titled(title, growth(rows)))
        else:
            parts += [titled(title, speeds(rows)), titled(f"{title}: memory", memory(rows))]
    return "\n\n".join([part for part in (*parts, titled("Left out", left_out(kept))) if part])


def titled(title: str, table: Table) -> str:
    """A table in columns under a title; nothing without rows."""
    if len(table) == 1:
        return ""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join([title, *lines])


def as_markdown(table: Table) -> str:
    """A table for the documentation; a sentence without rows."""
    if len(table) == 1:
        return "Not measured."
    header, *body = (f"| {' | '.join(line)} |" for line in table)
    return "\n".join([header, "|" + "---|" * len(table[0]), *body])
