"""Fuzzing: files that were changed at random, some thousand a minute, are opened by each reader of a stranger's bytes.

    python tests/fuzz/fuzz.py --minutes 10 --targets hdf5 npz     changes files and opens them
    python tests/fuzz/fuzz.py hdf5 FILE                           opens one file, such as a finding

A finding is a file that raises anything but `ValueError`, `TypeError` or `OSError`, or one of these with a message that
is no plain sentence; that takes more than two seconds of a processor, or 300 MiB beside what its tensors or pixels
need; or that ends the process or never comes to an end. Each is opened again in a process of its own before it
counts, and written to a folder with what is wrong and how to see it.

Which files are changed further is learnt as they are opened: one that fails at a place where none has failed before, or
that is read as none was, is new, and joins those that there are.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import hashlib
import json
import mmap
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import corpus
import targets
from mutations import LARGEST, Draw
from targets import MEBIBYTE, TARGETS, Outcome, Target

from conversion.containers import hdf5_library

MOST_SECONDS = 2.0  # of a processor
LAST_SECONDS = 20  # of a processor, after which a file is taken to go on for ever
PATIENCE = 120  # seconds after which it waits for something
ADDRESSES = 3 * 2**30  # bytes of address space that a worker may take beside what it starts with
RENEWED = 3000  # inputs after which a worker is replaced, so that what it keeps does not add up
MOST_KEPT = 3000  # files in the corpus of a target
BROKEN = 86  # the status of a process in which fuzzing itself has failed
MOST_ALIKE = 3  # findings that are kept of those that look the same


@dataclass
class Finding:
    """What is wrong with how a file is opened."""

    sign: str  # the same for findings that look the same
    text: str


@dataclass
class Counts:
    """What was seen of a target."""

    inputs: int = 0
    kept: int = 0  # in the corpus
    findings: list[Path] = field(default_factory=list)
    slowest: float = 0.0
    most_memory: int = 0

    def __str__(self) -> str:
        return (
            f"{self.inputs:>9,} inputs, {self.kept:>5} kept, {len(self.findings):>3} findings, slowest "
            f"{self.slowest:5.2f} s, most memory {self.most_memory / MEBIBYTE:4.0f} MiB"
        )


class Progress:
    """Numbers that a worker shares with the process that watches it: inputs, when the last began, the extremes."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 32)

    def set(self, inputs: float, began: float, slowest: float, most: float) -> None:
        self._memory[:] = struct.pack("<4d", inputs, began, slowest, most)

    def get(self) -> tuple[float, float, float, float]:
        return struct.unpack("<4d", self._memory[:])


