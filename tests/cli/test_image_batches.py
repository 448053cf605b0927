"""Batches of image files, each read while the caller works with the one before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vit_cli import image_batches
from vit_cli.image_batches import read_ahead

BATCHES = [[Path(f"{batch}.png")] for batch in range(5)]


def test_the_next_batch_is_read_meanwhile_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = {str(batch[0]): threading.Event() for batch in BATCHES}

    def read_batch(_: Any, files: list[Path]) -> Iterator[Any]:
        begun[str(files[0])].set()
        yield files

    monkeypatch.setattr(image_batches, "read_batch", read_batch)
    for number, read in enumerate(read_ahead(None, BATCHES)):
        assert read == [BATCHES[number]]
        assert number == 4 or begun[f"{number + 1}.png"].wait(30)
        assert sum(event.is_set() for event in begun.values()) == min(number + 2, 5)


def test_an_error_that_is_no_images_is_raised_where_its_batch_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_batch(_: Any, files: list[Path]) -> Iterator[Any]:
        if files == BATCHES[1]:
            raise RuntimeError("a mistake")
        yield files

    monkeypatch.setattr(image_batches, "read_batch", read_batch)
    reading = read_ahead(None, BATCHES)
    assert next(reading) == [BATCHES[0]]
    with pytest.raises(RuntimeError, match="a mistake"):
        next(reading)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_ctrl_c_waits_for_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "photo.png")  # into which nobody writes, so that opening it takes for ever
    script = "import sys; from vit_cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "classify", tmp_path / "photo.png"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        writer = None
        while writer is None:  # until it is being opened
            try:
                writer = os.open(tmp_path / "photo.png", os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                assert process.poll() is None
                time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        try:
            assert process.communicate(timeout=30) == (b"", b"")
        finally:
            process.kill()
            os.close(writer)
    assert process.returncode == 130
