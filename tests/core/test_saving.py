import contextlib
import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from disks import largest_file

from vit_core import ViTConfig
from vit_core.checkpoint import open_checkpoint, save_checkpoint
from vit_core.hub import locate
from vit_core.saving import COMMITTED, REPLACED, STAGING, finish_interrupted_save, replacing_files, write_file
from vit_core.stored_tensor import from_numpy

SHARDED = 300  # bytes of a file: makes several of the checkpoints below
WHOLE = "5GB"
UNCHANGED = "what was there before is unchanged"


def checkpoint(value, layers=3):
    """A config and tensors that can be told from those of any other value."""
    config = ViTConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=layers, layer_norm_eps=value / 100)
    arrays = {f"encoder.layer.{layer}.weight": np.full((4, 8), value, "f4") for layer in range(layers)}
    return config, {name: from_numpy(array) for name, array in {**arrays, f"only.{value}": np.ones(3, "f4")}.items()}


def saved(folder, value, max_shard_size=WHOLE, layers=3):
    save_checkpoint(folder, *checkpoint(value, layers), max_shard_size)
    return folder


def content(folder):
    """What whoever opens the folder gets: the config and the bits of every tensor."""
    opened = open_checkpoint(locate(folder))
    return opened.config, {name: tensor.read().tobytes() for name, tensor in opened.tensors.items()}


def files(folder):
    """Every file and folder, hidden ones too, with the files' bytes."""
    return {path.name: path.read_bytes() if path.is_file() else None for path in folder.iterdir()}


def start_process(**request):
    script = Path(__file__).with_name("saving_process.py")
    return subprocess.Popen(
        [sys.executable, script, json.dumps(request, default=str)], stderr=subprocess.PIPE, text=True
    )


def finish_process(process):
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 0, errors


def killed_at_every_step(action, out, starts, **request):
    """{start: folders that a process left when it was killed before its first, second, ... step; the last is done}."""
    finish_process(start_process(action=action, out=out, starts=starts, **request))
    return {start: sorted((out / start.name).iterdir(), key=lambda path: int(path.name)) for start in starts}