class Attempts:
    """Opens files, one after the other, in this process, and measures."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target = target
        self.path = folder / target.name
        corpus.put(folder, target.beside())
        if not target.with_library:
            hdf5_library.is_there = lambda: False  # in this process, which is forked for nothing else

    def open(self, content: bytes) -> tuple[Outcome, float, int, Finding | None]:
        """What opening a file came to, its seconds of a processor, the memory that it took, and what is wrong."""
        self.path.unlink(missing_ok=True)
        self.path.write_bytes(content)
        signal.setitimer(signal.ITIMER_PROF, LAST_SECONDS)
        before = _memory(reset=True)
        targets.seconds.clear()
        finding, outcome = None, None
        try:
            outcome = self.target.open(self.path)
        except BaseException as error:  # a call of sys.exit() would be one, too
            raised = traceback.extract_tb(error.__traceback__)[-1]
            sign = f"{type(error).__name__} at {Path(raised.filename).name}:{raised.name}"
            finding = Finding(sign, "".join(traceback.format_exception(error))[-20_000:])
        seconds, memory = max(targets.seconds, default=0.0), _memory() - before
        signal.setitimer(signal.ITIMER_PROF, 0)
        if finding is None and seconds > MOST_SECONDS:
            finding = Finding(f"slow {hash(outcome) % 10**6}", f"It takes {seconds:.1f} s of a processor.")
        if finding is None and memory > self.target.most_memory:
            finding = Finding(f"memory {hash(outcome) % 10**6}", f"It takes {memory / MEBIBYTE:.0f} MiB.")
        return outcome, seconds, memory, finding

    def warm_up(self) -> None:
        """Have everything imported that is imported when it is needed first."""
        for content in list(self.target.seeds())[:4]:
            self.open(content)


def _memory(reset: bool = False) -> int:
    """The most memory that this process has taken, since it was asked with `reset`, where the system tells that."""
    if reset:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # what was freed before would be taken from again, unseen
            Path("/proc/self/clear_refs").write_text("5")
    try:
        with open("/proc/self/status", "rb") as file:
            return 1024 * int(file.read().partition(b"VmHWM:")[2].split(maxsplit=1)[0])
    except (OSError, IndexError, ValueError):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def ended(action: Callable[[], object], is_stuck: Callable[[], bool], messages: Path | None = None) -> str:
    """Run a function in a process of its own, with limits, and tell what ended it early, if anything did.

    Args:
        action: the function.
        is_stuck: asked while it runs; then it is killed.
        messages: a file for what it writes to standard error.
    """
    process = _forked(action, messages)
    pause = 0.001
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            break
        if is_stuck():
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return f"waits for more than {PATIENCE} seconds"
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "never ends" if number == signal.SIGPROF else f"ends the process ({signal.Signals(number).name})"
    if os.WEXITSTATUS(status) == BROKEN:
        raise SystemExit(f"fuzzing itself has failed\n{messages.read_text(errors='replace') if messages else ''}")
    return "ends the process" if os.WEXITSTATUS(status) else ""


def _forked(action: Callable[[], object], messages: Path | None) -> int:
    with warnings.catch_warnings(action="ignore"):  # of threads that others have started
        process = os.fork()
    if process:
        return process
    status = BROKEN
    try:
        warnings.simplefilter("ignore")
        if messages:  # libraries in C speak of what they cannot read
            os.dup2(os.open(messages, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 2**19
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ADDRESSES, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        faulthandler.disable()
        action()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def examine(target: Target, contents: Iterable[bytes]) -> list[Finding]:
    """Open files in a process of their own, and tell what is wrong with any of them."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found"

        def open_them() -> None:
            (Path(folder) / "in").mkdir()
            attempts = Attempts(target, Path(folder) / "in")
            attempts.warm_up()
            for content in contents:
                *_, finding = attempts.open(content)
                if finding:
                    with open(found, "a") as file:
                        file.write(json.dumps([finding.sign, finding.text]) + "\n")

        began = time.monotonic()
        early = ended(open_them, lambda: time.monotonic() - began > PATIENCE, Path(folder) / "messages")
        lines = found.read_text().splitlines() if found.exists() else []
        return [Finding(*json.loads(line)) for line in lines] + ([Finding(early, f"It {early}.")] if early else [])


