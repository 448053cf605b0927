"""What a script of transformers' does with a folder of photographs: a loop over a pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.sides.packages import imported


def classify(model: str, photos: str) -> None:
    """Print the best class of each photograph."""
    ask = imported("transformers").pipeline("image-classification", model=model, device="cpu")
    for file in sorted(Path(photos).glob("*.jpg")):
        print(file, ask(str(file), top_k=1))


def features(model: str, photos: str, output: str) -> None:
    """Write the class token of each photograph to a file."""
    ask = imported("transformers").pipeline("image-feature-extraction", model=model, device="cpu")
    tokens = [ask(str(file), return_tensors=True)[0, 0].numpy() for file in sorted(Path(photos).glob("*.jpg"))]
    np.savez(output, features=np.stack(tokens))
