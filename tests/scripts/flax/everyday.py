"""What notebooks do around a Flax model: parameters taken apart and put together, casts, masks, JAX's transformations.

Usage: everyday.py CHECKPOINT OUTPUT. The import lines are all that changed.
"""

import json
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization, traverse_util
from flax.core.frozen_dict import FrozenDict, freeze, unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict

from vit_flax import (
    AutoImageProcessor,
    FlaxAutoModelForImageClassification,
    FlaxViTForImageClassification,
    FlaxViTModel,
    ViTConfig,
)
from vit_flax.modeling import FlaxViTEmbeddings, FlaxViTEncoder, FlaxViTModule

checkpoint, output = sys.argv[1:3]
results = {}


def note(name, array):
    results[name] = float(np.abs(np.asarray(array, np.float32)).sum())


# Inputs
processor = AutoImageProcessor.from_pretrained(checkpoint)
pictures = [np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8) for seed in range(8)]
inputs = processor(images=pictures, return_tensors="jax")
assert isinstance(inputs["pixel_values"], jax.Array)
pixel_values = processor(pictures, return_tensors="np").pixel_values
channels_last = pixel_values.transpose(0, 2, 3, 1)

# Calls
model = FlaxViTForImageClassification.from_pretrained(checkpoint)
params = model.params
outputs = model(**inputs)
note("logits", outputs.logits)
note("frozen", model(pixel_values, params=freeze(params)).logits)
assert list(outputs.keys()) == ["logits"]
assert isinstance(model(pixel_values, return_dict=False), tuple)
outputs = model(pixel_values, output_attentions=True, output_hidden_states=True)
assert (len(outputs.hidden_states), len(outputs.attentions)) == (3, 2)
note("attentions", outputs.attentions[1] ** 2)
model.config.update({"output_hidden_states": True})
note("hidden states", model(pixel_values).hidden_states[1])
model.config.output_hidden_states = False
note("by position", model(pixel_values, params, jax.random.PRNGKey(0), True, False, False, True).logits)
dropping = FlaxViTForImageClassification.from_pretrained(checkpoint, hidden_dropout_prob=0.3)
rng = jax.random.PRNGKey(0)
one, two = (dropping(pixel_values, train=True, dropout_rng=key).logits for key in jax.random.split(rng))
assert not np.allclose(one, two)

# The module
note("module", model.module.apply({"params": params}, channels_last, deterministic=True, return_dict=False)[0])
note("method", model.module.apply({"params": params}, channels_last, method=lambda module, x: module.vit.embeddings(x)))
_, state = model.module.apply({"params": params}, channels_last, capture_intermediates=True, mutable=["intermediates"])
note("captured", state["intermediates"]["vit"]["layernorm"]["__call__"][0])
note("bound", model.module.bind({"params": params}).vit.encoder(jnp.ones((1, 17, 32)), return_dict=True)[0])
tokens = FlaxViTEmbeddings(model.config, jnp.float32).apply({"params": params["vit"]["embeddings"]}, channels_last)
note("parts", FlaxViTEncoder(model.config).apply({"params": params["vit"]["encoder"]}, tokens, True)[0])
note("base module", FlaxViTModule(model.config, jnp.float32, False).apply({"params": params["vit"]}, channels_last)[0])

# Parameters
flat = flatten_dict(params)
mask = unflatten_dict({path: path[-2:] != ("layernorm", "scale") and path[-1] != "bias" for path in flat})
half = model.to_bf16(params, mask)
assert half["classifier"]["kernel"].dtype == jnp.bfloat16
assert half["classifier"]["bias"].dtype == jnp.float32
assert isinstance(model.to_fp16(freeze(params)), FrozenDict)
assert jax.tree_util.tree_leaves(model.to_fp32(half))[0].dtype == jnp.float32
restored = serialization.from_bytes(params, serialization.to_bytes(params))
note("bytes", model(pixel_values, params=restored)[0])
mutable = unfreeze(freeze(params))
mutable["classifier"]["bias"] = mutable["classifier"]["bias"] + 1
model.params = freeze(mutable)
assert type(model.params) is dict
note("assigned", model(pixel_values).logits)
model.params = params
try:
    model.params = {"vit": params["vit"]}
except ValueError:
    results["missing"] = True
assert model.required_params == set(flat)
assert model.params_shape_tree["classifier"]["kernel"].shape == (32, 2)
base = FlaxViTModel.from_pretrained(checkpoint, add_pooling_layer=False)
blank = FlaxViTForImageClassification(ViTConfig.from_pretrained(checkpoint), seed=1, dtype=jnp.float32)
blank.params = {**blank.params, "vit": base.params, "classifier": params["classifier"]}
note("transplanted", blank(pixel_values).logits)
beside = {**params, "projector": {"kernel": jnp.ones((2, 2))}}
note("beside", model(pixel_values, params=beside).logits @ beside["projector"]["kernel"])
bare = FlaxViTForImageClassification(model.config, input_shape=(1, 32, 32, 3), _do_init=False)
made = bare.init_weights(jax.random.PRNGKey(0), bare.input_shape)
assert jax.tree_util.tree_structure(made) == jax.tree_util.tree_structure(params)

# Optimizers by the names of parameters
groups = traverse_util.path_aware_map(lambda path, _: "frozen" if "embeddings" in path else "trained", params)
optimizer = optax.multi_transform({"trained": optax.sgd(0.1), "frozen": optax.set_to_zero()}, groups)


@partial(jax.jit, static_argnames=("train",))
def step(params, optimizer_state, train):
    def loss_fn(params):
        logits = model(pixel_values, params=params, dropout_rng=rng, train=train)[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(8) % 2).mean()

    loss, gradients = jax.value_and_grad(loss_fn)(params)
    updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
    return optax.apply_updates(params, updates), optimizer_state, loss


trained, _, loss = step(params, optimizer.init(params), train=True)
note("loss", loss)
note("trained", trained["vit"]["layernorm"]["scale"])
assert np.array_equal(trained["vit"]["embeddings"]["cls_token"], params["vit"]["embeddings"]["cls_token"])

# JAX's transformations
note("vmap", jax.vmap(lambda image: model(image[None], params=params).logits[0])(jnp.asarray(pixel_values)))
assert jax.eval_shape(lambda params: model(pixel_values, params=params), params).logits.shape == (8, 2)

# Files
model.save_pretrained(output, params=trained)
again = FlaxAutoModelForImageClassification.from_pretrained(output, dtype=jnp.float32, seed=0)
assert np.array_equal(again(pixel_values).logits, model(pixel_values, params=trained).logits)
apart, loaded = FlaxViTForImageClassification.from_pretrained(output, _do_init=False)
assert np.array_equal(apart(pixel_values, params=loaded).logits, again(pixel_values).logits)
model.save_pretrained(f"{output}/half", params=model.to_fp16(params))
halves = FlaxViTForImageClassification.from_pretrained(f"{output}/half", dtype=jnp.float16)
assert {leaf.dtype for leaf in jax.tree_util.tree_leaves(halves.params)} == {jnp.dtype("float16")}
assert jax.eval_shape(halves, pixel_values).logits.dtype == jnp.float16
(Path(output) / "all_results.json").write_text(json.dumps(results))