class Fuzzing:
    """Changes files for a target and opens them, in one worker after another.

    Args:
        name: the target's.
        findings: a folder for what is found.
        seed: of the random choices.
        seconds: how long, unless `inputs` says how often.
        inputs: how many files are opened.
    """

    def __init__(self, name: str, findings: Path, seed: int, seconds: float = 0, inputs: int = 0) -> None:
        self.name, self.target, self.findings, self.seed = name, TARGETS[name], findings, seed
        self.until, self.most = time.monotonic() + seconds if seconds else None, inputs
        self.counts = Counts()
        self.alike: dict[str, int] = {}
        self.progress = Progress()

    def run(self) -> Counts:
        """Fuzz, and say what was seen."""
        with tempfile.TemporaryDirectory(prefix=f"fuzz-{self.name}-") as folder:
            self.folder = Path(folder)
            for part in ("in", "corpus", "suspects"):
                (self.folder / part).mkdir()
            for content in {*self.target.seeds(), *corpus.kept(self.name).values()}:
                if len(content) <= LARGEST:
                    self._keep(content)
            while not self._is_over():
                self.seed += 1
                self.progress.set(0, time.monotonic(), self.counts.slowest, self.counts.most_memory)
                early = ended(
                    self._work, lambda: time.monotonic() - self.progress.get()[1] > PATIENCE, self.folder / "messages"
                )
                done, _, self.counts.slowest, most = self.progress.get()
                self.counts.inputs += int(done)
                self.counts.most_memory = int(most)
                if early:
                    self._suspect(Finding(early, ""), (self.folder / "in" / self.target.name).read_bytes())
                self._judge()
            self.counts.kept = len(os.listdir(self.folder / "corpus"))
        return self.counts

    def _is_over(self) -> bool:
        return self.counts.inputs >= self.most if self.until is None else time.monotonic() >= self.until

    def _keep(self, content: bytes) -> None:
        (self.folder / "corpus" / hashlib.sha256(content).hexdigest()[:20]).write_bytes(content)

    def _suspect(self, finding: Finding, content: bytes) -> None:
        name = hashlib.sha256(finding.sign.encode() + content).hexdigest()[:12]
        (self.folder / "suspects" / name).write_bytes(content)
        (self.folder / "suspects" / f"{name}.sign").write_text(finding.sign)

    def _work(self) -> None:
        """What a worker does."""
        draw = Draw(self.seed)
        draw.words = [*self.target.words]
        draw.others = [path.read_bytes() for path in sorted((self.folder / "corpus").iterdir())]
        attempts = Attempts(self.target, self.folder / "in")
        attempts.warm_up()
        seen: set[Outcome] = set()
        inputs = min(RENEWED, self.most - self.counts.inputs if self.most else RENEWED)
        for content in draw.others[: inputs // 10]:
            seen.add(attempts.open(content)[0])
        _, _, slowest, most = self.progress.get()
        for count in range(1, inputs + 1):
            began = time.monotonic()
            if self.until is not None and began >= self.until:
                break
            self.progress.set(count, began, slowest, most)
            content = self.target.mutate(draw.choice(draw.others), draw)[:LARGEST]
            outcome, seconds, memory, finding = attempts.open(content)
            slowest, most = max(slowest, seconds), max(most, memory)
            if finding:
                self._suspect(finding, content)
            elif outcome not in seen and len(draw.others) < MOST_KEPT and len(content) < LARGEST // 10:
                seen.add(outcome)
                draw.others.append(content)
                self._keep(content)
            self.progress.set(count, time.monotonic(), slowest, most)

    def _judge(self) -> None:
        """Open what is suspected again, and write what is wrong then to the folder of findings."""
        for sign_file in sorted((self.folder / "suspects").glob("*.sign")):
            file = sign_file.with_suffix("")
            sign, content = sign_file.read_text(), file.read_bytes()
            sign_file.unlink()
            file.unlink()
            if self.alike.get(sign, 0) >= MOST_ALIKE:
                continue
            for finding in examine(self.target, [content])[:1]:
                self.alike[sign] = self.alike.get(sign, 0) + 1
                path = self.findings / self.name / file.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                path.with_suffix(".txt").write_text(
                    f"{finding.sign}\n{finding.text}\n\npython tests/fuzz/fuzz.py {self.name} {path}\n"
                )
                self.counts.findings.append(path)


def main() -> None:
    """Fuzz what the arguments name, or open one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("replayed", nargs="*", metavar="TARGET FILE", help="open this file and say what is wrong")
    parser.add_argument("--minutes", type=float, default=10, help="for each target (default 10)")
    parser.add_argument(
        "--targets", nargs="+", choices=TARGETS, default=[*TARGETS], metavar="TARGET", help=", ".join(TARGETS)
    )
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="a folder (default fuzz-findings)")
    parser.add_argument("--seed", type=int, default=None, help="of the random choices")
    arguments = parser.parse_args()
    if arguments.replayed:
        if len(arguments.replayed) != 2 or arguments.replayed[0] not in TARGETS:
            parser.error(f"give one of {', '.join(TARGETS)}, and a file")
        name, file = arguments.replayed
        found = examine(TARGETS[name], [Path(file).read_bytes()])
        sys.exit("\n".join(f"{finding.sign}\n{finding.text}" for finding in found) or None)
    seed = arguments.seed if arguments.seed is not None else int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}", flush=True)
    seen = {}
    for name in arguments.targets:
        seen[name] = Fuzzing(name, arguments.findings, seed, seconds=60 * arguments.minutes).run()
        print(f"{name:<14} {seen[name]}", flush=True)
    print("\n" + "\n".join(f"{name:<14} {counts}" for name, counts in seen.items()))
    if found := [path for counts in seen.values() for path in counts.findings]:
        sys.exit("\n".join(["", "see", *map(str, found)]))


if __name__ == "__main__":
    main()
