"""Forward passes and training steps of any PyTorch model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks import pixels
from benchmarks.models import IMAGE
from benchmarks.worker import Prepared

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LEARNING_RATE = 1e-4
MOST_COMPILED = 100  # forward passes in a process

Call = Callable[[torch.Tensor], torch.Tensor]  # from images to logits or hidden states


def compiled(call: Call, images: torch.Tensor) -> Call:
    """By torch.compile, which would give up after a few shapes and types."""
    torch._dynamo.config.recompile_limit = MOST_COMPILED
    return torch.compile(call)


def graphed(call: Call, images: torch.Tensor) -> Call:
    """Recorded once as a CUDA graph, which is played again for the same memory."""
    if images.device.type != "cuda":
        raise RuntimeError("CUDA graphs need a card")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # libraries take their memory before the recording
            call(images)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = call(images)

    def play(_: torch.Tensor) -> torch.Tensor:
        graph.replay()
        return outputs

    return play


#: Ways to run a forward pass.
MODES: dict[str, Callable[[Call, torch.Tensor], Call]] = {
    "": lambda call, images: call,
    "compiled": compiled,
    "graphed": graphed,
    "compiled and graphed": lambda call, images: graphed(compiled(call, images), images),
}


def forward(
    model: torch.nn.Module, call: Call, batch: int, dtype: str, image: int = IMAGE, device: str = "cpu", mode: str = ""
) -> Prepared:
    """Forward passes for inference."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = dtype == "tf32"
    model.to(device, DTYPES[dtype]).eval()
    images = torch.from_numpy(pixels.images(batch, image)).to(device, DTYPES[dtype])
    with torch.inference_mode():
        call = MODES[mode](call, images)

    @torch.inference_mode()
    def run() -> torch.Tensor:
        outputs = call(images)
        finish(device)
        return outputs

    return Prepared(run, lambda: pixels.answer(run().float().cpu().numpy()))


def step(
    model: torch.nn.Module, call: Call, batch: int, dtype: str, image: int = IMAGE, device: str = "cpu"
) -> Prepared:
    """Training steps with AdamW, one after the other."""
    model.to(device, DTYPES[dtype]).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    images = torch.from_numpy(pixels.images(batch, image)).to(device, DTYPES[dtype])
    labels = torch.from_numpy(pixels.labels(batch)).long().to(device)

    def run() -> None:
        torch.nn.functional.cross_entropy(call(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        finish(device)

    return Prepared(run)


def finish(device: str) -> None:
    """Wait until the device has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()


KINDS: dict[str, Callable[..., Prepared]] = {"forward": forward, "training step": step}


def prepare(load: Callable[..., tuple[torch.nn.Module, Call]], kind: str = "forward", **work: Any) -> Prepared:
    """Prepare a kind of work of a model that `load` gives with its call."""
    of_model = {name: work.pop(name) for name in ("model", "layers", "attention", "merging") if name in work}
    model, call = load(image=work.get("image", IMAGE), **of_model)
    return KINDS[kind](model, call, **work)
