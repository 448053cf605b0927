"""Somebody who may read a folder locks it, and whoever opens or saves a checkpoint there waits."""

import fcntl
import os
import re
import threading
import warnings
from contextlib import contextmanager

import pytest

from vit_core import ViTConfig, locks
from vit_core.checkpoint import open_checkpoint, save_checkpoint
from vit_core.hub import locate
from vit_core.saving import undisturbed

CONFIG = ViTConfig(hidden_size=8, num_attention_heads=2)


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path, CONFIG, {})
    return tmp_path


@contextmanager
def held(folder, operation=fcntl.LOCK_EX, seconds=None):
    """A lock on a folder, as any process that may read it can take it; given back after some seconds, if given."""
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, operation)
    timer = threading.Timer(seconds or 0, fcntl.flock, (descriptor, fcntl.LOCK_UN))
    if seconds:
        timer.start()
    yield
    timer.cancel()
    os.close(descriptor)


def test_long_wait_is_said_in_one_sentence(folder, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.05)
    waiting = f"^waiting for {re.escape(str(folder))}, which another process has locked: .* or set TRIVIT_LOCKS=off"
    for action in (lambda: open_checkpoint(locate(folder)), lambda: save_checkpoint(folder, CONFIG, {})):
        with held(folder, seconds=0.2), pytest.warns(UserWarning, match=waiting) as said:
            action()
        assert len(said) == 1


def test_short_wait_is_not_said(folder):
    with held(folder, seconds=0.05):
        open_checkpoint(locate(folder))


def test_readers_share_a_folder_and_a_save_waits_for_them(folder, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.05)
    with held(folder, fcntl.LOCK_SH), undisturbed(folder):
        open_checkpoint(locate(folder))
    with held(folder, fcntl.LOCK_SH, 0.2), pytest.warns(UserWarning, match="^waiting for"):
        save_checkpoint(folder, CONFIG, {})


@pytest.mark.parametrize("action", ["open", "save"])
def test_lock_that_nobody_gives_back_can_be_passed_by(folder, monkeypatch, action):
    monkeypatch.setenv("TRIVIT_LOCKS", "off")
    with held(folder), warnings.catch_warnings(action="error"):
        open_checkpoint(locate(folder)) if action == "open" else save_checkpoint(folder, CONFIG, {})
