"""How time and memory grow with the image's size, the number of layers and the batch, in each framework."""

from collections.abc import Iterator

from benchmarks.arithmetic import operations
from benchmarks.rows import Length, Row, Side, Subject
from benchmarks.subjects.forwards import weight

SIDES = {
    "PyTorch": Side("pytorch.from_folder", options={"package": "vit_torch"}),
    "Keras": Side("keras.trivit"),
    "Flax": Side("flax.trivit"),
}
MODEL = "ViT-S/16"
#: From where all grow: what the other axes stay at.
START = {"image": 224, "layers": 12, "batch": 1}
AXES = {"image": (112, 224, 320, 448, 640), "layers": (3, 12, 24), "batch": (1, 4, 16)}
#: What whole runs have; every other point is for long ones.
USUAL = {"image": (224, 448), "layers": (12,), "batch": (1, 4)}


def rows() -> Iterator[Row]:
    """The start, then each axis, in each framework."""
    points = [START, *(START | {axis: value} for axis, values in AXES.items() for value in values)]
    distinct = list({tuple(point.items()): point for point in points}.values())
    for framework in SIDES:
        for point in distinct:
            image, layers, batch = point.values()
            title = f"{framework}: {image} x {image} pixels, {layers} layers, batch {batch}"
            work = {"kind": "forward", "model": MODEL, "dtype": "float32", **point}
            is_usual = all(point[axis] in values for axis, values in USUAL.items())
            length: Length = "whole" if is_usual else "long"
            weighed = weight(operations(MODEL, **point)) / 2
            yield Row(title, work, (framework,), "", length, weighed, has_memory=True)


SUBJECT = Subject("growth", f"How cost grows: {MODEL}, float32", SIDES, tuple(rows()), has_peers=False)
