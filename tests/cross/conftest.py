"""What the comparisons with PyTorch share; without it and one more framework they are not collected."""

import contextlib
import copy
import importlib.util
import os
from types import SimpleNamespace

import numpy as np
import pytest

HAS_KERAS, HAS_FLAX, HAS_TORCH = (
    all(importlib.util.find_spec(name) for name in names)
    for names in (("tensorflow", "keras"), ("jax", "flax", "optax"), ("torch",))
)

if HAS_TORCH and (HAS_KERAS or HAS_FLAX):
    import torch

    import vit_torch
    from vit_core import ViTConfig
    from vit_core.layouts import KERAS

    torch.set_num_threads(1)  # tests run in parallel
    if HAS_KERAS:
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf

        import vit_tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    if HAS_FLAX:
        flags = (
            "--xla_cpu_multi_thread_eigen=false "  # tests run in parallel
            # Compile six times as fast; what runs is slower and has the same numbers.
            "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
            "--xla_cpu_parallel_codegen_split_count=1"
        )
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        import jax
        from flax.traverse_util import unflatten_dict

        import vit_flax
        from vit_flax.parameter_tree import flatten
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


class TorchTwin:
    """A model in PyTorch."""

    def __init__(self, architecture, config, dtype, **options):
        self.model = getattr(vit_torch, architecture)(config, **options).to(getattr(torch, dtype)).eval()

    def fill(self, weights):
        self.model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})

    def weights(self):
        """The weights by canonical name."""
        return {name: tensor.detach().numpy() for name, tensor in self.model.named_parameters()}

    def run(self, inputs, loss_of=None, training=False, **options):
        """Run the model; returns its output and, of the loss, the gradients by canonical name."""
        self.model.train(training)
        inputs = {name: torch.from_numpy(np.asarray(value)) for name, value in inputs.items()}
        output = self.model(**inputs, **options)
        if loss_of is None:
            return output, None
        self.model.zero_grad()
        loss_of(output).backward()
        return output, {
            name: np.zeros(parameter.shape, "float32") if parameter.grad is None else parameter.grad.numpy()
            for name, parameter in self.model.named_parameters()  # fixed positions have no gradient
        }

    def enable_gradient_checkpointing(self):
        self.model.gradient_checkpointing_enable()


class KerasTwin:
    """A model in Keras.

    Attributes:
        compiles: whether a new config takes seconds to compile, so that there should not be many.
        prunes: whether the model may have heads pruned.
    """

    compiles, prunes = False, True

    def __init__(self, architecture, config, dtype="float32", **options):
        self.model = getattr(vit_tf, architecture)(config, dtype=dtype, **options)
        self.table = self.model.parameter_table()

    @staticmethod
    def random_model(architecture, config):
        return getattr(vit_tf, architecture)(config)

    @staticmethod
    def from_pretrained(architecture, folder, dtype="float32", **options):
        return getattr(vit_tf, architecture).from_pretrained(folder, dtype=dtype, **options)

    def fill(self, weights):
        for row in self.table:
            self.model.get_parameter(row).assign(KERAS.from_canonical(row, weights[row.name]))

    def weights(self):
        """The weights by canonical name, with canonical axes."""
        return {row.name: self._canonical(row, self.model.get_parameter(row)) for row in self.table}

    def run(self, inputs, loss_of=None, training=False, **options):
        """Run the model; returns its output and, of the loss, the gradients by canonical name."""
        if loss_of is None:
            return self.model(inputs, training=training, **options), None
        with tf.GradientTape() as tape:
            output = self.model(inputs, training=training, **options)
            loss = loss_of(output)
        variables = [self.model.get_parameter(row).value for row in self.table]
        found = tape.gradient(loss, variables, unconnected_gradients="zero")
        gradients = [tf.convert_to_tensor(each) for each in found]  # of rows that are looked up, it has these alone
        return output, {row.name: self._canonical(row, each) for row, each in zip(self.table, gradients, strict=True)}

    def enable_gradient_checkpointing(self):
        self.model.gradient_checkpointing_enable()

    @staticmethod
    def _canonical(row, tensor):
        return KERAS.to_canonical(row, np.asarray(tensor))


