"""A model of one's own on top of ours starts in Flax where it was in PyTorch, and is trained alike in both."""

from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax.training.train_state import TrainState
from safetensors.numpy import load_file

from vit_core import ViTConfig
from vit_flax import FlaxViTModule, FlaxViTPreTrainedModel
from vit_torch import ViTModel, ViTPreTrainedModel

LABELS = np.array([0, 1, 2, 0])
# As in test_training.py: the rounding of gradients that are zero is no step.
SETTINGS = {"learning_rate": 1e-3, "epsilon": 1e-4, "weight_decay": 0.1}


class InTorch(ViTPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.vit = ViTModel(config, add_pooling_layer=False)
        self.layernorm = torch.nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.blocks = torch.nn.ModuleList(
            [torch.nn.Linear(config.hidden_size, width) for width in (config.hidden_size, 3)]
        )
        self.grey = torch.nn.Conv2d(3, 3, 2)
        self.kinds = torch.nn.Embedding(4, 3)
        self.post_init()

    def forward(self, pixel_values):
        first, second = self.blocks
        logits = second(first(self.layernorm(self.vit(pixel_values)[0].mean(1))))
        return logits + self.grey(pixel_values).mean((2, 3)) + self.kinds(torch.arange(4))


class ModuleInFlax(flax.linen.Module):
    config: ViTConfig
    dtype: Any = jnp.float32

    def setup(self):
        self.vit = FlaxViTModule(self.config, self.dtype, add_pooling_layer=False)
        self.layernorm = flax.linen.LayerNorm(epsilon=self.config.layer_norm_eps)
        self.blocks = [flax.linen.Dense(self.config.hidden_size), flax.linen.Dense(3)]
        self.grey = flax.linen.Conv(3, (2, 2), padding="VALID")
        self.kinds = flax.linen.Embed(4, 3)

    def __call__(self, pixel_values, deterministic=True, *options):
        first, second = self.blocks
        logits = second(first(self.layernorm(self.vit(pixel_values, deterministic)[0].mean(1))))
        return logits + self.grey(pixel_values).mean((1, 2)) + self.kinds(jnp.arange(len(logits)) % 4)


class InFlax(FlaxViTPreTrainedModel):
    module_class = ModuleInFlax


def batches():
    random = np.random.default_rng(5)
    return [random.standard_normal((4, 3, 32, 32)).astype("float32") for _ in range(3)]


def train_torch(model):
    optimizer = torch.optim.AdamW(
        model.parameters(), SETTINGS["learning_rate"], eps=SETTINGS["epsilon"], weight_decay=SETTINGS["weight_decay"]
    )
    losses = []
    for images in batches():
        loss = torch.nn.functional.cross_entropy(model(torch.from_numpy(images)), torch.from_numpy(LABELS))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_flax(model, params):
    optimizer = optax.adamw(SETTINGS["learning_rate"], eps=SETTINGS["epsilon"], weight_decay=SETTINGS["weight_decay"])
    state, losses = TrainState.create(apply_fn=model.__call__, params=params, tx=optimizer), []

    @jax.jit
    def step(state, images):
        def loss(params):
            logits = state.apply_fn(images, params=params, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()

        value, gradients = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=gradients), value

    for images in batches():
        state, value = step(state, images)
        losses.append(float(value))
    return losses, state.params


def test_three_steps_lead_to_the_same_losses_and_weights(tiny_config, tmp_path):
    tiny_config.initializer_range = 0.15
    model = InTorch(tiny_config)
    model.save_pretrained(tmp_path / "torch")
    other = InFlax.from_pretrained(tmp_path / "torch")

    expected = train_torch(model)
    losses, trained = train_flax(other, other.params)
    np.testing.assert_allclose(losses, expected, atol=1e-5, rtol=0)
    other.save_pretrained(tmp_path / "flax", params=trained)
    stored, weights = load_file(tmp_path / "flax/model.safetensors"), model.state_dict()
    names = {  # in Flax, in PyTorch, and the axes that Flax has
        **{name: (name, None) for name in weights if name.startswith("vit.") or name.endswith(".bias")},
        **{"layernorm.scale": ("layernorm.weight", None), "kinds.embedding": ("kinds.weight", None)},
        **{f"blocks_{i}.kernel": (f"blocks.{i}.weight", (1, 0)) for i in range(2)},
        "grey.kernel": ("grey.weight", (2, 3, 1, 0)),
    }
    names |= {f"blocks_{i}.bias": names.pop(f"blocks.{i}.bias") for i in range(2)}
    assert set(stored) == set(names)
    for name, (in_torch, axes) in names.items():
        wanted = weights[in_torch].numpy()
        wanted = wanted if axes is None else wanted.transpose(axes)
        np.testing.assert_allclose(stored[name], wanted, atol=1e-5, rtol=0, err_msg=name)


def test_the_base_model_in_a_file_of_flax_is_read_whatever_is_beside_it(tiny_config, tmp_path):
    model, random = InFlax(tiny_config, _do_init=False), np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.float32(random.normal(0, 0.2, leaf.shape)), model.params_shape_tree)
    model.save_pretrained(tmp_path, params=params, safe_serialization=False)
    with pytest.warns(UserWarning, match="grey/kernel.* are in the checkpoint, but this model has no such tensors"):
        base = ViTModel.from_pretrained(tmp_path, add_pooling_layer=False)
    np.testing.assert_array_equal(base.layernorm.weight.detach(), params["vit"]["layernorm"]["scale"])
    query = params["vit"]["encoder"]["layer"]["1"]["attention"]["attention"]["query"]["kernel"]
    np.testing.assert_array_equal(base.encoder.layer[1].attention.attention.query.weight.detach(), query.T)
