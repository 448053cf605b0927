"""What token merging gains, in images a second, and what it costs, in answers that change."""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from statistics import mean

from benchmarks.rows import Length, Row, Side, Subject
from vit_core import ViTConfig
from vit_core.token_merging import Schedule, merged_counts

MODEL, BATCH = "ViT-S/16", 8
READER = "vit-digits"
PLAIN = "without merging"
#: Speed is measured in each; agreement is the same in all.
FRAMEWORKS = ("PyTorch", "Keras", "Flax")
MERGING = {
    "PyTorch": Side("pytorch.from_folder", options={"package": "vit_torch"}),
    "Keras": Side("keras.trivit"),
    "Flax": Side("flax.trivit"),
    READER: Side("digits"),
}
Cases = Mapping[Schedule, Sequence[int]]
SPEEDS: Cases = {"constant": (8, 16), "decreasing": (8, 14, 16)}
DIGITS: Cases = {"constant": (2, 4, 8, 12, 15, 20, 32), "decreasing": (2, 4, 8, 12, 15)}
#: Of the frameworks besides PyTorch, and of a run that is not long.
ONE: Cases = {"decreasing": (14,)}


def without(name: str) -> Side:
    """The same in the same process, without merging."""
    side = MERGING[name]
    return Side(side.module, within=name, called=PLAIN, options={**side.options, "merging": None})


SIDES = {**MERGING, **{f"{name}, {PLAIN}": without(name) for name in MERGING}}


def called(number: int, schedule: Schedule) -> str:
    """How `merge_tokens` is called."""
    return f"merge_tokens({number})" if schedule == "constant" else f'merge_tokens({number}, "{schedule}")'


def left(number: int, schedule: Schedule, config: ViTConfig) -> float:
    """The share of tokens that the halves of the layers have, on average, of those without merging."""
    patches = config.grid[0] * config.grid[1]
    tokens, seen = patches, []
    for count in merged_counts(number, schedule, config.num_hidden_layers):
        seen.append(1 + tokens)
        tokens -= min(count, tokens // 2)
        seen.append(1 + tokens)
    return mean(seen) / (1 + patches)


def length_of(number: int, schedule: Schedule) -> Length:
    """In which runs a case is."""
    return "whole" if number in ONE.get(schedule, ()) else "long"


def rows() -> Iterator[Row]:
    """Speed in each framework, then agreement."""
    for framework in FRAMEWORKS:
        for schedule, numbers in (SPEEDS if framework == "PyTorch" else ONE).items():
            for number in numbers:
                work = {"kind": "forward", "model": MODEL, "batch": BATCH, "dtype": "float32"}
                title = f"{framework}, {MODEL}, batch {BATCH}, {called(number, schedule)}"
                sides = (framework, f"{framework}, {PLAIN}")
                length = length_of(number, schedule)
                yield Row(title, {**work, "merging": [number, schedule]}, sides, "", length, 2, inf)
    for schedule, numbers in DIGITS.items():
        for number in numbers:
            sides = (READER, f"{READER}, {PLAIN}")
            title = f"{READER}, {called(number, schedule)}"
            length = length_of(number, schedule)
            yield Row(title, {"merging": [number, schedule]}, sides, "", length, 0.5, inf)


SUBJECT = Subject("token_merging", "Token merging, beside the same model without it", SIDES, tuple(rows()), False)
