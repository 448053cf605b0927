"""Research code: a model of its own on top of the base model, with two heads, trained with a frozen stem.

Usage: research_family.py CHECKPOINT OUTPUT. The import lines are all that changed.
"""

import json
import sys
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.core.frozen_dict import freeze, unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict

from vit_flax import FlaxViTPreTrainedModel, ViTConfig
from vit_flax.modeling import FlaxViTModule

checkpoint, output = sys.argv[1:3]


class FlaxViTForColoursModule(nn.Module):
    config: ViTConfig
    num_shapes: int = 3
    dtype: Any = jnp.float32

    def setup(self):
        self.vit = FlaxViTModule(config=self.config, add_pooling_layer=False, dtype=self.dtype)
        self.layernorm = nn.LayerNorm(epsilon=self.config.layer_norm_eps, dtype=self.dtype)
        self.dropout = nn.Dropout(rate=self.config.hidden_dropout_prob)
        init = nn.initializers.normal(self.config.initializer_range)
        self.colours = nn.Dense(2, dtype=self.dtype, kernel_init=init)
        self.shapes = nn.Dense(self.num_shapes, dtype=self.dtype, kernel_init=init)

    def __call__(
        self,
        pixel_values,
        deterministic: bool = True,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ):
        outputs = self.vit(
            pixel_values,
            deterministic=deterministic,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
        )
        summary = self.layernorm(outputs[0].mean(axis=1))
        summary = self.dropout(summary, deterministic=deterministic)
        return self.colours(summary), self.shapes(summary)


class FlaxViTForColours(FlaxViTPreTrainedModel):
    module_class = FlaxViTForColoursModule


model = FlaxViTForColours.from_pretrained(checkpoint, num_shapes=4, seed=1)
plain = FlaxViTForColours(model.config, input_shape=(1, 32, 32, 3), num_shapes=4, dtype=jnp.float32)
assert jax.tree_util.tree_map(np.shape, plain.params) == jax.tree_util.tree_map(np.shape, model.params)

params = unfreeze(model.params)
for name, width in (("colours", 2), ("shapes", 4)):  # the same start wherever this runs
    kernel = np.random.default_rng(width).normal(0, 0.1, (32, width)).astype(np.float32)
    params[name] = {"kernel": jnp.asarray(kernel), "bias": jnp.zeros(width)}
model.params = freeze(params)

flat = flatten_dict(unfreeze(model.params))
labels = unflatten_dict({path: "frozen" if "embeddings" in path else "trained" for path in flat})
optimizer = optax.multi_transform(
    {"trained": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)), "frozen": optax.set_to_zero()}, labels
)
images = np.random.default_rng(0).normal(size=(6, 3, 32, 32)).astype(np.float32)
colours, shapes = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 1, 2, 3, 0, 1])
dropout_rng = jax.random.PRNGKey(0)


@jax.jit
def step(params, optimizer_state, rng):
    def loss_fn(params):
        of_colour, of_shape = model(images, params=params, dropout_rng=rng, train=True)
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels
        return cross_entropy(of_colour, colours).mean() + cross_entropy(of_shape, shapes).mean()

    loss, gradients = jax.value_and_grad(loss_fn)(params)
    updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
    return optax.apply_updates(params, updates), optimizer_state, loss


params = unfreeze(model.params)
before, optimizer_state, losses = params, optimizer.init(params), []
for _ in range(3):
    dropout_rng, rng = jax.random.split(dropout_rng)
    params, optimizer_state, loss = step(params, optimizer_state, rng)
    losses.append(float(loss))
model.save_pretrained(output, params=params)
again = FlaxViTForColours.from_pretrained(output, num_shapes=4)
same = [np.array_equal(a, b) for a, b in zip(again(images), model(images, params=params), strict=True)]
frozen = jax.tree_util.tree_map(np.array_equal, params["vit"]["embeddings"], before["vit"]["embeddings"])
results = {"losses": losses, "same": all(same), "frozen": all(jax.tree_util.tree_leaves(frozen))}
(Path(output) / "all_results.json").write_text(json.dumps(results))
