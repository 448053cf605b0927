"""examples/distributed_flax.py in two processes of this machine, as on two hosts, and in this one."""

import os
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vit_core.safetensors_file import map_safetensors
from vit_flax import AutoImageProcessor, ViTConfig, ViTForImageClassification

pytest.importorskip("sklearn.datasets")

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "distributed_flax.py"
STEPS = 2  # whose learning rate is 1e-4


@pytest.fixture
def model(tmp_path):
    """A model of the bundled one's sizes with one layer, and its processor."""
    config = ViTConfig.from_pretrained("bundled/vit-digits")
    config.num_hidden_layers = 1
    ViTForImageClassification(config).save_pretrained(tmp_path / "model")
    AutoImageProcessor.from_pretrained("bundled/vit-digits").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def arguments(model, output):
    return ["--model", str(model), "--output", str(output), "--steps", str(STEPS), "--batch-size", "16"]


def start(*arguments):
    """The script in a process of its own, with four devices."""
    # As here, to compile fast, with other devices; of what is said twice the last counts.
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "PYTEST_"))}
    return subprocess.Popen(
        [sys.executable, "-W", "error", SCRIPT, *arguments],
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


def test_two_processes_train_and_save_what_one_does(model, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    together = (*arguments(model, tmp_path / "together"), "--coordinator", address, "--processes", "2", "--process")
    first, second = finished([start(*together, number) for number in "01"])
    runpy.run_path(str(SCRIPT))["main"](arguments(model, tmp_path / "alone"))
    alone = capsys.readouterr().out
    assert "8 devices, 1 processes" in alone
    assert "8 devices, 2 processes" in first
    assert len(losses(alone)) == STEPS
    assert losses(first) == pytest.approx(losses(alone), abs=1e-5)
    assert not losses(second)

    started = map_safetensors(model / "model.safetensors")
    expected, found = (map_safetensors(tmp_path / name / "model.safetensors") for name in ("alone", "together"))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        # The gradient of a key bias is rounding, of which Adam makes a step of up to the learning rate.
        tolerance = 2 * STEPS * 1e-4 if name.endswith("key.bias") else 1e-5
        np.testing.assert_allclose(found[name].read(), tensor.read(), rtol=0, atol=tolerance, err_msg=name)
    assert any(np.abs(tensor.read() - started[name].read()).max() > 1e-4 for name, tensor in found.items())
