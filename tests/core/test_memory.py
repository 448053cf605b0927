"""How much memory a process may have, and what is said when there is none left."""

import subprocess
import sys

import pytest

from vit_core import memory
from vit_core.memory import allowed_memory, explaining_shortage

MIB = 2**20


@pytest.mark.parametrize(
    ("group", "file"),
    [
        ("0::/a/b", "v2/memory.max"),
        ("0::/a/b", "v2/a/memory.max"),
        ("7:cpu,memory:/a/b", "v1/a/b/memory.limit_in_bytes"),
    ],
)
def test_limits_of_control_groups_and_of_those_around_them_hold(monkeypatch, tmp_path, group, file):
    (tmp_path / "cgroup").write_text(f"{group}\n12:devices:/x\n")
    for root in ("v1", "v2"):
        (tmp_path / root / "a/b").mkdir(parents=True)
    (tmp_path / "v2/a/b/memory.max").write_text("max\n")
    (tmp_path / file).write_text(f"{100 * MIB}\n")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "cgroup")
    hierarchies = {"": (tmp_path / "v2", "memory.max"), "memory": (tmp_path / "v1", "memory.limit_in_bytes")}
    monkeypatch.setattr(memory, "HIERARCHIES", hierarchies)
    assert allowed_memory() == 100 * MIB


LIMITED = """
import resource, sys
from pathlib import Path
from vit_core.memory import allowed_memory

kind = sys.argv[1]
used = [int(pages) * resource.getpagesize() for pages in Path("/proc/self/statm").read_text().split()]
taken = used[0] if kind == "RLIMIT_AS" else used[5]
resource.setrlimit(getattr(resource, kind), (taken + 100 * 2**20,) * 2)
print(allowed_memory())
"""


@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_what_the_process_has_counts_towards_its_own_limit(kind):
    run = subprocess.run([sys.executable, "-c", LIMITED, kind], capture_output=True, text=True, check=True)
    assert 60 * MIB < int(run.stdout) <= 100 * MIB


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4398046511104 bytes."),
        RuntimeError("OOM when allocating tensor with shape[4096,4096]"),
    ],
)
def test_an_allocators_error_becomes_a_sentence(error):
    with (
        pytest.raises(OSError, match="loading vit takes more memory than .* free some") as caught,
        explaining_shortage("loading vit"),
    ):
        raise error
    assert caught.value.__cause__ is error


def test_other_errors_stay_as_they_are():
    for error in (RuntimeError("shapes do not match"), ValueError("out of memory is no word for it")):
        with pytest.raises(type(error), match=str(error)), explaining_shortage("loading vit"):
            raise error
