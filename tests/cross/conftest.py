"""What the comparisons of the two backends share; without both PyTorch and TensorFlow they are not collected."""

import importlib.util
import os
from types import SimpleNamespace

import numpy as np
import pytest

if all(importlib.util.find_spec(name) for name in ("torch", "tensorflow", "keras")):
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf
    import torch

    import vit_tf
    import vit_torch
    from vit_core import ViTConfig
    from vit_core.layouts import KERAS

    torch.set_num_threads(1)  # tests run in parallel
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
else:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def tiny_config():
    """A small model with two layers, on 32 x 32 images of 4 x 4 patches."""
    return ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        encoder_stride=8,
        num_labels=5,
    )


class Twins(SimpleNamespace):
    """The same model in both frameworks, `torch` and `keras`, and the table of its parameters."""

    def keras_weights(self):
        """The Keras model's weights by canonical name, with canonical axes."""
        return {row.name: self._canonical(row, self.keras.get_parameter(row)) for row in self.table}

    def torch_weights(self):
        """The PyTorch model's weights by canonical name."""
        return {name: tensor.detach().numpy() for name, tensor in self.torch.named_parameters()}

    def keras_gradients(self, tape, loss):
        """The gradients of a loss by canonical name, with canonical axes."""
        gradients = tape.gradient(loss, [self.keras.get_parameter(row).value for row in self.table])
        return {row.name: self._canonical(row, each) for row, each in zip(self.table, gradients, strict=True)}

    def torch_gradients(self, loss):
        """The gradients of a loss by canonical name."""
        self.torch.zero_grad()
        loss.backward()
        return {name: parameter.grad.numpy() for name, parameter in self.torch.named_parameters()}

    @staticmethod
    def _canonical(row, tensor):
        return KERAS.to_canonical(row, np.asarray(tensor))


@pytest.fixture(scope="session")
def twins():
    """Build a model in both frameworks, with random weights that leave no parameter at zero or one."""

    def build(architecture, config, dtype="float32", seed=0, **options):
        keras_model = getattr(vit_tf, architecture)(config, dtype=dtype, **options)
        torch_model = getattr(vit_torch, architecture)(config, **options).to(getattr(torch, dtype)).eval()
        table = keras_model.parameter_table()
        random, weights = np.random.default_rng(seed), {}
        for row in table:
            start = 1.0 if row.initializer == "ones" else 0.0
            weights[row.name] = (start + config.initializer_range * random.standard_normal(row.shape)).astype(dtype)
            keras_model.get_parameter(row).assign(KERAS.from_canonical(row, weights[row.name]))
        torch_model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
        return Twins(torch=torch_model, keras=keras_model, table=table)

    return build
