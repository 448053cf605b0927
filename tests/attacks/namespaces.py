"""Python in namespaces of its own, as in another container: process numbers mean something else, or a disk is small."""

import functools
import shutil
import subprocess
import sys

#: As root, and as anybody where the system lets users have namespaces.
WAYS = [[], ["--user", "--map-root-user"]]
#: Where there are no namespaces: nobody outside of this process seems to live.
SIMULATED = """
import os
def kill(process, signal):
    if process != os.getpid():
        raise ProcessLookupError
os.kill = kill
"""


def command(script, *arguments):
    """What runs a script in another namespace of process numbers."""
    prefix = own_processes()
    return [*prefix, sys.executable, "-c", script if prefix else SIMULATED + script, *map(str, arguments)]


@functools.cache
def own_processes():
    """What a command needs in front to run in another namespace of process numbers; nothing where there are none."""
    return _unshare("--pid", "--fork", "--kill-child")


def with_small_disk(command, folder, size):
    """A command that finds a disk of a size in bytes at a folder, which nobody else sees; None where it cannot be."""
    mount = f'mount -t tmpfs -o size={size} none "$0" && exec "$@"'
    prefix = _unshare("--mount")
    return [*prefix, "sh", "-c", mount, folder, *command] if prefix else None


def _unshare(*options):
    for way in WAYS if shutil.which("unshare") else ():
        prefix = ["unshare", *way, *options]
        if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
            return prefix
    return []
