"""How fast the Flax models are on a CPU and how much memory they take, beside linen, PyTorch and transformers.

All have the same sizes and float32 weights and give the same. Forward passes and training steps are measured in turn,
so that a busy machine slows all alike. transformers' Flax models need an older JAX, so they run in a child process of
another environment's Python. Memory is what the compiler plans: "temporary" lives during a step, mostly
activations; "in all" counts weights, the optimizer's state and the images, too. Usage:

    python benchmarks/flax_speed.py [--rounds N] [--transformers-python PATH]

Where XLA's CPU backend loses time, and what vit_flax does about it (ViT-S/16, batch 8, two cores; milliseconds for
forward / forward and backward of one layer's part):

- It runs batched matrix products on one thread, and slower when the batch axes do not come first.
  `jax.nn.dot_product_attention` takes 7.0 / 25.3; the same steps with heads transposed before tokens take 4.5 / 12.6.
- Linear layers on (batch, tokens, width) take 4.1 / 16.6; on the tokens of all images as rows of one matrix, 4.1 / 13.
- `jax.nn.gelu` computes erfc, 1.57 / 3.34; erf gives the same in 0.53 / 1.62.
- Patch embedding as a convolution takes 4.6 / 11.4; as a reshape and one matrix product, 2.9 / 6.1.
- A classifier sees the class token alone, so that its last layer computes nothing else: 9 % of a forward pass of
  ViT-B/16 and 13 % of a training step of ViT-S/16.
- About a quarter of a training step are page faults of XLA's temporary buffer, which the allocator gives back to the
  system after each call. That is not the model's to change; `GLIBC_TUNABLES=glibc.malloc.hugetlb=1` in the environment
  took a step from 0.96 s to 0.73 s.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

os.environ |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "USE_TF": "0", "USE_TORCH": "0"}
import jax
import jax.numpy as jnp
import numpy as np
import optax

if TYPE_CHECKING:
    from vit_flax import ViTForImageClassification

CLASSES, IMAGE, PATCH, BATCH = 1000, 224, 16, 8
SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}  # ViT-S/16
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}  # ViT-B/16
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}  # ViT-L/16
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.01
COMPILATIONS = 3  # of each way to run the layers

SCANNED, SCANNED_REMAT, PLAIN = "scanned", "scanned, remat", "unrolled"
WAYS: dict[str, dict[str, Any]] = {
    SCANNED: {"scan_layers": True},
    SCANNED_REMAT: {"scan_layers": True, "remat": True},
    PLAIN: {},
}

# What is wanted: how many times as much the other takes, and how long a step may take at most.
FORWARD_RATIO, STEP_RATIO, STEP_SECONDS, COMPILATION_RATIO, MEMORY_RATIO = 1.1, 1 / 1.5, 1.6, 1 / 0.4, 2

Run = Callable[[], float]  # does the work once; returns its seconds


def sizes(hidden_size: int, num_hidden_layers: int, num_attention_heads: int) -> dict[str, int]:
    """The fields of a config, of this package or of transformers."""
    return {
        "hidden_size": hidden_size,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": num_attention_heads,
        "intermediate_size": 4 * hidden_size,
        "image_size": IMAGE,
        "patch_size": PATCH,
        "num_labels": CLASSES,
    }


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Images (batch, channels, height, width) and their classes."""
    images = np.random.default_rng(0).standard_normal((BATCH, 3, IMAGE, IMAGE), dtype=np.float32)
    return images, np.arange(BATCH, dtype=np.int32)


def timed(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def forward_of(model: Any) -> Run:
    """A compiled forward pass of a model that has `params` and takes them: ours and transformers'."""
    images = jnp.asarray(batch()[0])
    function = jax.jit(lambda params, images: model(images, params=params).logits)
    return lambda: timed(lambda: jax.block_until_ready(function(model.params, images)))


def training_step(logits: Callable[[Any, Any], Any]) -> tuple[optax.GradientTransformation, Any]:
    """An optimizer, and a compiled step that is given its memory: from a state and a batch to the next and the loss.

    Args:
        logits: a function of parameters and images.
    """
    optimizer = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, images: Any, labels: Any) -> tuple[Any, Any, Any]:
        def loss(params: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(logits(params, images), labels).mean()

        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    return optimizer, step


def step_of(model: Any) -> Run:
    """Training steps of such a model, one after the other."""
    optimizer, step = training_step(lambda params, images: model(images, params=params, train=True).logits)
    images, labels = map(jnp.asarray, batch())
    state = (model.params, optimizer.init(model.params))

    def run() -> float:
        nonlocal state
        start = time.perf_counter()
        *state, _ = jax.block_until_ready(step(*state, images, labels))
        return time.perf_counter() - start

    return run


def ours(shape: dict[str, int], **options: Any) -> ViTForImageClassification:
    """A classifier of vit_flax."""
    from vit_flax import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(**sizes(**shape)), **options)


