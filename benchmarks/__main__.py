"""The command: measures, writes the JSON row by row, prints the tables and draws the pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import results
from benchmarks.environments import ENVIRONMENTS
from benchmarks.picture import draw
from benchmarks.pieces import difference, merged
from benchmarks.processes import ROOT
from benchmarks.rows import LENGTHS, ROUNDS
from benchmarks.run import conditions, run
from benchmarks.subjects import SUBJECTS, chosen
from benchmarks.tables import as_text
from benchmarks.theme import THEMES

PUBLISHED = ROOT / "docs" / "speed.json"


def main() -> None:
    """Measure, or show again what was measured."""
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)}; all by default")
    parser.add_argument(
        "--rows",
        nargs="+",
        default=[],
        metavar="WORD",
        help="rows whose titles have all of these words; of a long run, if no other is asked for",
    )
    length = parser.add_mutually_exclusive_group()
    keep = {"action": "store_const", "dest": "length"}
    length.add_argument("--quick", **keep, const="quick", help="few rows, in some minutes")
    length.add_argument("--long", **keep, const="long", help="every row, in some hours, for the documentation")
    parser.add_argument(
        "--minutes",
        type=float,
        help="until when rows get more than their fewest rounds (default: 2, 20 or 120, by the length)",
    )
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="ENVIRONMENT=PATH",
        help=f"the interpreter of {', '.join(list(ENVIRONMENTS)[1:])}; without it, its sides are left out",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="the JSON to write, beside which the pictures are drawn (default: docs/speed.json for --long, which is "
        "what the documentation shows; otherwise build/speed.json). All subjects begin it anew; some subjects or rows "
        "are added to what it holds, or replace it there",
    )
    parser.add_argument(
        "--draw", type=Path, metavar="JSON", help="measure nothing: draw and print what this file holds"
    )
    options = parser.parse_args()
    if options.draw:
        if not options.draw.is_file():
            parser.error(f"there is no file {options.draw}; give the JSON that a run wrote")
        show(options.draw)
        return
    unknown = set(options.subjects) - set(SUBJECTS)
    if unknown:
        parser.error(f"there is no subject {', '.join(sorted(unknown))}; there are {', '.join(SUBJECTS)}")
    pythons = dict(each.partition("=")[::2] for each in options.python)
    unknown = set(pythons) - set(ENVIRONMENTS)
    if unknown:
        parser.error(f"there is no environment {', '.join(sorted(unknown))}; there are {', '.join(ENVIRONMENTS)}")
    length = options.length or ("long" if options.rows else "whole")
    wanted = chosen(options.subjects or SUBJECTS, length, options.rows)
    if not wanted:
        if options.rows:
            parser.error(f"no row of a {length} run has {' and '.join(options.rows)} in its title")
        parser.error(f"a {length} run has no row of {', '.join(options.subjects)}; ask for --long")
    is_piece = bool(options.subjects or options.rows)
    is_published = length == "long" and not is_piece
    output = options.output or (PUBLISHED if is_published else ROOT / "build" / "speed.json")
    pythons = {"trivit": sys.executable, **pythons}
    here = conditions(wanted, pythons)
    before = results.read(output) if is_piece and output.is_file() else None
    if before is not None and (reason := difference(before, here)):
        parser.error(
            f"{output} holds rows of other conditions: {reason}. Rows of both in one file would not be comparable; "
            "give another --output, or remove the file."
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        for so_far in run(wanted, options.minutes or LENGTHS[length], pythons, tell, ROUNDS[length]):
            now = {**here, **so_far}
            results.write(output, now if before is None else merged(before, now))
    except KeyboardInterrupt:
        parser.exit(130, f"interrupted: {output} holds the rows until here; --draw {output} shows them\n")
    show(output)


def tell(text: str) -> None:
    """Say how far it is."""
    print(text, file=sys.stderr, flush=True)


def show(file: Path) -> None:
    """Print the tables of a JSON file, and draw its pictures beside it."""
    kept = results.read(file)
    print(as_text(kept))
    for theme in THEMES:
        draw(kept, file, theme)


if __name__ == "__main__":
    main()
