"""A process is forked, as workers of a DataLoader are, while a thread of its parent is opening an image."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

#: A thread opens an image that does not come: a pipe into which nobody writes. Then a child opens one that is there.
SCRIPT = """
import os, signal, sys, threading, warnings
from vit_core.image_file import opened_picture

def size(path):
    with opened_picture(path, "the image") as picture:
        return picture.size

pipe, image = sys.argv[1:]
os.mkfifo(pipe)
threading.Thread(target=size, args=(pipe,), daemon=True).start()
writer = None
while writer is None:  # until the thread has the pipe open
    try:
        writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        pass
warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(0 if size(image) == (8, 8) else 1)
sys.exit(os.waitpid(child, 0)[1])
"""
ROOT = Path(__file__).parents[2]
LOCKS = ("Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier")
#: Forked processes cannot go on with these frameworks, whatever we do.
NOT_FORKED = ("vit_tf", "vit_flax")


def test_child_of_a_process_that_is_opening_an_image_opens_one(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "image.png")
    arguments = [tmp_path / "pipe", tmp_path / "image.png"]
    assert subprocess.run([sys.executable, "-c", SCRIPT, *arguments], check=False).returncode == 0


@pytest.mark.parametrize("package", ["vit_core", "conversion", "vit_cli", "vit_torch", "vit_tf", "vit_flax"])
def test_no_lock_outlives_a_call(package):
    """A lock of a module or class is had by a thread that a forked child does not have."""
    for path in sorted((ROOT / package).rglob("*.py")):
        for place in _outside_functions(ast.parse(path.read_text())):
            name = place.attr if isinstance(place, ast.Attribute) else getattr(place, "id", "")
            assert name not in LOCKS, path
            if package not in NOT_FORKED:
                assert name != "cached_property", f"{path}: Python 3.11's has a lock for all instances of its class"


def _outside_functions(tree):
    """The names in a module or class, decorators and defaults included, that are looked at when it is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in node.decorator_list:
                yield decorator
                yield from _outside_functions(decorator)
        elif not isinstance(node, ast.Lambda):
            yield node
            yield from _outside_functions(node)
