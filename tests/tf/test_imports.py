import os
import subprocess
import sys

import pytest


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("package", ["tensorflow", "keras", "optree", "jaxtyping"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(package):
    result = run(f"import sys; sys.modules[{package!r}] = None; import vit_tf")
    assert f'vit_tf needs {package}, which is not installed: pip install "trivit[tf]"' in result.stderr


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_another_backend_of_keras_is_named_whether_it_is_installed_or_not(backend):
    result = run("import vit_tf", KERAS_BACKEND=backend)
    assert f"vit_tf runs on Keras with TensorFlow, but Keras is set to '{backend}'" in result.stderr
    assert "set KERAS_BACKEND=tensorflow before anything imports keras" in result.stderr


def test_the_models_bring_no_other_framework():
    code = (
        "import sys, tensorflow, keras\n"  # TensorFlow itself looks for jax
        "before = set(sys.modules); import vit_tf\n"
        "print(*{'torch', 'jax', 'flax', 'transformers'} & set(sys.modules) - before)"
    )
    result = run(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []
