"""Saves checkpoints in processes of its own, for test_saving.py: python saving_process.py '{"action": ..., ...}'."""

import itertools
import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

from vit_core import ViTConfig
from vit_core.checkpoint import open_checkpoint, save_checkpoint
from vit_core.hub import locate
from vit_core.saving import write_file

FILE_SYSTEM_EVENTS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}  # Python's names, of its audit events


class KilledAt:
    """Counts this process's steps in the file system and kills it just before the given one."""

    def __init__(self, step):
        self.left = step
        flush = os.fsync
        os.fsync = lambda descriptor: (self.count(), flush(descriptor))
        sys.addaudithook(lambda event, _: self.count() if event in FILE_SYSTEM_EVENTS else None)

    def count(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(self, tensor):
        """The tensor, reading which is a step too: what was written before it may lie in the file or in memory."""
        return replace(tensor, read=lambda: (self.count(), tensor.read())[1])


def save(folder, request, killed=None):
    new = open_checkpoint(locate(request["new"]))
    tensors = {name: killed.counted(tensor) if killed else tensor for name, tensor in new.tensors.items()}
    save_checkpoint(folder, ViTConfig.from_dict(new.config), tensors, request["max_shard_size"])


def reopen(folder, request, killed):
    open_checkpoint(locate(folder))


def write(folder, request, killed):
    write_file(folder / "config.json", request["content"].encode())


def at_every_step(action, request):
    """Repeat an action on copies of each start folder, killed one step later each time, until it gets to its end."""
    for start in map(Path, request["starts"]):
        for step in itertools.count(1):
            folder = Path(request["out"]) / start.name / str(step)
            shutil.copytree(start, folder)
            process = os.fork()
            if process == 0:
                try:
                    action(folder, request, KilledAt(step))
                except BaseException as error:
                    print(repr(error), file=sys.stderr, flush=True)
                    os._exit(1)
                os._exit(0)
            status = os.waitpid(process, 0)[1]
            if status == 0:
                break
            if not os.WIFSIGNALED(status):
                sys.exit(f"step {step} of {start} failed")


def main(request):
    if request["action"] == "save repeatedly":
        for _ in range(request["times"]):
            save(Path(request["folder"]), request)
    else:
        at_every_step({"save": save, "reopen": reopen, "write": write}[request["action"]], request)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