def transformers_model(shape: dict[str, int]) -> Any:
    """A classifier of transformers, for the child process."""
    from transformers import FlaxViTForImageClassification, ViTConfig

    return FlaxViTForImageClassification(ViTConfig(**sizes(**shape)))


def plain_forward() -> Run:
    """A compiled forward pass of ViT-B/16 as one would write it with flax.linen, in a dozen lines."""
    import flax.linen as nn

    class PlainViT(nn.Module):
        """The Vision Transformer of linen's own layers."""

        @nn.compact
        def __call__(self, images: jax.Array) -> jax.Array:
            hidden, eps = BASE["hidden_size"], 1e-12
            x = nn.Conv(hidden, (PATCH, PATCH), strides=(PATCH, PATCH), padding="VALID")(images)
            x = x.reshape(len(images), -1, hidden)
            token = self.param("cls_token", nn.initializers.zeros, (1, 1, hidden))
            x = jnp.concatenate([jnp.broadcast_to(token, (len(images), 1, hidden)), x], axis=1)
            x = x + self.param("positions", nn.initializers.normal(0.02), (1, x.shape[1], hidden))
            for _ in range(BASE["num_hidden_layers"]):
                x = x + nn.MultiHeadDotProductAttention(BASE["num_attention_heads"])(nn.LayerNorm(eps)(x))
                y = nn.Dense(4 * hidden)(nn.LayerNorm(eps)(x))
                x = x + nn.Dense(hidden)(nn.gelu(y, approximate=False))
            return nn.Dense(CLASSES)(nn.LayerNorm(eps)(x)[:, 0])

    images = jnp.asarray(batch()[0].transpose(0, 2, 3, 1))
    params = jax.jit(PlainViT().init)(jax.random.key(0), images)
    function = jax.jit(PlainViT().apply)
    return lambda: timed(lambda: jax.block_until_ready(function(params, images)))


