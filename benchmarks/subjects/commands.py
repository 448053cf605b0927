"""`trivit classify` and `trivit features` on a folder of photographs, beside a loop over transformers' pipeline.

Memory is all that the process has; that it does not grow with the number of photographs shows in two rows.
"""

from collections.abc import Iterator, Mapping

from benchmarks.rows import Length, Row, Side, Subject

MODEL = "ViT-Ti/16"
#: How many photographs there are, and which command is in a run that is not long.
COUNTS, USUAL = (100, 1000), ("classify", 1000)
#: Programs that find a model, photographs and an output in their arguments.
PROGRAMS: Mapping[str, Mapping[str, str]] = {
    "trivit": {
        "classify": "import sys; from vit_cli import main\n"
        "sys.exit(main(['classify', sys.argv[2], '--model', sys.argv[1]]))",
        "features": "import sys; from vit_cli import main\n"
        "sys.exit(main(['features', sys.argv[2], '--model', sys.argv[1], '--output', sys.argv[3]]))",
    },
    "transformers 5": {
        "classify": "import sys; from benchmarks.sides import pipelines; pipelines.classify(*sys.argv[1:3])",
        "features": "import sys; from benchmarks.sides import pipelines; pipelines.features(*sys.argv[1:4])",
    },
}
SIDES = {
    "trivit": Side("command", options={"programs": PROGRAMS["trivit"]}),
    "transformers 5": Side("command", "transformers-5", options={"programs": PROGRAMS["transformers 5"]}),
}


def rows() -> Iterator[Row]:
    """Each command with each number of photographs."""
    for kind in PROGRAMS["trivit"]:
        for count in COUNTS:
            work = {"kind": kind, "model": MODEL, "photos": count}
            title = f"trivit {kind}, {count} photos, {MODEL}"
            length: Length = "whole" if (kind, count) == USUAL else "long"
            yield Row(title, work, tuple(SIDES), "", length, weight=6, fewest=1)


SUBJECT = Subject("commands", "Commands on folders of photographs", SIDES, tuple(rows()))
