import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["jax", "flax", "optax", "jaxtyping"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(package):
    code = f"import sys; sys.modules[{package!r}] = None; import vit_flax"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f'vit_flax needs {package}, which is not installed: pip install "trivit[flax]"' in run.stderr


def test_the_models_bring_no_other_framework():
    others = {"torch", "tensorflow", "keras", "transformers"}
    code = f"import sys, vit_flax; print(*{others} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_importing_starts_no_device():
    code = "import vit_flax; from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_every_public_name_is_there():
    import vit_flax

    assert [name for name in vit_flax.__all__ if not hasattr(vit_flax, name)] == []