@pytest.fixture
def read_only():
    """A context in which nothing can be written to a folder, and such a folder, outside of pytest's private ones."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        @contextlib.contextmanager
        def protected():
            folder.chmod(0o555)
            user = os.geteuid()
            if user == 0:
                os.seteuid(65534)  # nobody: permissions do not bind root
            try:
                yield
            finally:
                os.seteuid(user)
                folder.chmod(0o755)

        yield folder, protected


# A process that dies

CHANGES = [(WHOLE, WHOLE), (WHOLE, SHARDED), (SHARDED, WHOLE), (SHARDED, SHARDED)]


@pytest.mark.parametrize(("old_size", "new_size"), CHANGES, ids=["whole", "to shards", "from shards", "shards"])
def test_save_killed_at_any_step_leaves_the_old_checkpoint_or_the_new_one(tmp_path, old_size, new_size):
    old = saved(tmp_path / "old", 1, old_size)
    (old / "notes.txt").write_text("mine")
    new = saved(tmp_path / "new", 2, new_size, layers=5)
    later = saved(tmp_path / "later", 3)
    contents = {"old": content(old), "new": content(new)}
    starts = killed_at_every_step("save", tmp_path / "killed", [old], new=new, max_shard_size=new_size)

    found = []
    for folder in starts[old]:
        now = content(folder)
        found.append(next((name for name, expected in contents.items() if now == expected), f"mixed at {folder.name}"))
        saved(folder, 3)
        assert files(folder) == {**files(later), "notes.txt": b"mine"}, f"rubbish after step {folder.name}"
    assert [name for name, _ in groupby(found)] == ["old", "new"]
    assert len(found) > 20  # a step for every file that is opened, flushed, renamed and removed


def test_finishing_an_interrupted_save_can_be_interrupted_at_any_step(tmp_path):
    old = saved(tmp_path / "old", 1, SHARDED)
    new = saved(tmp_path / "new", 2, WHOLE)
    expected = content(new)
    first = killed_at_every_step("save", tmp_path / "first", [old], new=new, max_shard_size=WHOLE)[old]
    interrupted = [folder for folder in first if (folder / COMMITTED).exists()]
    assert len(interrupted) > 5
    second = killed_at_every_step("reopen", tmp_path / "second", interrupted)
    for folder in (folder for folders in second.values() for folder in folders):
        assert content(folder) == expected, folder
        assert files(folder) == files(new), folder


def test_first_save_killed_at_any_step_leaves_nothing_or_the_checkpoint(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    new = saved(tmp_path / "new", 2)
    for folder in killed_at_every_step("save", tmp_path / "killed", [empty], new=new, max_shard_size=WHOLE)[empty]:
        with contextlib.suppress(OSError):
            assert content(folder) == content(new)
        saved(folder, 2)
        assert files(folder) == files(new)


def test_single_file_killed_at_any_step_is_the_old_one_or_the_new_one(tmp_path):
    start = tmp_path / "start"
    start.mkdir()
    (start / "config.json").write_text("old" * 5000)
    found = []
    for folder in killed_at_every_step("write", tmp_path / "killed", [start], content="new" * 9000)[start]:
        found.append((folder / "config.json").read_text())
        write_file(folder / "config.json", b"later")
        assert files(folder) == {"config.json": b"later"}
    assert [text for text, _ in groupby(found)] == ["old" * 5000, "new" * 9000]


def test_single_file_written_after_an_interrupted_save_is_not_undone_by_finishing_it(tmp_path):
    committed = tmp_path / COMMITTED
    committed.mkdir()
    (committed / "config.json").write_text("of the save")
    write_file(tmp_path / "config.json", b"later")
    finish_interrupted_save(tmp_path)
    assert files(tmp_path) == {"config.json": b"later"}


def test_staging_of_a_process_that_runs_is_left_alone(tmp_path):
    with replacing_files(tmp_path, ["model.safetensors"]) as staging:
        (staging / "model.safetensors").write_text("slow")
        write_file(tmp_path / "config.json", b"{}")
        assert (staging / "model.safetensors").read_text() == "slow"
    assert files(tmp_path) == {"model.safetensors": b"slow", "config.json": b"{}"}


def test_what_is_saved_is_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    events = []
    rename = os.rename

    def record(descriptor):
        file = os.fstat(descriptor)
        events.append("folder" if stat.S_ISDIR(file.st_mode) else (file.st_ino, file.st_size))

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(os, "rename", lambda *paths: (events.append("commit"), rename(*paths)))
    saved(tmp_path, 1, SHARDED)
    saved_files = {(path.stat().st_ino, path.stat().st_size) for path in tmp_path.iterdir()}
    assert saved_files < set(events[: events.index("folder")])  # each of them whole
    # The files' names in the staging folder, the commit, the files in their places.
    assert events[events.index("folder") :] == ["folder", "commit", "folder", "folder"]


def test_single_file_is_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_size))
    write_file(tmp_path / "config.json", b"{}")
    assert flushed[0] == 2


# A folder that cannot be written


def test_full_disk_leaves_the_old_checkpoint_and_nothing_else(tmp_path):
    saved(tmp_path, 1)
    before = files(tmp_path)
    config = ViTConfig()
    tensors = {f"layer.{index}": from_numpy(np.zeros(100_000, "f4")) for index in range(3)}
    for max_shard_size in (WHOLE, "400KB"):
        with largest_file(300_000), pytest.raises(OSError, match=f"cannot save to .*: File too large; {UNCHANGED}"):
            save_checkpoint(tmp_path, config, tensors, max_shard_size)
        assert files(tmp_path) == before
    assert content(tmp_path)[1]["only.1"] == np.ones(3, "f4").tobytes()


def test_full_disk_leaves_the_old_single_file_and_nothing_else(tmp_path):
    (tmp_path / "config.json").write_text("old")
    with (
        largest_file(10_000),
        pytest.raises(OSError, match=rf"cannot save to .*config\.json: File too large; {UNCHANGED}"),
    ):
        write_file(tmp_path / "config.json", bytes(50_000))
    assert files(tmp_path) == {"config.json": b"old"}


def test_read_only_folder_is_named_and_keeps_its_checkpoint(read_only):
    folder, protected = read_only
    saved(folder, 1)
    before, expected = files(folder), content(folder)
    with protected():
        with pytest.raises(PermissionError, match=f"cannot save to {folder}: Permission denied; {UNCHANGED}"):
            saved(folder, 2)
        with pytest.raises(
            PermissionError, match=f"cannot save to {folder}/config.json: Permission denied; {UNCHANGED}"
        ):
            write_file(folder / "config.json", b"{}")
        with pytest.raises(PermissionError, match=f"cannot save to {folder}/inner: Permission denied; {UNCHANGED}"):
            saved(folder / "inner", 2)
        assert content(folder) == expected
    assert files(folder) == before


def test_read_only_folder_with_an_interrupted_save_is_refused_rather_than_mixed(read_only):
    folder, protected = read_only
    saved(folder, 1)
    saved(folder / "new", 2)
    shutil.move(folder / "new", folder / COMMITTED)
    (folder / COMMITTED / REPLACED).write_text("[]")
    (folder / COMMITTED).chmod(0o555)
    with protected(), pytest.raises(PermissionError, match="is complete but could not put its files in their places"):
        content(folder)
    (folder / COMMITTED).chmod(0o755)
    assert content(folder)[1].keys() >= {"only.2"}


def test_file_where_the_folder_should_be_is_named(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OSError, match=f"cannot save to {tmp_path}/taken: File exists; {UNCHANGED}"):
        saved(tmp_path / "taken", 1)
    assert files(tmp_path) == {"taken": b"mine"}


def test_folder_where_a_file_should_be_is_named_and_nothing_is_saved(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(IsADirectoryError, match=f"cannot save to {tmp_path}: model.safetensors is a folder there"):
        saved(tmp_path, 1)
    assert files(tmp_path) == {"model.safetensors": None}
    with pytest.raises(IsADirectoryError, match="model.safetensors: Is a directory"):
        write_file(tmp_path / "model.safetensors", b"")
    assert files(tmp_path) == {"model.safetensors": None}


def test_folder_named_like_an_old_shard_is_left_alone(tmp_path):
    (tmp_path / "model-00001-of-00002.safetensors").mkdir()
    saved(tmp_path, 1)
    assert content(tmp_path)[1].keys() >= {"only.1"}
    assert (tmp_path / "model-00001-of-00002.safetensors").is_dir()


def test_disk_that_fails_while_a_tensor_is_read_leaves_nothing_behind(tmp_path):
    saved(tmp_path, 1)
    before = files(tmp_path)
    config, tensors = checkpoint(2)

    def fail():
        raise OSError(errno.EIO, "Input/output error")

    tensors["last"] = type(tensors["only.2"])("F32", (2,), fail)
    with pytest.raises(OSError, match=f"cannot save to {tmp_path}: Input/output error; {UNCHANGED}"):
        save_checkpoint(tmp_path, config, tensors, SHARDED)
    assert files(tmp_path) == before


def test_interrupt_from_the_keyboard_leaves_nothing_behind(tmp_path):
    saved(tmp_path, 1)
    before = files(tmp_path)

    def interrupted():
        with replacing_files(tmp_path, ["config.json"]) as staging:
            (staging / "config.json").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert files(tmp_path) == before


# Several processes


def test_two_processes_that_save_at_once_leave_one_checkpoint_and_readers_never_see_a_mixture(tmp_path):
    sources = {WHOLE: saved(tmp_path / "a", 1), SHARDED: saved(tmp_path / "b", 2, SHARDED, layers=6)}
    whole = [content(source) for source in sources.values()]
    folder = tmp_path / "both"
    shutil.copytree(sources[WHOLE], folder)
    processes = [
        start_process(action="save repeatedly", times=40, folder=folder, new=new, max_shard_size=size)
        for size, new in sources.items()
    ]
    seen = []
    while any(process.poll() is None for process in processes):
        seen.append(whole.index(content(folder)))
    for process in processes:
        finish_process(process)
    assert seen
    assert content(folder) in whole
    assert files(folder) in [files(source) for source in sources.values()]


def test_threads_that_write_one_file_leave_one_of_them_whole(tmp_path):
    texts = [str(number).encode() * 20_000 for number in range(8)]
    threads = [threading.Thread(target=write_file, args=(tmp_path / "config.json", text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert files(tmp_path).keys() == {"config.json"}
    assert (tmp_path / "config.json").read_bytes() in texts


# Folders from strangers


def test_link_in_place_of_a_committed_save_moves_no_files_of_others(tmp_path):
    private = tmp_path / "private"
    private.mkdir()
    (private / "diary.txt").write_text("dear diary")
    folder = saved(tmp_path / "stranger", 1)
    before = files(folder)
    (folder / COMMITTED).symlink_to(private)
    assert content(folder)[1].keys() >= {"only.1"}
    assert files(private) == {"diary.txt": b"dear diary"}
    assert files(folder) == {**before, COMMITTED: None}


@pytest.mark.parametrize(
    "names",
    [
        b"5",
        b"null",
        b'"model.safetensors"',
        b"not json",
        b"",
        b"[" * 100_000,
        b'[3, null, ["model.safetensors"]]',
        b'["../model.safetensors", "/model.safetensors", "inner/model.safetensors", "notes.txt", ".", "..", ""]',
        b'["model\\u0000.safetensors", "model\\ud800.safetensors", "model\\\\..\\\\x"]',
        b'["model.safetensors"]' + b" " * 2**21,
    ],
)
def test_list_of_replaced_files_that_makes_no_sense_removes_nothing(tmp_path, names):
    folder = tmp_path / "stranger"
    for path in (tmp_path, folder, folder / "inner"):
        saved(path, 1)
    (folder / "notes.txt").write_text("mine")
    (folder / COMMITTED).mkdir()
    (folder / COMMITTED / REPLACED).write_bytes(names)
    before = files(tmp_path), files(folder / "inner"), files(folder)
    finish_interrupted_save(folder)
    assert before[2].pop(COMMITTED) is None
    assert (files(tmp_path), files(folder / "inner"), files(folder)) == before


@pytest.mark.parametrize("process", ["0", "²", "9" * 30, "-1", "x"])
def test_staging_folder_with_a_strange_name_does_not_stop_a_save(tmp_path, process):
    strange = tmp_path / f"{STAGING}-{os.uname().nodename}-{process}-0123"
    strange.mkdir()
    saved(tmp_path, 1)
    assert content(tmp_path)[1].keys() >= {"only.1"}
    assert strange.is_dir()
