"""Trains a Vision Transformer in JAX on all devices of one or several hosts, its parameters split among them.

Run it once on each host. On one host, with all of its devices:

    python examples/distributed_flax.py

On two hosts, of which the first listens on a port of your choice:

    python examples/distributed_flax.py --coordinator first-host:1234 --processes 2 --process 0
    python examples/distributed_flax.py --coordinator first-host:1234 --processes 2 --process 1

On a TPU pod or under SLURM, Open MPI or Kubernetes, where JAX finds the others by itself:

    python examples/distributed_flax.py --cluster

The data are the 1797 digits that come with scikit-learn; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import optax
from flax.training.train_state import TrainState
from jax import Array
from PIL import Image
from sklearn.datasets import load_digits

from vit_flax import (
    FSDP,
    AutoImageProcessor,
    DeiTImageProcessor,
    Partitioning,
    ViTForImageClassification,
    ViTImageProcessor,
)


def join(options: argparse.Namespace) -> None:
    """Meet the other processes, if there are any; before anything else asks JAX for devices."""
    if options.cluster:
        jax.distributed.initialize()
    elif options.coordinator:
        jax.distributed.initialize(options.coordinator, options.processes, options.process)


def load_data(processor: ViTImageProcessor | DeiTImageProcessor) -> tuple[np.ndarray, np.ndarray]:
    """The digits as the model takes them, (1797, 1, 32, 32), and their labels."""
    counts, labels = load_digits(return_X_y=True)  # of inked pixels, 0 to 16
    pixels = np.rint(counts.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = processor([Image.fromarray(image) for image in pixels], return_tensors="np").pixel_values
    return images, labels.astype(np.int32)


def train_step(state: TrainState, images: Array, labels: Array) -> tuple[TrainState, Array]:
    """One step on a batch: the new state, and the loss before it."""

    def loss(params: dict) -> Array:
        return state.apply_fn(images, params=params, labels=labels, train=True).loss

    value, gradients = jax.value_and_grad(loss)(state.params)
    return state.apply_gradients(grads=gradients), value


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", action="store_true", help="let JAX find the other processes")
    parser.add_argument(
        "--coordinator",
        default=os.environ.get("JAX_COORDINATOR_ADDRESS"),
        metavar="HOST:PORT",
        help="where process 0 listens (default: $JAX_COORDINATOR_ADDRESS, or else this process is alone)",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=int(os.environ.get("JAX_NUM_PROCESSES", 1)),
        help="how many there are (default: $JAX_NUM_PROCESSES or 1)",
    )
    parser.add_argument(
        "--process",
        type=int,
        default=int(os.environ.get("JAX_PROCESS_ID", 0)),
        help="the number of this one (default: $JAX_PROCESS_ID or 0)",
    )
    parser.add_argument("--model", default="bundled/vit-digits", help="weights to start from (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("digits"), metavar="FOLDER", help="folder to write (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=64, help="of all processes together (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="default: %(default)s")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Join, load, train and save."""
    options = parse_arguments(arguments)
    join(options)
    is_first = jax.process_index() == 0
    partitioning = Partitioning(jax.make_mesh((jax.device_count(),), ("data",)), FSDP)
    model = ViTForImageClassification.from_pretrained(options.model, partitioning=partitioning)
    processor = AutoImageProcessor.from_pretrained(options.model)
    images, labels = load_data(processor)
    if is_first:
        print(f"{jax.device_count()} devices, {jax.process_count()} processes", flush=True)

    def create(params: dict) -> TrainState:
        return TrainState.create(apply_fn=model, params=params, tx=optax.adamw(options.learning_rate))

    shardings = model.state_shardings(jax.eval_shape(create, model.params))
    state = jax.jit(create, out_shardings=shardings)(model.params)
    step = jax.jit(train_step, donate_argnums=0, out_shardings=(shardings, partitioning.sharding()))
    order = np.random.default_rng(0)  # every process draws the same batches
    for number in range(1, options.steps + 1):
        batch = order.choice(len(labels), options.batch_size, replace=False)
        mine = batch[jax.process_index() :: jax.process_count()]  # of which it feeds its own part
        parts = (
            jax.make_array_from_process_local_data(partitioning.sharding("batch"), array[mine])
            for array in (images, labels)
        )
        state, loss = step(state, *parts)
        if is_first:
            print(f"step {number:4}   loss {loss:.7f}", flush=True)

    model.save_pretrained(options.output, params=state.params)  # all gather, the first writes
    if is_first:
        processor.save_pretrained(options.output)
        print(f'wrote {options.output}; try it: trivit classify --model "{options.output}" IMAGE')


if __name__ == "__main__":
    main()
