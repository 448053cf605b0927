import subprocess
import sys

import pytest

HEAVY = {"torch", "tensorflow", "keras", "jax", "flax", "huggingface_hub"}


def imported_by(statements):
    """The modules that a fresh interpreter has after some statements."""
    script = f"{statements}\nimport sys\nprint(*sys.modules, sep='\\n')"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines())


EVERY_MODULE = """
import importlib, pkgutil, vit_core
for module in pkgutil.walk_packages(vit_core.__path__, "vit_core."):
    importlib.import_module(module.name)
"""


@pytest.mark.parametrize("statements", ["import vit_core", EVERY_MODULE], ids=["the package", "each of its modules"])
def test_importing_the_core_loads_no_framework_and_no_hub_client(statements):
    modules = imported_by(statements)
    assert "vit_core.config" in modules
    assert not modules & HEAVY


def test_opening_a_checkpoint_in_a_folder_loads_no_framework_and_no_hub_client(fixture_folder):
    folder = fixture_folder / "hf_vit_classifier"
    modules = imported_by(
        "from vit_core.checkpoint import open_checkpoint\n"
        "from vit_core.hub import locate\n"
        f"open_checkpoint(locate({str(folder)!r}))"
    )
    assert "vit_core.checkpoint" in modules
    assert not modules & HEAVY