class FlaxTwin:
    """A model in Flax, compiled by `jax.jit`; see KerasTwin."""

    compiles, prunes, scan_layers = True, True, False

    def __init__(self, architecture, config, dtype="float32", **options):
        options |= {"dtype": dtype, "param_dtype": dtype, "scan_layers": self.scan_layers}
        self.precision = _float64_in_jax if dtype == "float64" else contextlib.nullcontext
        with self.precision():
            self.model = getattr(vit_flax, architecture)(config, _do_init=False, **options)
        self.table = self.model.parameter_table()

    @classmethod
    def random_model(cls, architecture, config):
        return getattr(vit_flax, architecture)(config, scan_layers=cls.scan_layers)

    @classmethod
    def from_pretrained(cls, architecture, folder, dtype="float32", **options):
        options |= {"dtype": dtype, "param_dtype": dtype, "scan_layers": cls.scan_layers}
        return getattr(vit_flax, architecture).from_pretrained(folder, **options)

    def fill(self, weights):
        layout, leaves = self.model.layout, {}
        for path, rows in layout.places(self.table).items():
            arrays = [layout.from_canonical(row, weights[row.name]) for row in rows]
            leaves[path] = np.stack(arrays) if layout.is_stacked(rows[0]) else arrays[0]
        with self.precision():
            self.model._params = jax.tree.map(jax.numpy.asarray, unflatten_dict(leaves))  # made with _do_init=False

    def weights(self):
        """The weights by canonical name, with canonical axes."""
        return self._canonical(self.model.params)

    def run(self, inputs, loss_of=None, training=False, **options):
        """Run the model; returns its output and, of the loss, the gradients by canonical name."""

        def output_of(params, inputs):
            return self.model(**inputs, params=params, train=training, **options)

        def loss_and_output(params, inputs):
            output = output_of(params, inputs)
            return loss_of(output), output

        with self.precision():
            if loss_of is None:
                return jax.jit(output_of)(self.model.params, inputs), None
            gradients, output = jax.jit(jax.grad(loss_and_output, has_aux=True))(self.model.params, inputs)
            return output, self._canonical(gradients)

    def enable_gradient_checkpointing(self):
        self.model.enable_gradient_checkpointing()

    def _canonical(self, tree):
        layout, leaves = self.model.layout, {path: np.asarray(leaf) for path, leaf in flatten(tree).items()}
        found = {row.name: leaves[layout.path(row)] for row in self.table}
        return {
            row.name: layout.to_canonical(
                row, found[row.name][row.layer] if layout.is_stacked(row) else found[row.name]
            )
            for row in self.table
        }


class ScannedFlaxTwin(FlaxTwin):
    """A model in Flax whose layers are scanned, so that they have one shape."""

    prunes, scan_layers = False, True


@contextlib.contextmanager
def _float64_in_jax():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


@pytest.fixture(scope="session", params=["keras", "flax", "flax_scanned"])
def framework(request):
    """A framework to compare with PyTorch."""
    if not (HAS_KERAS if request.param == "keras" else HAS_FLAX):
        pytest.skip(f"{request.param} is not installed")
    return {"keras": KerasTwin, "flax": FlaxTwin, "flax_scanned": ScannedFlaxTwin}[request.param]


@pytest.fixture(scope="session")
def twins(framework):
    """Build a model in both frameworks, with random weights that leave no parameter at zero or one.

    Nothing is pruned where that is impossible.
    """

    def build(architecture, config, dtype="float32", seed=0, **options):
        if not framework.prunes:
            config = copy.deepcopy(config)
            config.pruned_heads = {}
        pair = SimpleNamespace(
            other=framework(architecture, config, dtype, **options),
            torch=TorchTwin(architecture, config, dtype, **options),
            dtype=dtype,
        )
        random, weights = np.random.default_rng(seed), {}
        for row in pair.other.table:
            start = 1.0 if row.initializer == "ones" else 0.0
            weights[row.name] = (start + config.initializer_range * random.standard_normal(row.shape)).astype(dtype)
        pair.other.fill(weights)
        pair.torch.fill(weights)
        return pair

    return build
