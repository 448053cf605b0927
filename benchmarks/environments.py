"""The Pythons that the sides run in: packages that do not fit together have environments of their own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Environment:
    """What is installed in an environment.

    Attributes:
        packages: for pip, besides the frameworks.
        extras: of this project.
        is_constrained: whether `constraints.txt` holds for all of it, rather than for torch alone.
        without_dependencies: packages that pip installs as they are.
    """

    packages: tuple[str, ...]
    extras: tuple[str, ...] = ()
    is_constrained: bool = True
    without_dependencies: tuple[str, ...] = ()


#: What reading and writing weights takes everywhere.
FOR_WEIGHTS = ("huggingface_hub", "pillow", "safetensors")
ENVIRONMENTS = {
    "trivit": Environment(("onnx", "onnxruntime", "onnxscript", "scikit-learn"), ("torch", "tf", "flax", "cli")),
    # torchvision's wheels ask for one build of torch alone; timm uses nothing of it that is compiled.
    "transformers-5": Environment(
        (*FOR_WEIGHTS, "torch", "transformers==5.*", "pyyaml"), (), False, ("timm==1.0.*", "torchvision")
    ),
    "keras-hub": Environment(
        (*FOR_WEIGHTS, "tensorflow", "keras-hub==0.32.*"),
    ),
    "transformers-4": Environment(
        (
            *(*FOR_WEIGHTS, "torch", "transformers==4.47.1", "tensorflow-cpu==2.17.1", "tf-keras==2.17.0", "numpy<2"),
            *("jax==0.4.35", "jaxlib==0.4.35", "flax==0.10.2", "optax==0.2.5"),
        ),
        (),
        False,
    ),
}
