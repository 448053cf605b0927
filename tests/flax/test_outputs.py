import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from vit_core import BaseModelOutputWithPooling, ImageClassifierOutput, MaskedImageModelingOutput
from vit_flax import (
    FlaxBaseModelOutputWithPooling,
    FlaxMaskedImageModelingOutput,
    FlaxSequenceClassifierOutput,
    FlaxViTForImageClassification,
    FlaxViTForMaskedImageModeling,
    FlaxViTModel,
)

IMAGES = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
CLASSES = {
    FlaxBaseModelOutputWithPooling: BaseModelOutputWithPooling,
    FlaxSequenceClassifierOutput: ImageClassifierOutput,
    FlaxMaskedImageModelingOutput: MaskedImageModelingOutput,
}
LABELS = np.array([0, 4])
EVERYTHING = {"labels": LABELS, "output_hidden_states": True, "output_attentions": True}


@pytest.fixture
def classifier(load):
    """A classifier with three layers, of transformers' weights."""
    return load("hf_vit_classifier")[0]


def assert_an_output(output):
    """Attribute, key, index, slice, and to_tuple give the same items, and None is none."""
    names = ["loss", "logits", "hidden_states", "attentions"]
    assert type(output) is FlaxSequenceClassifierOutput
    assert list(output.keys()) == list(dict(**output)) == names
    assert len(output) == 4
    loss, logits, hidden_states, attentions = output.to_tuple()
    assert output.loss is output["loss"] is output[0] is loss
    assert output.logits is output["logits"] is output[1] is logits
    assert output.attentions is output[-1] is output.to_tuple()[3] is attentions
    assert [one is other for one, other in zip(output[:2], (loss, logits), strict=True)] == [True, True]
    assert type(hidden_states) is type(attentions) is tuple
    assert (len(hidden_states), len(attentions)) == (4, 3)
    assert loss.shape == ()
    assert logits.shape == (2, 10)
    assert hidden_states[0].shape == (2, 17, 32)
    assert attentions[0].shape == (2, 4, 17, 17)


def test_an_output_answers_in_every_way_inside_jit_and_returned_from_it(classifier):
    @jax.jit
    def run(pixel_values):
        output = classifier(pixel_values, **EVERYTHING)
        assert_an_output(output)
        return output

    assert_an_output(run(IMAGES))


@pytest.mark.parametrize(
    ("model_class", "output_class", "options", "names"),
    [
        (FlaxViTModel, FlaxBaseModelOutputWithPooling, {}, ["last_hidden_state", "pooler_output"]),
        (FlaxViTForImageClassification, FlaxSequenceClassifierOutput, {"labels": LABELS}, ["loss", "logits"]),
        (FlaxViTForImageClassification, FlaxSequenceClassifierOutput, {}, ["logits"]),
        (
            FlaxViTForMaskedImageModeling,
            FlaxMaskedImageModelingOutput,
            {"bool_masked_pos": np.ones((2, 16), bool)},
            ["loss", "reconstruction"],
        ),
    ],
)
def test_every_model_returns_its_class(tiny_config, model_class, output_class, options, names):
    model = model_class(tiny_config, _do_init=False)
    output = jax.eval_shape(lambda params: model(IMAGES, params=params, **options), model.params_shape_tree)
    assert type(output) is output_class
    assert isinstance(output, CLASSES[output_class])  # the core's, too
    assert list(output.keys()) == names
    if output_class is FlaxMaskedImageModelingOutput:
        assert output.logits is output.reconstruction


def test_a_missing_item_is_named_with_those_there_are():
    output = FlaxSequenceClassifierOutput(logits=1)
    assert output.loss is None
    assert "loss" not in output
    with pytest.raises(KeyError, match="'loss' is not in this output, which has logits"):
        output["loss"]


def test_replace_sets_fields_anew_and_leaves_the_output_as_it_is():
    output = FlaxSequenceClassifierOutput(loss=1, logits=2)
    changed = output.replace(loss=None, attentions=(3,))
    assert type(changed) is FlaxSequenceClassifierOutput
    assert changed.to_tuple() == (2, (3,))
    assert output.to_tuple() == (1, 2)
    with pytest.raises(TypeError, match="logit"):
        output.replace(logit=1)


# As pytrees


def example(output_class, value=1.0):
    """An output with some fields, and their names."""
    name = list(output_class.__dataclass_fields__)[1]
    return output_class(
        **{name: jnp.float32(value), "attentions": (jnp.float32(2 * value), jnp.float32(3 * value))}
    ), name


