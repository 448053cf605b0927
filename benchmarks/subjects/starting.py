"""How long a user waits before anything happens."""

from collections.abc import Mapping

from benchmarks.rows import Row, Side, Subject

#: What is done, and by whom in which program.
PROGRAMS: Mapping[str, Mapping[str, str]] = {
    "trivit": {
        "import the core": "import vit_core",
        "import a model in PyTorch": "from vit_torch import ViTForImageClassification",
        "trivit --help": "import sys; sys.argv = ['trivit', '--help']; from vit_cli import main; main()",
    },
    "transformers 5": {
        "import a model in PyTorch": "from benchmarks.sides.packages import imported\n"
        "imported('transformers').ViTForImageClassification"
    },
    "Python": {
        "import the core": "import numpy, PIL.Image",
        "import a model in PyTorch": "import torch",
        "trivit --help": "pass",
    },
}
FORWARD = {"kind": "forward", "model": "ViT-B/16", "batch": 1, "dtype": "float32"}
COMPILED = {"kind": "forward", "model": "ViT-S/16", "batch": 1, "dtype": "float32", "mode": "compiled"}
STEP = {"kind": "training step", "model": "ViT-S/16", "batch": 8, "dtype": "float32"}


def program(name: str, environment: str = "trivit") -> Side:
    """Somebody with programs."""
    return Side("fresh", environment, options={"programs": PROGRAMS[name]})


def first(called: str, module: str, environment: str = "trivit", **options: object) -> Side:
    """Somebody with a model."""
    return Side("first_answer", environment, called=called, options={"module": module, **options})


def reading(*packages: str) -> Side:
    """What cannot be done without: importing packages and reading the file."""
    return first(f"importing {' and '.join(packages)}, and reading the file", "importing", packages=packages)


SIDES = {
    "trivit": program("trivit"),
    "transformers 5": program("transformers 5", "transformers-5"),
    "Python and its packages": program("Python"),
    "trivit, PyTorch": first("trivit", "pytorch.from_folder", package="vit_torch"),
    "transformers 5, PyTorch": first("transformers 5", "pytorch.from_folder", "transformers-5", package="transformers"),
    "timm": first("timm", "pytorch.timm", "transformers-5"),
    "trivit, Keras": first("trivit", "keras.trivit"),
    "KerasHub": first("KerasHub", "keras.keras_hub", "keras-hub"),
    "transformers 4, TensorFlow": first("transformers 4", "keras.transformers_4", "transformers-4"),
    "trivit, Flax": first("trivit", "flax.trivit"),
    "transformers 4, Flax": first("transformers 4", "flax.transformers_4", "transformers-4"),
}
SIDES |= {
    "reading in PyTorch": reading("torch"),
    "reading in Keras": reading("tensorflow", "keras"),
    "reading in Flax": reading("jax", "flax"),
}
IN_PYTORCH = ("trivit, PyTorch", "transformers 5, PyTorch", "timm")
IN_KERAS = ("trivit, Keras", "KerasHub", "transformers 4, TensorFlow")
IN_FLAX = ("trivit, Flax", "transformers 4, Flax")

SUBJECT = Subject(
    "starting",
    "Before anything happens",
    SIDES,
    (
        Row("import the core", {"kind": "import the core"}, ("trivit",), "Python and its packages"),
        Row(
            "import a model in PyTorch",
            {"kind": "import a model in PyTorch"},
            ("trivit", "transformers 5"),
            "Python and its packages",
            "long",
        ),
        Row("trivit --help", {"kind": "trivit --help"}, ("trivit",), "Python and its packages"),
        Row("first answer in PyTorch", FORWARD, IN_PYTORCH, "reading in PyTorch", weight=4, fewest=2),
        Row("first answer in Keras", FORWARD, IN_KERAS, "reading in Keras", "long", weight=6, fewest=2),
        Row("first answer in Flax", FORWARD, IN_FLAX, "reading in Flax", "long", weight=4, fewest=2),
        Row("first answer, compiled", COMPILED, IN_PYTORCH, "", "long", weight=6, fewest=1),
        Row("first training step in Keras", STEP, IN_KERAS, "", "long", weight=6, fewest=2),
    ),
)
