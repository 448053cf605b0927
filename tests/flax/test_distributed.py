"""examples/distributed_flax.py in two processes of this machine, as on two hosts."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vit_core.safetensors_file import map_safetensors

pytest.importorskip("sklearn.datasets")

ROOT = Path(__file__).parents[2]
STEPS = 2  # whose learning rate is 1e-4


def start(output, devices, *arguments):
    """The script in a process of its own, with that many devices."""
    # As here, to compile fast, with other devices; of what is said twice the last counts.
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "PYTEST_"))}
    script = ROOT / "examples" / "distributed_flax.py"
    return subprocess.Popen(
        [sys.executable, "-W", "error", script, *arguments, "--output", output, "--steps", str(STEPS)],
        env={**clean, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(processes):
    """What processes print; none is left behind."""
    try:
        printed = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, printed, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in printed]


def losses(printed):
    return [float(loss) for loss in re.findall(r"^step +\d+ +loss (\S+)$", printed, re.MULTILINE)]


def test_two_processes_train_and_save_what_one_does(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = ("--coordinator", address, "--processes", "2", "--process")
    alone, first, second = finished(
        [
            start(tmp_path / "alone", 4),
            start(tmp_path / "together", 2, *together, "0"),
            start(tmp_path / "together", 2, *together, "1"),
        ]
    )
    assert "4 devices, 1 processes" in alone
    assert "4 devices, 2 processes" in first
    assert len(losses(alone)) == STEPS
    assert losses(first) == pytest.approx(losses(alone), abs=1e-5)
    assert not losses(second)

    started = map_safetensors(ROOT / "vit_core" / "bundled" / "vit-digits" / "model.safetensors")
    expected, found = (map_safetensors(tmp_path / name / "model.safetensors") for name in ("alone", "together"))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        # The gradient of a key bias is rounding, of which Adam makes a step of up to the learning rate.
        tolerance = 2 * STEPS * 1e-4 if name.endswith("key.bias") else 1e-5
        np.testing.assert_allclose(found[name].read(), tensor.read(), rtol=0, atol=tolerance, err_msg=name)
    assert any(np.abs(tensor.read() - started[name].read()).max() > 1e-4 for name, tensor in found.items())
