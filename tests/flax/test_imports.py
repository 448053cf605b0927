import subprocess
import sys

IMPORT_WITHOUT_EACH = """
import sys
for package in sys.argv[1:]:
    there, sys.modules[package] = sys.modules.get(package), None
    try:
        import vit_flax
    except ImportError as error:
        print(error)
    sys.modules[package] = there
    if there is None:
        del sys.modules[package]
"""


def run(code, *arguments):
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


def test_a_missing_package_is_named_with_the_extra_that_brings_it():
    packages = ["jax", "flax", "optax", "jaxtyping"]  # as they are imported, each once
    assert run(IMPORT_WITHOUT_EACH, *packages) == [
        f'vit_flax needs {package}, which is not installed: pip install "trivit[flax]"' for package in packages
    ]


def test_importing_brings_no_other_framework_and_starts_no_device():
    others = {"torch", "tensorflow", "keras", "transformers"}
    code = (
        f"import sys, vit_flax; print({others} & set(sys.modules))\n"
        "from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    )
    assert run(code) == ["set()", "False"]


def test_every_public_name_is_there():
    import vit_flax

    assert [name for name in vit_flax.__all__ if not hasattr(vit_flax, name)] == []
