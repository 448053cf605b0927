import os
import subprocess
import sys


def run(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


IMPORT_WITHOUT_EACH = """
import sys
for package in sys.argv[1:]:
    there, sys.modules[package] = sys.modules.get(package), None
    try:
        import vit_tf
    except ImportError as error:
        print(error)
    sys.modules[package] = there
    if there is None:
        del sys.modules[package]
"""


def test_a_missing_package_is_named_with_the_extra_that_brings_it():
    packages = ["tensorflow", "jaxtyping", "optree", "keras"]  # as they are imported, each once
    result = run(IMPORT_WITHOUT_EACH, *packages)
    assert result.stdout.splitlines() == [
        f'vit_tf needs {package}, which is not installed: pip install "trivit[tf]"' for package in packages
    ]


def test_another_backend_of_keras_is_named_whether_it_is_installed_or_not():
    result = run("import vit_tf", KERAS_BACKEND="jax")
    assert "vit_tf runs on Keras with TensorFlow, but Keras is set to 'jax'" in result.stderr
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
