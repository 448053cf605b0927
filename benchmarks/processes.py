"""The other end of a worker: starts the process in its environment and asks it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
#: Nobody looks for a card, or for models on the Hub; frameworks say less.
QUIET = {
    **{"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"},
    **{"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "TOKENIZERS_PARALLELISM": "false"},
}
#: Not `-m benchmarks.worker`, whose classes would be other than those that sides import.
SERVE = "from benchmarks.worker import serve; serve()"
LAST_WORDS = 300  # characters of what a process wrote before it ended


class SideError(RuntimeError):
    """A side cannot do its work; the text says why."""


class Process:
    """A worker in another process.

    Args:
        python: the interpreter.
        variables: what is in its environment, besides this process's.

    Raises:
        SideError: the interpreter cannot be started.
    """

    def __init__(self, python: str, variables: Mapping[str, str]) -> None:
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # as long as the process
        try:
            self.process = subprocess.Popen(
                [python, "-c", SERVE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
            )
        except OSError as error:
            self.log.close()
            raise SideError(f"{python} does not start: {error.strerror}") from error

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self.process.poll() is None

    def ask(self, method: str, **arguments: Any) -> Any:
        """Have it do something, and wait for what it answers.

        Raises:
            SideError: it failed, or the process ended.
        """
        self.send(method, **arguments)
        return self.receive()

    def send(self, method: str, **arguments: Any) -> None:
        """Have it do something; `receive` gives what it answers."""
        with contextlib.suppress(BrokenPipeError):  # receive says what happened
            print(json.dumps([method, arguments]), file=self.process.stdin, flush=True)

    def receive(self) -> Any:
        """Wait for the answer to what was sent first of what is unanswered.

        Raises:
            SideError: it failed, or the process ended.
        """
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.log.seek(0)
            raise SideError(f"its process ended with status {status}: {self.log.read()[-LAST_WORDS:].strip()}")
        answer = json.loads(line)
        if "error" in answer:
            raise SideError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """Let it end."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()
