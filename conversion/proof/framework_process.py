"""Both ends of a process in which one framework runs one checkpoint, and no other framework is loaded.

Time and memory are the framework's own there, what it writes to the terminal is not seen, and when it crashes the
caller gets one sentence. Requests and what is found travel as JSON, arrays as `.npz`, all in a temporary folder.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from conversion.proof.frameworks import FRAMEWORKS, Framework, installed_frameworks
from conversion.proof.inputs import OF_NOISE, loss_weights, make_inputs, read_picture
from conversion.proof.model_choice import models_to_try
from vit_core import PretrainedConfig
from vit_core.families import FAMILIES
from vit_core.loading_options import place_and_rest

REQUEST, FINDINGS, RESULTS, MESSAGES = "request.json", "findings.json", "results.npz", "messages.txt"
#: What the new process does. The package's folder comes last among those that are searched, and the current folder,
#: which may hold anybody's files, is not among them at all (-P).
START = (
    "import sys; sys.path.append(sys.argv[1]); from conversion.proof.framework_process import main; main(sys.argv[2])"
)
PACKAGES = Path(__file__).parents[2]

LONGEST_MEASURING = 10.0  # seconds; what is slow is run once more only
NAMES_SHOWN = 3

#: Errors that a caller can cause: they come out of `run_in_process` as they went in.
CALLERS_ERRORS: dict[str, type[Exception]] = {
    error.__name__: error for error in (OSError, ValueError, TypeError, ImportError)
}


@dataclass(frozen=True)
class Request:
    """What is to be run.

    Attributes:
        framework: which framework.
        source: the checkpoint.
        overrides: further options of from_pretrained.
        image: an image file for the inputs, if they are to be made.
        seed: of what is random in them.
        layers: whether hidden states and attention maps are wanted.
        gradients: whether the gradients of the loss are wanted.
        repeats: how often the forward pass is measured after the first time.
    """

    framework: str
    source: str
    overrides: Mapping[str, Any]
    image: str | None = None
    seed: int = 0
    layers: bool = False
    gradients: bool = False
    repeats: int = 0


@dataclass(frozen=True)
class Run:
    """What was found.

    Attributes:
        results: a file of arrays: what the model returns, "hidden_states.0", "attentions.0", ... and "grad/NAME".
        task: which model it is, see `vit_core.parameters.Task`.
        config: its config.
        first_seconds: the first forward pass, in which the framework may compile.
        seconds: the median of the later ones; None if there were none.
        peak_bytes: the largest memory of the process until then; None where the system does not say.
        notes: what is worth knowing about how the checkpoint was loaded.
    """

    results: Path
    task: str
    config: PretrainedConfig
    first_seconds: float
    seconds: float | None
    peak_bytes: int | None
    notes: tuple[str, ...] = ()


def forward_in_process(
    framework: str,
    source: str | os.PathLike[str],
    pixel_values: np.ndarray,
    overrides: Mapping[str, Any],
    more: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """See `conversion.proof.frameworks.run_forward`."""
    installed_frameworks([framework])
    request = Request(framework, os.fspath(source), overrides)
    with tempfile.TemporaryDirectory(prefix="trivit-") as folder:
        inputs = Path(folder, "inputs.npz")
        given: dict[str, Any] = {"pixel_values": np.asarray(pixel_values, np.float32), **(more or {})}
        np.savez(inputs, **given)
        with np.load(run_in_process(request, Path(folder), inputs).results) as results:
            return dict(results)


def run_in_process(request: Request, folder: Path, inputs: Path) -> Run:
    """Run a checkpoint in a process of its own, on the CPU.

    Args:
        request: what to run.
        folder: a folder for what comes and goes, the caller's to remove.
        inputs: a file with the model's inputs; made if there is none.

    Raises:
        ImportError: something the framework needs is not installed.
        OSError: there is no such checkpoint, or the process was ended.
        TypeError: an override is no option, or has no JSON form.
        ValueError: the checkpoint is corrupt or lacks weights, or the inputs do not fit.
    """
    try:
        asked = json.dumps({**dataclasses.asdict(request), "inputs": str(inputs)})
    except TypeError:
        raise TypeError(
            f"the options {', '.join(request.overrides)} go to another process; give numbers, texts, lists and dicts."
        ) from None
    (folder / REQUEST).write_text(asked)
    status = _run_to_its_end(folder, FRAMEWORKS[request.framework])
    try:
        findings = json.loads((folder / FINDINGS).read_text())
    except (OSError, ValueError):
        raise ChildProcessError(_obituary(request, status, folder / MESSAGES)) from None
    if "error" in findings:
        raise CALLERS_ERRORS.get(findings["error"], ChildProcessError)(findings["message"])
    described = findings.pop("config")
    config = FAMILIES[described["model_type"]].config_class.from_dict(described)
    return Run(folder / RESULTS, config=config, notes=tuple(findings.pop("notes")), **findings)


def _run_to_its_end(folder: Path, framework: Framework) -> int:
    command = [sys.executable, "-P", "-c", START, str(PACKAGES), str(folder)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", **framework.environment}
    with open(folder / MESSAGES, "wb") as messages:
        errors = None if os.environ.get("TRIVIT_TRACEBACK") else messages
        run = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=messages, stderr=errors, check=False
        )
    return run.returncode


def _obituary(request: Request, status: int, messages: Path) -> str:
    """Why a process that left nothing was ended, as far as can be known."""
    where = f"{request.framework} ran {request.source}"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"the process in which {where} was ended by {name}; perhaps the machine lacks the memory."
    lines = [line.strip() for line in messages.read_text(errors="replace").splitlines() if line.strip()]
    return f"the process in which {where} ended with status {status}: {lines[-1][:200] if lines else 'it said nothing'}"


def main(folder: str) -> None:
    """Be the process: run what the folder asks for, and leave there what was found, or why not."""
    request = json.loads(Path(folder, REQUEST).read_text())
    inputs = Path(request.pop("inputs"))
    try:
        findings = _run(Request(**request), inputs, Path(folder, RESULTS))
    except Exception as error:
        traceback.print_exc()
        findings = _described(error, request["framework"], request["source"])
    partial = Path(folder, f"{FINDINGS}.partial")  # a reader must not find half of it
    partial.write_text(json.dumps(findings))
    partial.rename(Path(folder, FINDINGS))


def _described(error: Exception, framework: str, source: str) -> dict[str, str]:
    kind = next((name for name, each in CALLERS_ERRORS.items() if isinstance(error, each)), None)
    if kind is None:
        message = f"{framework} failed when it ran {source}: {type(error).__name__}: {' '.join(str(error).split())}"
        return {"error": type(error).__name__, "message": message}
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return {"error": kind, "message": f"{error.filename}: {error.strerror}"}
    return {"error": kind, "message": str(error) or type(error).__name__}


def _run(request: Request, inputs_file: Path, results_file: Path) -> dict[str, Any]:
    framework = FRAMEWORKS[request.framework]
    model, notes = load_complete(framework.load_package(), request.source, request.overrides)
    if not inputs_file.exists():
        notes += _write_inputs(inputs_file, model, request)
    with np.load(inputs_file) as stored:
        inputs = dict(stored)

    def forward() -> dict[str, np.ndarray]:
        output = framework.forward(model, inputs, False, False)
        return {name: framework.to_numpy(value) for name, value in output.items()}

    results, first_seconds, seconds = _measured(forward, request.repeats)
    peak_bytes = peak_memory()
    plain = {name: result for name, result in results.items() if name not in ("loss", *OF_NOISE)}
    if request.layers:
        output = framework.forward(model, inputs, True, True)
        for several in ("hidden_states", "attentions"):
            found = output.get(several) or ()  # a model without layers has no attention maps
            results |= {f"{several}.{index}": framework.to_numpy(each) for index, each in enumerate(found)}
    if request.gradients:
        weights = {} if "loss" in results else loss_weights(plain, request.seed)
        gradients = framework.gradients(model, inputs, weights)
        results |= {f"grad/{name}": gradient for name, gradient in gradients.items()}
    np.savez(results_file, **results)
    return {
        "task": model.task,
        "config": model.config.to_dict(),
        "first_seconds": first_seconds,
        "seconds": seconds,
        "peak_bytes": peak_bytes,
        "notes": notes,
    }


def load_complete(package: ModuleType, source: str, overrides: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Load the model that a checkpoint is for, with nothing left at random.

    Its format and its tensors say which it is. A pooler is there if the checkpoint has one.

    Returns:
        The model, and what from_pretrained warned of.

    Raises:
        ValueError: the checkpoint lacks weights; otherwise as from_pretrained.
    """
    fewest: list[str] = []
    for architecture, options in models_to_try(package, source, overrides):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model, info = getattr(package, architecture).from_pretrained(
                source, output_loading_info=True, **{**options, **overrides}
            )
        missing = [*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])]
        if not missing:
            return model, [str(each.message) for each in caught if issubclass(each.category, UserWarning)]
        if not fewest or len(missing) < len(fewest):
            fewest = missing
    more = f" and {len(fewest) - NAMES_SHOWN} more" if len(fewest) > NAMES_SHOWN else ""
    raise ValueError(
        f"{source} lacks {', '.join(fewest[:NAMES_SHOWN])}{more}, which would start at random, differently in every "
        f"framework; give a complete checkpoint."
    )


def _write_inputs(file: Path, model: Any, request: Request) -> list[str]:
    picture, note = None, None
    if request.image is not None:
        location, _ = place_and_rest(request.overrides)
        picture, note = read_picture(request.image, request.source, model.config, location)
    np.savez(file, **make_inputs(model.config, model.task, request.seed, picture))  # type: ignore[arg-type]
    return [] if note is None else [note]


def _measured(forward: Callable[[], Any], repeats: int) -> tuple[Any, float, float | None]:
    """What a function returns, the seconds of its first call, and the median of those of some more."""
    start = time.perf_counter()
    returned = forward()
    first = time.perf_counter() - start
    later: list[float] = []
    while len(later) < repeats and sum(later) < LONGEST_MEASURING:
        start = time.perf_counter()
        forward()
        later.append(time.perf_counter() - start)
    return returned, first, statistics.median(later) if later else None


def peak_memory() -> int | None:
    """The largest resident memory of this process so far in bytes; None where the system does not say.

    Linux keeps in `ru_maxrss` what the parent had when it started this process, so its own count is read there.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
