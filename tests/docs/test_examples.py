"""Every Python example of the README and of the documentation runs as it stands: one script a page, in order."""

import re
import shutil
import warnings
from pathlib import Path

import pytest

import vit_core

ROOT = Path(__file__).parents[2]
DIGIT = next(iter(sorted((Path(vit_core.__file__).parent / "bundled/vit-digits/test_images").glob("*.png"))), None)
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A page is run where all it needs is installed.
FRAMEWORKS = {"vit_torch": "torch", "vit_tf": "tensorflow", "vit_flax": "flax"}
PAGES = [
    page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))] if EXAMPLE.search(page.read_text())
]


def test_there_are_examples():
    with_examples = {page.name for page in PAGES}
    assert {"README.md", "index.md", "migrate.md", "images.md"} <= with_examples
    assert {"pytorch.md", "keras.md", "jax.md", "jax-sharding.md"} <= with_examples


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_run(page, tmp_path, monkeypatch):
    for package, framework in FRAMEWORKS.items():
        if package in page.read_text():
            pytest.importorskip(framework)
    monkeypatch.chdir(tmp_path)
    shutil.copy(DIGIT, tmp_path / "digit.png")
    namespace = {"__name__": "__main__"}
    with warnings.catch_warnings():
        # The page on loading says which of its lines warn about weights that start at random.
        warnings.filterwarnings("ignore", message=".*(start at random|has no such tensors).*", category=UserWarning)
        # Keras itself, when it writes variables.
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        for example in EXAMPLE.finditer(page.read_text()):
            line = page.read_text()[: example.start()].count("\n") + 1
            exec(compile("\n" * line + example[1], str(page), "exec"), namespace)
