"""A save that is under way is taken for one that was killed, and what it has written so far is removed."""

import errno
import fcntl
import os
import re
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from namespaces import command

from vit_core import ViTConfig, locks
from vit_core.checkpoint import open_checkpoint, save_checkpoint
from vit_core.hub import locate
from vit_core.saving import COMMITTED, DAY, REPLACED, STAGING, replacing_files, write_file
from vit_core.stored_tensor import StoredTensor

NAMES = ["model.safetensors"]
SAVE = (
    "import sys; from pathlib import Path; from vit_core.saving import write_file; write_file(Path(sys.argv[1]), b'')"
)
KILLED = """
import os, sys
from pathlib import Path
from vit_core.saving import replacing_files
with replacing_files(Path(sys.argv[1]), []) as staging:
    (staging / "model.safetensors").write_text("half")
    os._exit(9)
"""


@pytest.fixture
def no_locks(monkeypatch):
    """A file system without locks."""

    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(locks, "_is_said", False)


def stagings(folder):
    return sorted(path for path in folder.iterdir() if path.name.startswith(STAGING))


def staged_elsewhere(folder, name="other-machine-123-0a1b"):
    """What a process left that asked another kernel for its locks, or that older versions of Trivit left."""
    staging = folder / f"{STAGING}-{name}"
    staging.mkdir()
    (staging / "model.safetensors").write_text("half")
    return staging


def age(staging, seconds):
    then = time.time() - seconds
    for path in (*staging.iterdir(), staging):
        os.utime(path, (then, then))


def test_save_from_another_pid_namespace_leaves_a_save_under_way_alone(tmp_path):
    with replacing_files(tmp_path, NAMES) as staging:
        (staging / "model.safetensors").write_text("slow")
        subprocess.run(command(SAVE, tmp_path / "config.json"), check=True)
        assert (staging / "model.safetensors").read_text() == "slow"
    assert (tmp_path / "model.safetensors").read_text() == "slow"
    assert not stagings(tmp_path)


def test_save_killed_in_another_pid_namespace_is_cleaned_up(tmp_path):
    subprocess.run(command(KILLED, tmp_path), check=False)
    assert len(stagings(tmp_path)) == 1
    write_file(tmp_path / "config.json", b"{}")
    assert not stagings(tmp_path)


def test_save_killed_before_it_had_its_lock_is_cleaned_up(tmp_path):
    with replacing_files(tmp_path, []) as staging:
        dead = staging.with_name(f"{staging.name}0")  # asked of the same kernel
    dead.mkdir()
    write_file(tmp_path / "config.json", b"{}")
    assert not stagings(tmp_path)


def test_forked_child_keeps_no_lock_of_a_parent_that_was_killed(tmp_path):
    worker = (
        "    if os.fork() == 0:\n        os.write(1, b'.')\n        os._exit(len(sys.stdin.read()))\n    os._exit(9)"
    )
    script = KILLED.replace("    os._exit(9)", worker)
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], **options) as process:
        process.wait()
        assert process.stdout.read(1) == b"."  # of the child, which lives
        assert len(stagings(tmp_path)) == 1
        write_file(tmp_path / "config.json", b"{}")
        assert not stagings(tmp_path)


def test_what_was_staged_under_other_locks_is_left_alone_for_a_day(tmp_path):
    staging = staged_elsewhere(tmp_path)
    age(staging, DAY - 60)
    write_file(tmp_path / "config.json", b"{}")
    assert [path.name for path in staging.iterdir()] == ["model.safetensors"]
    age(staging, DAY + 60)
    write_file(tmp_path / "config.json", b"{}")
    assert not staging.exists()


def test_old_staging_that_is_locked_is_left_alone(tmp_path):
    staging = staged_elsewhere(tmp_path)
    with open(staging / REPLACED, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        age(staging, DAY + 60)
        write_file(tmp_path / "config.json", b"{}")
        assert staging.is_dir()


def test_file_system_without_locks_is_named_once_and_keeps_what_is_younger_than_a_day(tmp_path, no_locks):
    young, old = staged_elsewhere(tmp_path), staged_elsewhere(tmp_path, "other-machine-124-0a1b")
    age(old, DAY + 60)
    with pytest.warns(UserWarning, match=f"^{re.escape(str(tmp_path))} is on a file system without locks: let one "):
        write_file(tmp_path / "config.json", b"{}")
    with warnings.catch_warnings(action="error"), replacing_files(tmp_path, NAMES) as staging:
        (staging / "model.safetensors").write_text("slow")
        write_file(tmp_path / "config.json", b"{}")
    assert (tmp_path / "model.safetensors").read_text() == "slow"
    assert stagings(tmp_path) == [young]
    assert not old.exists()


def test_file_that_is_removed_while_others_are_written_is_missed_before_the_save_counts(tmp_path):
    def tensors(value, remove=lambda: None):
        array = np.full(100, value, "f4")
        return {f"{number}": StoredTensor("F32", (100,), lambda: (remove(), array)[1]) for number in range(3)}

    def remove():
        for staging in stagings(tmp_path):
            (staging / "model-00001-of-00003.safetensors").unlink(missing_ok=True)

    config = ViTConfig(hidden_size=8, num_attention_heads=2)
    save_checkpoint(tmp_path, config, tensors(1), 400)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    lost = "model-00001-of-00003.safetensors was removed while the files beside it were written"
    with pytest.raises(FileNotFoundError, match=f"^cannot save to {re.escape(str(tmp_path))}: {lost}; .* is unchanged"):
        save_checkpoint(tmp_path, config, tensors(2, remove), 400)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert all((tensor.read() == 1).all() for tensor in open_checkpoint(locate(tmp_path)).tensors.values())


@pytest.mark.parametrize("name", [REPLACED, None], ids=["its lock", "itself"])
def test_link_in_place_of_a_staging_leads_nowhere(tmp_path, name):
    private = tmp_path / "private"
    private.mkdir()
    (private / "diary.txt").write_text("dear diary")
    age(private, 2 * DAY)
    folder = tmp_path / "stranger"
    folder.mkdir()
    staging = folder / f"{STAGING}-x-y-z"
    if name is None:
        staging.symlink_to(private)
    else:
        staging.mkdir()
        (staging / name).symlink_to(private / "lock")
    os.utime(staging, (0, 0), follow_symlinks=False)
    write_file(folder / "config.json", b"{}")
    assert [path.name for path in private.iterdir()] == ["diary.txt"]
    assert not (folder / COMMITTED).exists()
