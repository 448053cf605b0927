"""Programs for TPUs, which `jax.export` lowers wherever it runs, are what a TPU multiplies fast."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

from vit_flax import FlaxViTForImageClassification

PRODUCT = re.compile(
    r"stablehlo\.(?:dot_general|convolution)\b.*: \(tensor<([\dx]*)x(\w+)>, tensor<([\dx]*)x(\w+)>\) -> "
    r"tensor<([\dx]*)x(\w+)>"
)


def products(program):
    """The matrix products of a program: the types of the operands and of the result, and the result's shape."""
    lines = [line for line in program.splitlines() if re.search(r"stablehlo\.(dot_general|convolution)\b", line)]
    found = [PRODUCT.search(line).groups() for line in lines]
    return [({left, right}, result, shape) for _, left, _, right, shape, result in found]


def training_step(model, optimizer):
    def step(params, state, images, labels):
        def loss(params):
            return model(images, params=params, labels=labels, train=True).loss

        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    return jax.jit(step)


def tpu_program_of_a_step(config, **options):
    model, optimizer = FlaxViTForImageClassification(config, _do_init=False, **options), optax.adamw(1e-3)
    params = model.params_shape_tree
    batch = jax.ShapeDtypeStruct((4, 3, 32, 32), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.int32)
    step = training_step(model, optimizer)
    return export.export(step, platforms=["tpu"])(params, jax.eval_shape(optimizer.init, params), *batch).mlir_module()


def tpu_program_of_logits(config, **options):
    model = FlaxViTForImageClassification(config, _do_init=False, **options)
    run = jax.jit(lambda params, images: model(images, params=params).logits)
    images = jax.ShapeDtypeStruct((4, 3, 32, 32), jnp.float32)
    return export.export(run, platforms=["tpu"])(model.params_shape_tree, images).mlir_module()


OPTIONS = [{}, {"scan_layers": True}, {"scan_layers": True, "remat": True}]


@pytest.mark.parametrize("program", [tpu_program_of_logits, tpu_program_of_a_step])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_in_bfloat16_all_operands_are_bfloat16_and_sums_float32(tiny_config, program, options):
    found = products(program(tiny_config, dtype=jnp.bfloat16, **options))
    layers = 1 if options else 2
    # By weights, six in each layer, the patches' and the classifier's; and two of attention.
    assert len(found) >= layers * (6 + 2) + 2
    narrow = [(types, shape) for types, result, shape in found if result != "f32"]
    assert all(types == {"bf16"} for types, _, _ in found)
    # JAX's own attention returns the product of probabilities and values in the dtype of the values, which is the one
    # result that is rounded; what a TPU sums is float32 there, too.
    assert {len(shape.split("x")) for _, shape in narrow} == {5}
    assert len(narrow) == (2 if options.get("remat") and program is tpu_program_of_a_step else 1) * layers


@pytest.mark.parametrize("program", [tpu_program_of_logits, tpu_program_of_a_step])
def test_in_float32_nothing_is_bfloat16(tiny_config, program):
    text = program(tiny_config)
    assert all(types == {"f32"} and result == "f32" for types, result, _ in products(text))
    assert len(products(text)) >= 2 * (6 + 2) + 2
    assert "bf16" not in text


def test_on_a_tpu_attention_is_jaxs_own(tiny_config, monkeypatch):
    original, calls = jax.nn.dot_product_attention, []

    def marked(query, key, value, bias=None):
        calls.append(query.shape)
        return jnp.arctan2(original(query, key, value, bias), 1)  # found nowhere else

    def programs():
        model = FlaxViTForImageClassification(tiny_config, _do_init=False)
        run = jax.jit(lambda params, images: model(images, params=params).logits)
        for platform in ("tpu", "cuda", "cpu"):
            images = jax.ShapeDtypeStruct((4, 3, 32, 32), jnp.float32)
            yield export.export(run, platforms=[platform])(model.params_shape_tree, images).mlir_module()

    assert not any("atan2" in program for program in programs())
    monkeypatch.setattr(jax.nn, "dot_product_attention", marked)
    assert ["atan2" in program for program in programs()] == [True, True, False]
    assert calls[:2] == [(4, 17, 4, 8), (4, 1, 4, 8)]
    tiny_config.attn_implementation = "eager"
    assert not any("atan2" in program for program in programs())


@pytest.mark.parametrize("scan_layers", [False, True])
def test_an_exported_function_gives_what_the_model_gives(load, scan_layers):
    model, expected = load("hf_vit_classifier", scan_layers=scan_layers)
    run = jax.jit(lambda params, images: model(images, params=params, output_hidden_states=True))
    exported = export.export(run, platforms=["cpu", "tpu"])(model.params, expected["pixel_values"])
    found = export.deserialize(exported.serialize())
    assert found.platforms == ("cpu", "tpu")
    outputs = found.call(model.params, expected["pixel_values"])
    assert list(outputs.keys()) == ["logits", "hidden_states"]
    np.testing.assert_allclose(outputs.logits, expected["logits"], atol=1e-5)
    for index, hidden_states in enumerate(outputs.hidden_states):
        np.testing.assert_allclose(hidden_states, expected[f"hidden_states.{index}"], atol=1e-5)


def test_one_exported_function_takes_any_number_of_images(load):
    model, expected = load("hf_vit_classifier")
    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, 3, 32, 32), jnp.float32)
    exported = export.export(jax.jit(lambda images: model(images).logits))(images)
    for count in (1, 2):
        found = exported.call(expected["pixel_values"][:count])
        np.testing.assert_allclose(found, expected["logits"][:count], atol=1e-5)


def test_an_exported_program_runs_with_jax_alone(load, tmp_path):
    model, expected = load("hf_vit_classifier")
    exported = export.export(jax.jit(lambda images: model(images).logits))(expected["pixel_values"])
    (tmp_path / "model.bin").write_bytes(exported.serialize())
    np.save(tmp_path / "images.npy", expected["pixel_values"])
    code = (
        "import sys\n"
        "for name in ('flax', 'optax', 'vit_core', 'vit_flax'): sys.modules[name] = None\n"
        "import numpy as np; from jax import export; from pathlib import Path\n"
        "program = export.deserialize(Path('model.bin').read_bytes())\n"
        "np.save('logits.npy', program.call(np.load('images.npy')))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected["logits"], atol=1e-5)
