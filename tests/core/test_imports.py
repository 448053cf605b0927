import subprocess
import sys

import pytest

HEAVY = {"torch", "tensorflow", "keras", "jax", "flax", "huggingface_hub"}


#: Packages of files that not every checkpoint is in.
FILE_FORMATS = {"h5py", "msgpack"}


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


EVERY_MODULE_OF_CONVERSION = EVERY_MODULE.replace("vit_core", "conversion")


@pytest.mark.parametrize(
    "statements",
    ["import conversion", "import conversion; conversion.convert, conversion.load", EVERY_MODULE_OF_CONVERSION],
    ids=["the package", "its functions", "each of its modules"],
)
def test_importing_conversion_loads_no_framework_and_no_package_for_files(statements):
    modules = imported_by(statements)
    assert "conversion" in modules
    assert not modules & (HEAVY | FILE_FORMATS)


COMMAND = """
import contextlib, io
from vit_cli import main
with contextlib.redirect_stdout(io.StringIO()):
    status = main({!r})
assert status == 0
"""


@pytest.mark.parametrize(
    ("source", "to", "file", "used"),
    [
        ("google_jax/published.npz", "timm", "vit.pth", set()),
        ("dino_vit/backbone.pth", "transformers", "vit.safetensors", set()),
        ("hf_vit_classifier/tf_model.h5", "google", "vit.npz", set()),
        ("timm_vit", "transformers-flax", "vit.msgpack", set()),
        ("hf_vit_classifier/flax_model.msgpack", "transformers-tf", "tf_model.h5", {"h5py"}),
    ],
)
def test_converting_loads_no_framework_and_no_package_that_is_not_used(
    fixture_folder, tmp_path, source, to, file, used
):
    options = ["--to", to, "--set", "num_attention_heads=4", "--no-verify"]
    arguments = ["convert", str(fixture_folder / source), str(tmp_path / file), *options]
    modules = imported_by(COMMAND.format(arguments))
    assert (tmp_path / file).is_file()
    assert modules & (HEAVY | FILE_FORMATS) <= used


@pytest.mark.parametrize(
    "source", ["hf_vit_classifier", "hf_vit_model/tf_model.h5", "google_jax/linen.npz", "mae_vit/pretrain.pth"]
)
def test_describing_a_checkpoint_loads_no_framework_and_no_package_for_files(fixture_folder, source):
    heads = ["--set", "num_attention_heads=4"]
    if "mae" in source:
        heads += ["--set", "decoder_num_attention_heads=2"]
    arguments = ["info", str(fixture_folder / source), "--json", *heads]
    assert not imported_by(COMMAND.format(arguments)) & (HEAVY | FILE_FORMATS)