@pytest.mark.parametrize("output_class", CLASSES)
def test_fields_that_are_none_are_no_leaves(output_class):
    output, name = example(output_class)
    assert [float(leaf) for leaf in jax.tree.leaves(output)] == [1, 2, 3]
    doubled = jax.tree.map(lambda leaf: 2 * leaf, output)
    assert type(doubled) is output_class
    assert list(doubled.keys()) == [name, "attentions"]
    assert [float(each) for each in (doubled[name], *doubled.attentions)] == [2, 4, 6]


@pytest.mark.parametrize("output_class", CLASSES)
def test_an_empty_output_is_an_empty_tree(output_class):
    back = jax.tree.map(abs, output_class())
    assert type(back) is output_class
    assert len(back) == len(jax.tree.leaves(back)) == 0


@pytest.mark.parametrize("output_class", CLASSES)
def test_leaves_are_named_as_the_fields(output_class):
    output, name = example(output_class)
    paths = jax.tree_util.tree_map_with_path(lambda path, _: jax.tree_util.keystr(path), output)
    assert paths[name] == f".{name}"
    assert paths.attentions == (".attentions[0]", ".attentions[1]")


def test_outputs_with_other_items_are_other_trees():
    one, other = FlaxSequenceClassifierOutput(logits=1), FlaxSequenceClassifierOutput(loss=1)
    assert jax.tree.structure(one) != jax.tree.structure(other)
    assert jax.tree.structure(one) == jax.tree.structure(FlaxSequenceClassifierOutput(logits=2))
    with pytest.raises(ValueError, match="loss"):
        jax.tree.map(lambda x, y: x + y, one, other)


@pytest.mark.parametrize("output_class", CLASSES)
def test_outputs_go_into_jit_and_come_out_of_it(output_class):
    output, name = example(output_class)
    found = jax.jit(lambda output: output.replace(**{name: output.attentions[0] + output[name]}))(output)
    assert type(found) is output_class
    assert [float(leaf) for leaf in jax.tree.leaves(found)] == [3, 2, 3]


@pytest.mark.parametrize("output_class", CLASSES)
def test_outputs_come_out_of_vmap(output_class):
    found = jax.vmap(lambda value: example(output_class, value)[0])(jnp.arange(4.0))
    assert type(found) is output_class
    np.testing.assert_array_equal(found.attentions[1], [0, 3, 6, 9])


@pytest.mark.parametrize("output_class", CLASSES)
def test_outputs_are_carried_through_scan_and_stacked_by_it(output_class):
    start, name = example(output_class, 0.0)

    def step(carried, value):
        total = carried.replace(**{name: carried[name] + value})
        return total, total

    last, all_of_them = jax.lax.scan(step, start, jnp.arange(4.0))
    assert type(last) is type(all_of_them) is output_class
    assert last[name] == 6
    np.testing.assert_array_equal(all_of_them[name], [0, 1, 3, 6])


@pytest.mark.parametrize("output_class", CLASSES)
def test_outputs_accompany_gradients(output_class):
    def loss(value):
        output, name = example(output_class, value)
        return output[name] ** 2, output

    gradient, output = jax.grad(loss, has_aux=True)(3.0)
    assert gradient == 6
    assert type(output) is output_class
    assert [float(leaf) for leaf in jax.tree.leaves(output)] == [3, 6, 9]


@pytest.mark.parametrize("output_class", CLASSES)
def test_exported_functions_take_and_return_outputs(output_class):
    output, name = example(output_class)
    doubled = jax.jit(lambda output: jax.tree.map(lambda leaf: 2 * leaf, output))
    found = export.deserialize(export.export(doubled)(output).serialize()).call(output)
    assert type(found) is output_class
    assert list(found.keys()) == [name, "attentions"]
    assert [float(leaf) for leaf in jax.tree.leaves(found)] == [2, 4, 6]


def test_a_models_output_passes_through_vmap_scan_and_grad(classifier):
    run = functools.partial(classifier, labels=LABELS)

    @jax.jit
    def in_every_way(images):
        def loss(params):
            output = run(images[0], params=params)
            return output.loss, output

        _, accompanying = jax.grad(loss, has_aux=True)(classifier.params)
        _, scanned = jax.lax.scan(lambda carried, each: (carried, run(each)), None, images)
        return jax.vmap(run)(images), scanned, accompanying

    images = np.stack([IMAGES, 2 * IMAGES])
    mapped, scanned, accompanying = in_every_way(images)
    plain = [jax.jit(run)(each) for each in images]
    for index, expected in enumerate(plain):
        for found in (mapped, scanned):
            np.testing.assert_allclose(found.logits[index], expected.logits, atol=1e-5)
            np.testing.assert_allclose(found.loss[index], expected.loss, atol=1e-5)
    np.testing.assert_allclose(accompanying.logits, plain[0].logits, atol=1e-5)
