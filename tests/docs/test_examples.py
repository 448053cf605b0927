"""Every Python example of the README and of the documentation runs as it stands: one script a page, in order."""

import importlib.util
import re
import shutil
import textwrap
import warnings
from pathlib import Path

import pytest

import vit_core

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests/fixtures"
DIGIT = next(iter(sorted((Path(vit_core.__file__).parent / "bundled/vit-digits/test_images").glob("*.png"))), None)
#: What lies in the folder in which an example runs: files that other people's code wrote, and a picture.
FILES = {
    "digit.png": DIGIT,
    "clip.pt": FIXTURES / "clip_original/clip.pt",
    "siglip.weights.h5": FIXTURES / "keras_hub/siglip/model.weights.h5",
    "ViT.npz": FIXTURES / "google_jax_representation/published.npz",
    "dino_checkpoint.pth": FIXTURES / "dino_vit/full_checkpoint.pth",
    "mae_pretrain.pth": FIXTURES / "mae_vit/pretrain.pth",
    "torchvision_vit.pth": FIXTURES / "torchvision_vit/vit.pth",
}
#: A block of Python, which in a tab is indented.
EXAMPLE = re.compile(r"^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
#: Each framework or library, and what in an example needs it.
FRAMEWORKS = {
    "torch": re.compile(r'\bvit_torch\b|"torch"'),
    "tensorflow": re.compile(r'\bvit_tf\b|"tf"\]'),
    "jax": re.compile(r'\bvit_flax\b|"flax"'),
    "pyarrow": re.compile(r"^import pyarrow", re.MULTILINE),
    # Not installed with the other tests: `nox -s interop` runs these.
    "transformers": re.compile(r"^from (transformers|vit_torch\.trainer) import", re.MULTILINE),
    "accelerate": re.compile(r"^from (accelerate|vit_torch\.trainer) import", re.MULTILINE),
}
NO_FRAMEWORK = re.compile(r"^from (conversion|vit_core) import", re.MULTILINE)
PAGES = [
    page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))] if EXAMPLE.search(page.read_text())
]


def runnable(examples):
    """The examples that can run here; one that imports nothing of ours goes on from the one before."""
    goes_on = True
    for example in examples:
        needed = [framework for framework, use in FRAMEWORKS.items() if use.search(example["code"])]
        if needed or NO_FRAMEWORK.search(example["code"]):
            goes_on = all(map(importlib.util.find_spec, needed))
        if goes_on:
            yield example


def test_there_are_examples():
    with_examples = {str(page.relative_to(ROOT)) for page in PAGES}
    guides = [
        "index",
        "conversion",
        "migrate",
        "from-timm",
        "from-google",
        "images",
        "features",
        "feature-maps",
        "verify",
    ]
    backends = ["pytorch", "trainer", "keras", "keras-training", "jax", "jax-sharding"]
    formats = [f"formats/{page.stem}" for page in (ROOT / "docs/formats").glob("*.md")]
    assert len(formats) == 10
    assert {"README.md", *(f"docs/{page}.md" for page in [*guides, *backends, *formats])} <= with_examples


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run(page, tmp_path, monkeypatch):
    text = page.read_text()
    examples = list(runnable(EXAMPLE.finditer(text)))
    if not examples:
        pytest.skip("no example runs with what is installed")
    monkeypatch.chdir(tmp_path)
    for name, file in FILES.items():
        shutil.copy(file, tmp_path / name)
    namespace = {"__name__": "__main__"}
    with warnings.catch_warnings():
        # The pages say which of their lines warn about weights that start at random or are left out.
        ignored = ".*(start at random|has no such tensors|the text tower, .* is left out)"
        warnings.filterwarnings("ignore", message=ignored, category=UserWarning)
        # Keras itself, when it writes variables.
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        for example in examples:
            line = text[: example.start()].count("\n") + 1
            exec(compile("\n" * line + textwrap.dedent(example["code"]), str(page), "exec"), namespace)
