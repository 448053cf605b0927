"""Kills savers at random times, over and over: the old checkpoint or the new one must be there each time, whole.

    python tests/attacks/kills.py --savers core,torch,tf,flax,convert --disks roomy,full --kills 1000

Two savers share a folder. Each lives in a PID namespace of its own, where there are such, and saves without an end, in
one file and in shards by turns, until it is killed and another takes its place. A third process in a third namespace
writes a small file into the folder all the time, and looks for what is abandoned each time. On a full disk, what is
free is sometimes enough for a checkpoint and sometimes not.

A checkpoint has one number in all of its weights and in its config, which tells who saved it and when. After each kill
the folder is opened here: all numbers must be the same, of the save that was completed last or of the one that was
killed, and at the end nothing may be left of all the others.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import mmap
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from namespaces import own_processes, with_small_disk

from vit_core import ViTConfig, parameters
from vit_core.checkpoint import open_checkpoint, save_checkpoint
from vit_core.hub import locate
from vit_core.saving import write_file
from vit_core.stored_tensor import from_numpy

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32}
SHAPES = {row.name: row.shape for row in parameters(ViTConfig(**SIZES), "image-classification")}
WHOLE, SHARDS = "5GB", "40KB"
DISKS = ("roomy", "full")
DISK_SIZE = 2**22  # bytes of a full one
NOTES = "notes.json"  # what the third process writes
LONGEST = 5.0  # seconds that a save may take
PATIENCE = 120  # seconds without a kill after which something hangs

Save = Callable[[Path, int, str], None]  # (folder, number, largest size of a file)


# Whose saves are killed: each makes what is needed, once, and returns what saves in the processes that are forked then


def core() -> Save:
    def save(folder, number, largest):
        tensors = {name: from_numpy(np.full(shape, number, "f4")) for name, shape in SHAPES.items()}
        config = ViTConfig(**SIZES, initializer_range=number, architectures=["ViTForImageClassification"])
        save_checkpoint(folder, config, tensors, largest)

    return save


def torch() -> Save:
    from vit_torch import ViTForImageClassification

    model = ViTForImageClassification(ViTConfig(**SIZES)).requires_grad_(False)

    def save(folder, number, largest):
        for parameter in model.parameters():
            parameter.fill_(number)
        model.config.initializer_range = number
        model.save_pretrained(folder, max_shard_size=largest)

    return save


def tf() -> Save:
    from vit_tf import TFViTForImageClassification

    model = TFViTForImageClassification(ViTConfig(**SIZES))

    def save(folder, number, largest):
        for variable in model.weights:
            variable.assign(np.full(variable.shape, number, "f4"))
        model.config.initializer_range = number
        model.save_pretrained(folder, max_shard_size=largest)

    return save


def flax() -> Save:
    import jax

    from vit_flax import FlaxViTForImageClassification

    model = FlaxViTForImageClassification(ViTConfig(**SIZES))
    ones = jax.tree.map(
        lambda leaf: np.ones(leaf.shape, "f4"), model.params
    )  # JAX computes nothing in a forked process

    def save(folder, number, largest):
        model.config.initializer_range = number
        model.save_pretrained(folder, jax.tree.map(lambda leaf: number * leaf, ones), max_shard_size=largest)

    return save


def convert() -> Save:
    import vit_cli.app
    import vit_cli.convert

    vit_cli.convert._installed_framework = lambda: None  # tensors are compared, answers of models are not
    save_source = core()

    def save(folder, number, largest):
        source = Path(tempfile.gettempdir()) / f"source-of-{folder.name}-{number}"
        save_source(source, number, WHOLE)
        try:
            with contextlib.redirect_stderr(io.StringIO()) as said:
                status = vit_cli.main(["convert", str(source), str(folder), "--overwrite", "--max-shard-size", largest])
            if status:
                raise OSError(said.getvalue())
        finally:
            shutil.rmtree(source)

    return save


SAVERS = {each.__name__: each for each in (core, torch, tf, flax, convert)}


# The processes that save


@dataclass
class Progress:
    """What a saver has done, in memory that it shares with the process that kills it."""

    memory: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 32))

    def set(self, **values: float) -> None:
        self.memory[:] = struct.pack("<4d", *({**self.get(), **values}).values())

    def get(self) -> dict[str, float]:
        """The numbers that were begun and completed last, how many saves were refused, and seconds of the last one."""
        return dict(
            zip(("begun", "completed", "refused", "seconds"), struct.unpack("<4d", self.memory[:]), strict=True)
        )


def run_saver(name: str, folder: Path) -> None:
    """For each line on standard input, a number: have a process save from that number on, kill it, tell what it did."""
    save = SAVERS[name]()
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with tempfile.TemporaryDirectory() as elsewhere:  # what the first save imports, those that are killed have
        save(Path(elsewhere), 0, SHARDS)
    print("ready", file=replies)
    seconds = 0.02
    for line in sys.stdin:
        progress = Progress()
        progress.set(begun=-1, completed=-1, seconds=seconds)
        ready, is_ready = os.pipe()
        with warnings.catch_warnings(action="ignore"):  # of JAX, that it has threads
            process = os.fork()
        if process == 0:
            try:
                save_without_end(save, folder, int(line), progress, is_ready)
            finally:
                traceback.print_exc()
                os._exit(1)
        os.close(is_ready)
        os.read(ready, 1)
        time.sleep(random.uniform(0, 2.5 * seconds))
        os.kill(process, signal.SIGKILL)
        status = os.waitpid(process, 0)[1]
        if not os.WIFSIGNALED(status):
            sys.exit(f"a saver of {name} failed")
        os.close(ready)
        # Times are those of a few saves; who was given too little for one gets more.
        seconds = progress.get()["seconds"] if progress.get()["completed"] >= 0 else min(1.5 * seconds, LONGEST)
        print(*(int(progress.get()[key]) for key in ("begun", "completed", "refused")), file=replies)


def save_without_end(save: Save, folder: Path, number: int, progress: Progress, is_ready: int) -> None:
    """Save, each time with a number that is larger by two; on a full disk some are refused."""
    os.write(is_ready, b".")
    while True:
        start = time.monotonic()
        progress.set(begun=number)
        try:
            save(folder, number, SHARDS if number // 2 % 2 else WHOLE)
            progress.set(completed=number, seconds=time.monotonic() - start)
        except OSError:
            progress.set(refused=progress.get()["refused"] + 1)
        number += 2


def run_bystander(folder: Path) -> None:
    """Write a file into the folder, over and over."""
    while not select.select([sys.stdin], [], [], 0.002)[0]:  # until the other end is closed
        with contextlib.suppress(OSError):
            write_file(folder / NOTES, b"{}")


@contextlib.contextmanager
def own_process(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """This script in a namespace of its own, with other arguments."""
    command = [*own_processes(), sys.executable, __file__, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
            process.communicate(timeout=PATIENCE)  # it ends when its input does, with all that it has started
        finally:
            process.kill()


# Who kills them, and looks


class Lost(Exception):
    """What must not happen."""


def number_in(folder: Path) -> int:
    """The number of the checkpoint in a folder.

    Raises:
        Lost: there is none, or it is not whole.
    """
    try:
        opened = open_checkpoint(locate(folder))
        shapes = {name: tensor.shape for name, tensor in opened.tensors.items()}
        found = {float(value) for tensor in opened.tensors.values() for value in np.unique(tensor.read())}
    except (OSError, ValueError) as error:
        raise Lost(f"no checkpoint: {error}") from error
    found.add(float(opened.config["initializer_range"]))
    if len(found) > 1 or shapes != SHAPES:
        raise Lost(f"a mixture: {sorted(found)}, {len(shapes)} of {len(SHAPES)} tensors")
    return int(found.pop())


@dataclass
class Counts:
    """What was seen so far."""

    kills: int = 0
    new: int = 0  # the save that was killed counts
    saves: int = 0
    refused: int = 0

    def __str__(self) -> str:
        refused = f", {self.refused} refused" if self.refused else ""
        return f"{self.kills} kills, {self.saves} saves{refused}; {self.new} times the killed save counted"


def attack(name: str, folder: Path, kills: int, disk: str) -> Counts:
    """Kill savers.

    Raises:
        Lost: a checkpoint was lost.
    """
    counts, started = Counts(), time.monotonic()
    core()(folder, 0, WHOLE)
    size = sum(-(-path.stat().st_size // mmap.PAGESIZE) * mmap.PAGESIZE for path in folder.iterdir())
    with contextlib.ExitStack() as stack:
        stack.enter_context(own_process("--bystander", folder))
        savers = [stack.enter_context(own_process("--saver", name, folder)) for _ in range(2)]
        for process in savers:
            reply(process)
        completed, following = [0, 0], [2, 3]
        for process, number in zip(savers, following, strict=True):
            go_on(process, number)
        while counts.kills < kills:
            told, _, _ = select.select([process.stdout for process in savers], [], [], PATIENCE)
            if not told:
                raise Lost(f"nobody got anywhere for {PATIENCE} seconds")
            for which in [index for index, process in enumerate(savers) if process.stdout in told]:
                begun, done, refused = map(int, reply(savers[which]).split())
                counts.kills += 1
                counts.refused += refused
                counts.saves += (done - following[which]) // 2 + 1 - refused if done >= 0 else 0
                if refused and disk == "roomy":
                    raise Lost(f"{refused} saves were refused, though the disk is roomy")
                completed[which] = max(completed[which], done)
                number = number_in(folder)
                if number < completed[number % 2]:
                    raise Lost(f"{number} is there, though {completed[number % 2]} was completed")
                counts.new += number == begun != done
                following[which] = max(following[which], begun) + 2
                if disk == "full":
                    leave_free(folder, int(size * random.uniform(0.3, 3.5)))
                go_on(savers[which], following[which])
                if counts.kills % 100 == 0:
                    print(f"{name}, {disk} disk: {counts}, {time.monotonic() - started:.0f} s", flush=True)
    (folder / NOTES).unlink(missing_ok=True)
    ballast(folder).unlink(missing_ok=True)
    core()(folder, max(following), WHOLE)
    if number_in(folder) != max(following):
        raise Lost("the last save")
    if left := {path.name for path in folder.iterdir()} - {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }:
        raise Lost(f"room: {', '.join(sorted(left))} is left behind")
    return counts


def reply(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a saver has failed")
    return line


def go_on(process: subprocess.Popen[str], number: int) -> None:
    print(number, file=process.stdin, flush=True)


def ballast(folder: Path) -> Path:
    return folder / "ballast"


def leave_free(folder: Path, free: int) -> None:
    """Fill the disk up to so many bytes."""
    now = shutil.disk_usage(folder).free
    path = ballast(folder)
    before = path.stat().st_size if path.exists() else 0
    with contextlib.suppress(OSError), open(path, "ab", buffering=0) as file:
        size = max(0, before + now - free)
        file.truncate(min(size, before))
        while (missing := size - file.seek(0, os.SEEK_END)) > 0:
            file.write(bytes(min(missing, 2**16)))


def main() -> None:
    """Kill what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="of each saver on each disk (default 1000)")
    parser.add_argument("--savers", default=",".join(SAVERS), help=f"some of {', '.join(SAVERS)} (default: all)")
    parser.add_argument("--disks", default=",".join(DISKS), help=f"some of {', '.join(DISKS)} (default: both)")
    parser.add_argument("--seed", type=int, help="of the random times")
    parser.add_argument("--in", dest="place", help="a folder for the checkpoints; the system's for temporary files")
    for role, values in (
        ("--saver", ("NAME", "FOLDER")),
        ("--bystander", ("FOLDER",)),
        ("--attack", ("NAME", "FOLDER", "DISK")),
    ):
        parser.add_argument(role, nargs=len(values), metavar=values, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and whoever was started with it
    if arguments.saver:
        return run_saver(arguments.saver[0], Path(arguments.saver[1]))
    if arguments.bystander:
        return run_bystander(Path(arguments.bystander[0]))
    if arguments.attack:
        name, folder, disk = arguments.attack
        try:
            print(f"{name}, {disk} disk: {attack(name, Path(folder), arguments.kills, disk)}; nothing lost", flush=True)
        except Lost as error:
            sys.exit(f"{name}, {disk} disk: LOST {error}; see {folder}")
        return None
    if not own_processes():
        print("this system gives no PID namespaces: all processes share one", flush=True)
    failed = []
    for name in arguments.savers.split(","):
        for disk in arguments.disks.split(","):
            folder = Path(tempfile.mkdtemp(prefix=f"kills-{name}-{disk}-", dir=arguments.place))
            command = [sys.executable, __file__, "--kills", str(arguments.kills), "--attack", name, str(folder), disk]
            if disk == "full" and (command := with_small_disk(command, str(folder), DISK_SIZE)) is None:
                print(f"{name}, full disk: left out, since no disk can be mounted here", flush=True)
                continue
            if subprocess.run(command, check=False).returncode:
                failed.append(f"{name} on a {disk} disk")
            else:
                shutil.rmtree(folder)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    return None


if __name__ == "__main__":
    main()
