"""The relatives of ViT: the numbers of transformers, to 1e-5 in float32, unrolled and scanned."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import vit_flax
from conversion.published import as_published
from vit_core.families import FAMILIES
from vit_core.parameters import parameters
from vit_flax.parameter_tree import ParameterTree, flatten

TOLERANCE = 1e-5

#: The folder of a checkpoint, and the model that it is of.
CHECKPOINTS = {
    "hf_deit": "DeiTForImageClassificationWithTeacher",
    "hf_deit_classifier": "DeiTForImageClassification",
    "hf_deit_masked": "DeiTForMaskedImageModeling",
    "hf_vit_mae": "ViTMAEForPreTraining",
    "hf_vit_mae_interpolated": "ViTMAEForPreTraining",
    "hf_vit_mae_norm_pix": "ViTMAEForPreTraining",
    "hf_beit_layerwise": "BeitForImageClassification",
    "hf_beit_shared": "BeitForImageClassification",
    "hf_beit_grads": "BeitForImageClassification",
    "hf_beit_large": "BeitForImageClassification",
    "hf_beit_masked_grads": "BeitForMaskedImageModeling",
    "hf_data2vec_vision": "Data2VecVisionForImageClassification",
    "hf_vit_msn": "ViTMSNForImageClassification",
    "hf_ijepa": "IJepaForImageClassification",
    "hf_dinov2": "Dinov2ForImageClassification",
    "hf_dinov2_registers": "Dinov2WithRegistersForImageClassification",
    "hf_dinov2_swiglu": "Dinov2Model",
    "hf_dinov3": "DINOv3ViTModel",
    "hf_dinov3_gated": "DINOv3ViTModel",
    "hf_siglip_vision": "SiglipVisionModel",
    "hf_siglip_headless": "SiglipVisionModel",
    "hf_siglip_classifier": "SiglipForImageClassification",
    "hf_clip_vision": "CLIPVisionModel",
    "hf_clip_projection": "CLIPVisionModelWithProjection",
    "hf_clip_classifier": "CLIPForImageClassification",
}
#: One of each kind of parts, whose layers are scanned, too.
OF_EVERY_PART = [
    *("hf_deit_masked", "hf_vit_mae", "hf_beit_shared", "hf_beit_masked_grads", "hf_dinov2_registers"),
    *("hf_dinov3_gated", "hf_siglip_vision", "hf_clip_projection"),
]
#: Files of both towers, and models of which they have the weights.
WHOLE = [
    ("hf_siglip_full", "SiglipVisionModel"),
    ("hf_clip_full", "CLIPVisionModel"),
    ("hf_clip_full", "CLIPVisionModelWithProjection"),
]
INPUTS = ("pixel_values", "labels", "bool_masked_pos", "noise")
#: What runs once, the compiler need not make fast.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def load(fixture_folder, name, model=None, **options):
    with np.load(fixture_folder / name / "expected.npz") as file:
        expected = dict(file)
    model_class = getattr(vit_flax, f"Flax{model or CHECKPOINTS[name]}")
    return model_class.from_pretrained(fixture_folder / name, **options), expected


def inputs(name, expected):
    asked = {"interpolate_pos_encoding": True} if name == "hf_vit_mae_interpolated" else {}
    given = {key: expected[key] for key in INPUTS if key in expected}
    if of_kind("masked", expected):  # the mask is for these alone
        del given["bool_masked_pos"]
    return given | asked


def of_kind(kind, expected):
    """What a call of another kind returns: for larger images, or with a mask."""
    return {key.removeprefix(f"{kind}/"): value for key, value in expected.items() if key.startswith(f"{kind}/")}


def assert_close(actual, expected, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    assert np.abs(np.asarray(actual) - expected).max() <= tolerance


def assert_every_result(outputs, expected):
    found = dict(outputs.items())
    for several in ("hidden_states", "attentions"):
        found |= {f"{several}.{index}": each for index, each in enumerate(found.pop(several, ()))}
    wanted = {key for key in expected if "/" not in key and not key.startswith((*INPUTS, "head_mask"))}
    wanted -= {key for key in wanted if key.startswith(("hidden_states", "attentions")) and key not in found}
    assert wanted & {"logits", "reconstruction", "last_hidden_state"}
    for key in wanted:
        assert_close(found[key], expected[key])


#: Checkpoints with gradients, and those of them whose gradients are also computed with layers that are scanned.
DIFFERENTIATED = [
    *("hf_deit_classifier", "hf_deit_masked", "hf_vit_mae", "hf_vit_mae_interpolated", "hf_vit_mae_norm_pix"),
    *("hf_beit_grads", "hf_beit_masked_grads", "hf_data2vec_vision", "hf_vit_msn", "hf_ijepa"),
    *("hf_dinov2", "hf_dinov2_registers", "hf_siglip_classifier", "hf_clip_classifier"),
]
DIFFERENTIATED_SCANNED = ["hf_vit_mae", "hf_beit_masked_grads", "hf_dinov2_registers"]


def calls(name, model, expected):
    """What the checkpoint is run with: (what was asked for, or whose results under a name are compared) -> options."""
    given, is_large = inputs(name, expected), bool(of_kind("large", expected))
    found = {"everything": {**given, "output_hidden_states": True, "output_attentions": True}}
    if name in DIFFERENTIATED or not is_large:  # larger images alone ask for nothing either
        found["plain"] = given
    if is_large:
        asked = {} if model.config.architecture.resamples_unasked else {"interpolate_pos_encoding": True}
        found["large"] = {"pixel_values": expected["pixel_values_large"], **asked}
    if of_kind("masked", expected):
        found["masked"] = {**given, "bool_masked_pos": expected["bool_masked_pos"]}
    return found


@functools.cache
def results_of(folder, name, scan_layers):
    """All results of a checkpoint, and the gradients of its loss, from one function: compiling takes the time.

    Returns the model, what is expected, the outputs of each call, and the gradients, None where nothing tells them.
    """
    is_differentiated = name in (DIFFERENTIATED_SCANNED if scan_layers else DIFFERENTIATED)
    model, expected = load(folder, name, scan_layers=scan_layers, remat=scan_layers and is_differentiated)
    of_each = calls(name, model, expected)

    def run(params):
        outputs = {kind: model(**given, params=params) for kind, given in of_each.items()}
        return outputs["plain"].loss if is_differentiated else 0.0, outputs

    run = jax.grad(run, has_aux=True) if is_differentiated else run
    gradients, outputs = jax.jit(run, compiler_options=QUICKLY)(model.params)
    return model, expected, outputs, gradients if is_differentiated else None


@pytest.mark.parametrize(
    ("name", "scan_layers"), [*((name, False) for name in CHECKPOINTS), *((name, True) for name in OF_EVERY_PART)]
)
def test_every_result(fixture_folder, name, scan_layers):
    model, expected, outputs, _ = results_of(fixture_folder, name, scan_layers)
    assert len(outputs["everything"].hidden_states) == model.config.num_hidden_layers + 1
    assert len(outputs["everything"].attentions) == model.config.num_hidden_layers
    for kind, output in outputs.items():
        if kind in ("everything", "plain"):
            assert_every_result(output, expected)
        else:
            for key, value in of_kind(kind, expected).items():
                assert_close(output[key], value)


def test_every_result_step_by_step(fixture_folder):
    """Without a compiler each operation is compiled by itself, which takes longer."""
    name = "hf_dinov3_gated"
    model, expected = load(fixture_folder, name)
    assert_every_result(model(**inputs(name, expected)), expected)


@pytest.mark.parametrize(
    ("name", "scan_layers"),
    [*((name, False) for name in DIFFERENTIATED), *((name, True) for name in DIFFERENTIATED_SCANNED)],
)
def test_the_gradient_of_every_parameter(fixture_folder, name, scan_layers):
    model, expected, _, gradients = results_of(fixture_folder, name, scan_layers)
    found = as_published(model.tree.stored(gradients), model.config)
    references = of_kind("grad", expected)
    largest_of_all = max(np.abs(reference).max() for reference in references.values())
    assert references.keys() <= found.keys()
    for name, gradient in found.items():
        if name not in references:  # what is fixed, or idle
            assert not np.any(gradient.read())
            continue
        # Softmax does not change when the same is added to all scores, so a key bias has no gradient but rounding.
        is_key_bias = name.endswith(("key.bias", "k_proj.bias"))
        largest = 0.01 * largest_of_all if is_key_bias else np.abs(references[name]).max()
        assert_close(gradient.read(), references[name], TOLERANCE * largest)


@pytest.mark.filterwarnings("ignore:.*the text tower, .* is left out")
@pytest.mark.parametrize(("name", "model"), WHOLE)
def test_the_image_tower_of_a_file_of_both(fixture_folder, name, model):
    model, expected = load(fixture_folder, name, model)
    outputs = jax.jit(model.__call__, compiler_options=QUICKLY)(expected["pixel_values"])
    assert len(outputs) == 2
    for key, value in outputs.items():
        assert_close(value, expected[key])


@pytest.mark.parametrize("name", ["hf_dinov2_registers", "hf_dinov3_gated", "hf_siglip_vision", "hf_clip_projection"])
def test_half_precision_stays_near(fixture_folder, name):
    model, expected = load(fixture_folder, name, dtype=jnp.bfloat16)
    outputs = jax.jit(model, compiler_options=QUICKLY)(expected["pixel_values"])
    for key, value in outputs.items():
        assert value.dtype == jnp.bfloat16
        assert_close(value.astype(jnp.float32), expected[key], 2e-2 * np.abs(expected[key]).max())


# Any model of any family


#: Configs of our own that together have every option.
OPTIONS = [
    {},
    {
        "prefix_tokens": ("cls_token", "distillation_token"),
        "register_tokens": 2,
        "absolute_positions": "sincos",
        "embedding_norm": True,
        "query_key_norm": True,
        "gated_mlp": True,
        "norm": "rms",
        "patch_norm": True,
        "rotary_positions": "centres",
        "relative_positions": None,
        "pooler": "patch-attention",
        "pooler_attention_heads": 2,
        "keeps_pooler": True,
    },
    {
        "prefix_tokens": (),
        "relative_positions": "layers",
        "final_norm": False,
        "patch_bias": False,
        "query_bias": False,
        "value_bias": False,
        "output_bias": False,
        "mlp_bias": False,
        "attention_norm": True,
        "mlp_norm": True,
        "mlp_dropout": False,
        "halves": "post-norm",
        "rotary_positions": "mixed",
        "layer_scale": None,
        "position_resampling": "antialiased",
        "pooler": "mean-norm",
        "classifier_reads": "pooler",
    },
    {
        "register_tokens": 3,
        "positioned": "class-token",
        "position_resampling": "offset",
        "rotary_positions": "indices",
        "rotary_grid": (3, 5),
        "rotary_first": "columns",
        "rotary_offset": 1.0,
        "drop_path_growth": "constant",
        "halves": "parallel",
        "resamples_unasked": True,
        "pooler": "class-norm",
        "classifier_reads": "class-and-mean",
    },
]


def small_config(family, task="model", options=()):
    fields = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
        "num_labels": 5,
    }
    known = family.config_class()
    own = {
        "intermediate_size": 48,
        "mlp_ratio": 1.5,
        "num_register_tokens": 2,
        "projection_dim": 12,
        "encoder_stride": 8,
        "vocab_size": 24,
        "drop_path_rate": 0.2,
        "decoder_hidden_size": 16,
        "decoder_num_hidden_layers": 2,
        "decoder_num_attention_heads": 4,
        "decoder_intermediate_size": 24,
        "use_relative_position_bias": True,
        "relative_positions": "shared",
        "layer_scale": 0.1,
    }
    fields |= {name: value for name, value in own.items() if hasattr(known, name)}
    if hasattr(known, "mlp_ratio"):  # from which the other follows
        del fields["intermediate_size"]
    return family.config_classes.get(task, family.config_class)(**{**fields, **dict(options)})


MODELS = [
    (family, task, options)
    for family in FAMILIES.values()
    for options in (OPTIONS if family.model_type == "vision_transformer" else OPTIONS[:1])
    for task in family.models
]
#: One of each kind of parts, for what takes seconds to compile.
OF_EACH_KIND = [
    (FAMILIES[name], task, OPTIONS[number])
    for name, task, number in (
        ("deit", "image-classification-with-teacher", 0),
        ("deit", "masked-image-modeling", 0),
        ("vit_mae", "pre-training", 0),
        ("beit", "image-classification", 0),
        ("beit", "masked-token-modeling", 0),
        ("dinov3_vit", "model", 0),
        ("clip_vision_model", "image-projection", 0),
        *(("vision_transformer", "image-classification", number) for number in range(1, len(OPTIONS))),
    )
]


def name_of(case):
    family, task, options = case
    return family.models[task] + (f"-{OPTIONS.index(options)}" if options else "")


one_of_each_kind = pytest.mark.parametrize(("family", "task", "fields"), OF_EACH_KIND, ids=map(name_of, OF_EACH_KIND))


def small_model(family, task, fields=(), **options):
    return getattr(vit_flax, f"Flax{family.models[task]}")(small_config(family, task, fields), **options)


def noise_for(model, batch=1):
    noise = np.random.default_rng(0).random((batch, 16), np.float32)
    return {"noise": jnp.asarray(noise)} if hasattr(model.config, "mask_ratio") else {}


#: Each model, and one of each config with layers that are scanned: heads are not.
STARTED = [(*case, False) for case in MODELS] + [
    (*case, True)
    for case in {(family.model_type, str(fields)): (family, task, fields) for family, task, fields in MODELS}.values()
]


@pytest.mark.parametrize(
    ("family", "task", "fields", "scan_layers"),
    STARTED,
    ids=[name_of(case) + "-scanned" * scan_layers for *case, scan_layers in STARTED],
)
def test_what_init_makes_follows_the_table_with_its_axes(family, task, fields, scan_layers):
    model = small_model(family, task, fields, _do_init=False, scan_layers=scan_layers)
    named = []

    class Recorded(vit_flax.Partitioning):
        def placed(self, start, axes, layer):
            def recorded(key, shape, dtype):
                named.extend((tuple(shape), axis, name) for axis, name in enumerate(axes) if name is not None)
                return start(key, shape, dtype)

            return recorded

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    module = model.module.clone(partitioning=Recorded(mesh))
    made = jax.eval_shape(module.init, model.key, jnp.zeros((1, 32, 32, 3)))["params"]
    assert {path: leaf.shape for path, leaf in flatten(made).items()} == model.tree.shapes
    assert {row.name for row in model.parameter_table()} == {row.name for row in parameters(model.config, task)}
    of_any_module = ParameterTree.of_shapes(model.tree.shapes, model.base_model_prefix, type(model.config))
    assert of_any_module.tensor_shapes == model.tree.tensor_shapes
    assert not of_any_module.extras
    of_rows = set()
    for row in model.parameter_table():
        order = model.layout.leaves[row.kind].axes or range(len(row.shape))
        of_rows |= {(model.layout.shape(row), place, row.axes[axis]) for place, axis in enumerate(order)}
    assert named
    assert set(named) <= of_rows


@one_of_each_kind
def test_a_model_is_saved_and_loaded_in_every_way(family, task, fields, tmp_path):
    model = small_model(family, task, fields)
    for number, (options, scanned) in enumerate((({}, (False, True)), ({"safe_serialization": False}, (False,)))):
        model.save_pretrained(tmp_path / str(number), **options)
        for scan_layers in scanned:
            loaded = type(model).from_pretrained(tmp_path / str(number), scan_layers=scan_layers)
            assert loaded.config.architecture == model.config.architecture
            found = vit_flax.unstack_layers(loaded.params) if scan_layers else loaded.params
            assert jax.tree.all(jax.tree.map(np.array_equal, found, model.params))
    scanned = type(model).from_pretrained(tmp_path / "0", scan_layers=True)
    scanned.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again/model.safetensors").read_bytes() == (tmp_path / "0/model.safetensors").read_bytes()


#: Each kind unrolled, and those with parts of layers of their own with layers that are scanned.
MULTIPLIED = [(*case, False) for case in OF_EACH_KIND] + [
    (*case, True) for case in OF_EACH_KIND if case[0].model_type in ("vit_mae", "vision_transformer")
]


@pytest.mark.parametrize(
    ("family", "task", "fields", "scan_layers"),
    MULTIPLIED,
    ids=[name_of(case) + "-scanned" * scan_layers for *case, scan_layers in MULTIPLIED],
)
def test_half_precision_multiplies_in_half_precision_alone(family, task, fields, scan_layers):
    model = small_model(family, task, fields, dtype=jnp.bfloat16, scan_layers=scan_layers)

    def loss(params):
        outputs = model(
            jnp.ones((2, 3, 32, 32)), params=params, dropout_rng=jax.random.key(0), train=True, **noise_for(model, 2)
        )
        return sum(each.astype(jnp.float32).sum() for each in outputs.to_tuple() if each.dtype == jnp.bfloat16)

    assert operand_dtypes(jax.make_jaxpr(jax.grad(loss))(model.params).jaxpr) == {"bfloat16"}


def operand_dtypes(jaxpr):
    found = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            found |= {each.aval.dtype.name for each in equation.invars}
        for each in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            inner = getattr(each, "jaxpr", each)
            if hasattr(inner, "eqns"):
                found |= operand_dtypes(inner)
    return found


# Drop path


@pytest.mark.parametrize("scan_layers", [False, True], ids=["unrolled", "scanned"])
def test_drop_path_is_decided_by_the_key_image_by_image(scan_layers):
    config = small_config(FAMILIES["beit"]).replaced(drop_path_rate=0.5)
    model = vit_flax.FlaxBeitModel(config, scan_layers=scan_layers)
    images = np.repeat(np.random.default_rng(0).random((1, 3, 32, 32), np.float32), 16, axis=0)

    def run(seed):
        return np.asarray(model(images, dropout_rng=jax.random.key(seed), train=True).pooler_output)

    np.testing.assert_array_equal(run(0), run(0))
    assert (run(0) != run(1)).any()
    assert 2 <= len(np.unique(run(0).round(4), axis=0)) <= 4  # two halves of the last layer
    plain = np.asarray(model(images).pooler_output)
    assert len(np.unique(plain.round(4), axis=0)) == 1


def test_drop_path_without_random_numbers_is_a_sentence():
    model = vit_flax.FlaxBeitModel(small_config(FAMILIES["beit"]))
    with pytest.raises(ValueError, match="pass dropout_rng=jax.random.key"):
        model(np.zeros((1, 3, 32, 32), np.float32), train=True)


# What is computed, and what is not


@pytest.mark.parametrize("number", range(1, len(OPTIONS)))
def test_what_nobody_reads_is_not_computed_and_changes_nothing(number):
    model = small_model(FAMILIES["vision_transformer"], "image-classification", OPTIONS[number])
    images = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def run(params):
        seen = model(images, params=params, output_hidden_states=True).logits
        return model(images, params=params).logits, seen

    short, whole = run(model.params)
    np.testing.assert_allclose(short, whole, atol=TOLERANCE)
    _, state = model.module.apply({"params": model.params}, images.transpose(0, 2, 3, 1), capture_intermediates=True)
    assert ("pooler" in state["intermediates"]["vit"]) == (model.config.classifier_reads == "pooler")


# Masked autoencoders


def autoencoder(**options):
    return small_model(FAMILIES["vit_mae"], "pre-training", **options)


def test_noise_is_given_or_drawn_by_the_key():
    model, images = autoencoder(), np.ones((2, 3, 32, 32), np.float32)
    masks = [np.asarray(model(images, dropout_rng=jax.random.key(seed)).mask) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()
    assert (masks[0].sum(1) == 12).all()
    with pytest.raises(ValueError, match=r"pass noise of shape \(batch, patches\), or dropout_rng"):
        model(images)
    with pytest.raises(ValueError, match=r"noise has shape \(2, 15\); one entry for each patch is needed, \(2, 16\)"):
        jax.jit(model)(images, np.ones((2, 15), np.float32))


def test_patches_of_pixels_are_put_together_again():
    model = autoencoder(_do_init=False)
    images = np.random.default_rng(0).random((2, 3, 24, 40), np.float32)
    patches = model.patchify(images, interpolate_pos_encoding=True)
    assert patches.shape == (2, 15, 192)
    np.testing.assert_array_equal(model.unpatchify(patches, (24, 40)), images)
    with pytest.raises(ValueError, match="give the original_image_size"):
        model.unpatchify(patches)
    with pytest.raises(ValueError, match="30 pixels high, which patches of 8 do not fill"):
        model.patchify(images.transpose(0, 1, 3, 2)[:, :, :30])


# Masked tokens


def test_labels_of_masked_tokens_that_do_not_fit_are_sentences_and_nan_under_jit():
    config = small_config(FAMILIES["beit"]).replaced(use_mask_token=True)
    model = vit_flax.FlaxBeitForMaskedImageModeling(config)
    images, mask = np.zeros((2, 3, 32, 32), np.float32), np.arange(32).reshape(2, 16) % 4 == 0
    run = functools.partial(model, images)
    assert np.isfinite(run(mask, labels=np.arange(8)).loss)
    assert np.isfinite(jax.jit(lambda labels, mask: run(mask, labels=labels).loss)(np.arange(8), mask))
    with pytest.raises(ValueError, match="labels hold 7 visual tokens for 8 masked patches"):
        run(mask, labels=np.arange(7))
    assert np.isnan(jax.jit(lambda labels, mask: run(mask, labels=labels).loss)(np.arange(7), mask))
    with pytest.raises(ValueError, match="pass bool_masked_pos with them"):
        run(labels=np.arange(8))


# On a mesh


@pytest.mark.parametrize(
    ("name", "task", "number", "rules", "scan_layers"),
    [
        ("vit_mae", "pre-training", 0, vit_flax.FSDP, False),
        ("vision_transformer", "model", 1, vit_flax.FSDP, False),
        ("vit_mae", "pre-training", 0, vit_flax.TENSOR_PARALLEL, True),
        ("beit", "masked-token-modeling", 0, vit_flax.TENSOR_PARALLEL, True),
        ("vision_transformer", "model", 0, vit_flax.TENSOR_PARALLEL, False),
        ("vision_transformer", "model", 1, vit_flax.TENSOR_PARALLEL, True),
        ("vision_transformer", "image-classification", 2, vit_flax.TENSOR_PARALLEL, True),
        ("clip_vision_model", "image-projection", 0, vit_flax.FSDP, True),
    ],
)
def test_a_model_spread_over_a_mesh_returns_the_same(name, task, number, rules, scan_layers):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "model"))
    options = {"scan_layers": scan_layers, "_do_init": False}  # test_sharding.py has random starts on a mesh
    plain = small_model(FAMILIES[name], task, OPTIONS[number], **options)
    partitioning = vit_flax.Partitioning(mesh, rules)
    spread = small_model(FAMILIES[name], task, OPTIONS[number], partitioning=partitioning, **options)
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: random.normal(0, 0.1, leaf.shape).astype("float32"), plain.params_shape_tree)
    images = random.random((4, 3, 32, 32), np.float32)

    def run(model, params):
        return jax.jit(lambda params: model(images, params=params, **noise_for(model, 4)).to_tuple())(params)

    found = run(spread, jax.device_put(params, spread.parameter_shardings()))
    for one, other in zip(found, run(plain, params), strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCE)


# Exported


@pytest.mark.parametrize(
    ("name", "task"),
    [("beit", "image-classification"), ("vit_mae", "pre-training"), ("clip_vision_model", "image-projection")],
)
def test_an_exported_model_returns_the_same(name, task):
    model = small_model(FAMILIES[name], task)
    images, given = np.random.default_rng(0).random((2, 3, 32, 32), np.float32), noise_for(model, 2)
    run = jax.jit(lambda params, images, given: model(images, params=params, **given))
    exported = jax.export.deserialize(jax.export.export(run)(model.params, images, given).serialize())
    expected = run(model.params, images, given)
    found = exported.call(model.params, images, given)
    assert type(found) is type(expected)
    for one, other in zip(found.to_tuple(), expected.to_tuple(), strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCE)