def torch_step() -> Run:
    """Training steps of ViT-S/16 in PyTorch, by vit_torch."""
    import torch

    from vit_torch import ViTConfig, ViTForImageClassification

    model = ViTForImageClassification(ViTConfig(**sizes(**SMALL))).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    images, labels = batch()
    images, labels = torch.from_numpy(images), torch.from_numpy(labels).long()

    def step() -> None:
        torch.nn.functional.cross_entropy(model(images).logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return lambda: timed(step)


class Child:
    """A process of another Python that does a task of transformers each time it is told to.

    Args:
        python: the interpreter.
        task: "forward" or "step".

    Raises:
        RuntimeError: it ended; what it wrote says why.
    """

    def __init__(self, python: str, task: str) -> None:
        command = [python, __file__, "--child", task]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def __call__(self) -> float:
        """Do it once; returns its seconds."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """Let it end."""
        self.process.communicate()

    def _answer(self) -> Any:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"{self.process.args[0]} ended with status {self.process.wait()}; --transformers-python needs an "
                "environment with transformers 4, jax, flax and optax"
            )
        return json.loads(line)


def serve(task: str) -> None:
    """The child's side: a line in, seconds out."""
    run = forward_of(transformers_model(BASE)) if task == "forward" else step_of(transformers_model(SMALL))
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        print(json.dumps(run()), flush=True)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: what was measured.
        unit: of what is shown.
        factor: from what was measured to that unit.
        mine: what was measured of vit_flax.
        other_name: what stands beside.
        other: what was measured of it.
        ratio: how many times as much it is to take, at least.
        limit: what vit_flax may take at most, as measured.
    """

    name: str
    unit: str
    factor: float
    mine: list[float]
    other_name: str
    other: list[float]
    ratio: float | None = None
    limit: float | None = None

    def __str__(self) -> str:
        mine, other = statistics.median(self.mine), statistics.median(self.other)
        wanted = []
        if self.ratio is not None:
            wanted.append(f">= {self.ratio:.2f}" + ("" if other >= self.ratio * mine else " MISSED"))
        if self.limit is not None:
            wanted.append(f"<= {self.limit * self.factor:.0f}" + ("" if mine <= self.limit else " MISSED"))
        return (
            f"{self.name:44}{self.unit:4}{mine * self.factor:10.2f}{other * self.factor:10.2f}  {self.other_name:13}"
            f"{other / mine:6.2f}  {', '.join(wanted):24}{len(self.mine)} each"
        )


def alternately(name: str, rounds: int, runs: dict[str, Run]) -> dict[str, list[float]]:
    """The seconds of all rounds but the first, which compiles and fills caches."""
    results: dict[str, list[float]] = {package: [] for package in runs}
    for index in range(1 + rounds):
        for package, run in runs.items():
            seconds = run()
            results[package] += [seconds] if index else []
        progress(f"{name}: round {index} of {rounds}")
    for run in runs.values():
        if isinstance(run, Child):
            run.close()
    return results


def compiled_step(options: dict[str, Any]) -> tuple[float, Any]:
    """Seconds to trace and compile a training step of ViT-L/16 on shapes alone, and the compiled step."""
    model = ours(LARGE, _do_init=False, **options)
    params = model.params_shape_tree
    optimizer, step = training_step(lambda params, images: model(images, params=params, train=True).logits)
    images, labels = (jax.ShapeDtypeStruct(each.shape, each.dtype) for each in batch())
    state = jax.eval_shape(optimizer.init, params)
    start = time.perf_counter()
    compiled = step.lower(params, state, images, labels).compile()
    return time.perf_counter() - start, compiled


def compilations() -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each way's compilations, in turn, and what the compiler says of its memory."""
    results: dict[str, list[float]] = {way: [] for way in WAYS}
    memory = {}
    for index in range(COMPILATIONS):
        for way, options in WAYS.items():
            seconds, compiled = compiled_step(options)
            results[way].append(seconds)
            memory[way] = compiled.memory_analysis()
            del compiled
            jax.clear_caches()
            progress(f"compilation of ViT-L/16, {way}: {index + 1} of {COMPILATIONS}")
    return results, memory


def progress(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def in_use(analysis: Any) -> int:
    """Bytes that a compiled step needs: what goes in, what comes out elsewhere, and what it keeps meanwhile."""
    outputs = analysis.output_size_in_bytes - analysis.alias_size_in_bytes  # donated memory counts once
    return analysis.argument_size_in_bytes + outputs + analysis.temp_size_in_bytes


def forward_rows(rounds: int, python: str | None) -> Iterator[Row]:
    """Forward passes of ViT-B/16."""
    runs = {"vit_flax": forward_of(ours(BASE)), "plain linen": plain_forward()}
    if python:
        runs["transformers"] = Child(python, "forward")
    mine, *others = alternately("forward", rounds, runs).items()
    for name, seconds in others:
        yield Row(f"forward, ViT-B/16, batch {BATCH}", "ms", 1e3, mine[1], name, seconds, FORWARD_RATIO)


def step_rows(rounds: int, python: str | None) -> Iterator[Row]:
    """Training steps of ViT-S/16."""
    runs = {"vit_flax": step_of(ours(SMALL)), "PyTorch": torch_step()}
    if python:
        runs["transformers"] = Child(python, "step")
    mine, *others = alternately("training step", rounds, runs).items()
    for name, seconds in others:
        bars = (STEP_RATIO, STEP_SECONDS) if name == "PyTorch" else (None, None)
        yield Row(f"training step, ViT-S/16, batch {BATCH}", "ms", 1e3, mine[1], name, seconds, *bars)


def large_rows() -> Iterator[Row]:
    """The compilation of a training step of ViT-L/16, and the memory that the compiler plans for it."""
    seconds, memory = compilations()
    for way, bar in ((SCANNED, COMPILATION_RATIO), (SCANNED_REMAT, None)):
        yield Row(f"compilation, ViT-L/16 step, {way}", "s", 1, seconds[way], PLAIN, seconds[PLAIN], bar)
    for what, size in {"temporary": lambda each: each.temp_size_in_bytes, "in all": in_use}.items():
        for way in (SCANNED_REMAT, SCANNED):
            bar = MEMORY_RATIO if (what, way) == ("temporary", SCANNED_REMAT) else None
            mine, other = [size(memory[way])], [size(memory[PLAIN])]
            yield Row(f"memory of it, {what}, {way}", "MiB", 2**-20, mine, PLAIN, other, bar)


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="forward passes and steps of each (default %(default)s)")
    parser.add_argument(
        "--transformers-python",
        metavar="PATH",
        help="an interpreter with transformers 4, jax, flax and optax, to have transformers' Flax models beside",
    )
    parser.add_argument("--child", choices=["forward", "step"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        serve(options.child)
        return
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}; choose 1 or more")
    python = options.transformers_python
    if python and not shutil.which(python):
        parser.error(f"--transformers-python is {python}, which is no program; give the path of an interpreter")
    rows = [*forward_rows(options.rounds, python), *step_rows(options.rounds, python), *large_rows()]
    print(f"{'medians':44}{'':4}{'vit_flax':>10}{'other':>10}  {'':13}{'ratio':>6}  {'wanted':24}runs")
    for row in rows:
        print(row)
    if not python:
        print("transformers was left out: --transformers-python says which interpreter has it.")


if __name__ == "__main__":
    main()
