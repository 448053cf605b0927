"""Compiling a training step of a deep model in JAX, by how its layers are run; memory is what the compiler plans."""

from benchmarks.rows import Row, Side, Subject


def layers(**options: bool) -> Side:
    """A way to run the layers."""
    return Side("flax.compilation", within="scanned", options={"layers": options})


SIDES = {
    "scanned": layers(scan_layers=True),
    "scanned, remat": layers(scan_layers=True, remat=True),
    "unrolled": layers(),
}

SUBJECT = Subject(
    "compilation",
    "Compiling a training step in JAX",
    SIDES,
    (
        Row("ViT-S/16, batch 8", {"model": "ViT-S/16", "batch": 8}, tuple(SIDES), "", "long", 4),
        Row("ViT-L/16, batch 8", {"model": "ViT-L/16", "batch": 8}, tuple(SIDES), "", "long", 10),
    ),
    has_peers=False,
)
