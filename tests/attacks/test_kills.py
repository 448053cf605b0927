"""A few of the kills of `nox -s kills`, of savers that need no framework."""

import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 6


@pytest.mark.parametrize(("saver", "disk"), [("core", "full"), ("convert", "roomy")])
def test_kills_at_random_times_lose_nothing(tmp_path, saver, disk):
    script = Path(__file__).with_name("kills.py")
    options = ["--savers", saver, "--disks", disk, "--kills", str(KILLS), "--in", str(tmp_path)]
    found = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, check=False, timeout=300)
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"{saver}, {disk} disk: {KILLS} kills" in found.stdout or "no disk can be mounted here" in found.stdout
    assert not list(tmp_path.glob("*/*"))
