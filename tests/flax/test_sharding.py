"""Models on meshes of eight devices: the numbers of one device, each device with its part, and no needless exchange."""

import functools
import json
import math
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.training.train_state import TrainState
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vit_flax import (
    DATA_PARALLEL,
    FSDP,
    TENSOR_PARALLEL,
    FlaxViTForImageClassification,
    Partitioning,
    ViTConfig,
)
from vit_flax.parameter_tree import flatten

TOLERANCE = 1e-6
IMAGES = np.random.default_rng(0).normal(size=(16, 3, 32, 32)).astype("float32")
LABELS = np.arange(16, dtype="int32") % 5
OPTIMIZER = optax.adamw(1e-3, eps=1e-4)  # with a smaller eps, what is nearly zero is divided by what is nearly zero
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # to compile, not to run

BOTH = (*TENSOR_PARALLEL, ("hidden", "data"))
RULES = {"data parallel": DATA_PARALLEL, "FSDP": FSDP, "tensor parallel": TENSOR_PARALLEL, "both": BOTH}
SPLIT_BY_HEADS_OR_MLP = re.compile(
    r"(query|key|value|intermediate/dense)/(kernel|bias)$|(attention|layer(/\d)?)/output/dense/kernel$"
)
WITHOUT_HIDDEN = re.compile(r"((query|key|value|intermediate/dense)|classifier)/bias$")


def partitioning(case):
    """The rules of a case, on eight devices."""
    one_axis = Mesh(np.array(jax.devices()), ("data",))
    two_axes = Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "model"))
    return Partitioning(one_axis if case in ("data parallel", "FSDP") else two_axes, RULES[case])


def parts(case, path):
    """How many different parts the devices hold of a parameter."""
    name = "/".join(path)
    model = 4 if SPLIT_BY_HEADS_OR_MLP.search(name) else 1
    hidden = 1 if WITHOUT_HIDDEN.search(name) else 2
    return {
        "data parallel": 1,
        "FSDP": 1 if name == "classifier/bias" else 8,  # "labels" are not split
        "tensor parallel": model,
        "both": model * hidden,
    }[case]


def assert_each_device_holds_its_part(case, tree):
    for path, leaf in flatten(tree).items():
        sizes = {math.prod(shard.data.shape) for shard in leaf.addressable_shards}
        assert sizes == {leaf.size // parts(case, path)}, path
        assert len({str(shard.index) for shard in leaf.addressable_shards}) == parts(case, path), path


def assert_close(actual, expected, tolerance=TOLERANCE):
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=0, atol=tolerance)


def numbers(model):
    """Parameters for a model that cost no compilation."""
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: random.normal(0, 0.1, leaf.shape).astype("float32"), model.params_shape_tree)


def create(params):
    return TrainState.create(apply_fn=None, params=params, tx=OPTIMIZER)


def trained(model, state, images, labels, **how):
    """A compiled step, and what it returns."""

    def step(state, images, labels):
        def loss(params):
            return model(images, params=params, labels=labels, train=True).loss

        value, gradients = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=gradients), value

    compiled = jax.jit(step, **how).lower(state, images, labels).compile(FAST)
    return compiled, *compiled(state, images, labels)


@functools.lru_cache
def of_one_device(config, scan_layers):
    """Parameters, and what a step on one device makes of them."""
    model = FlaxViTForImageClassification(
        ViTConfig.from_dict(json.loads(config)), scan_layers=scan_layers, _do_init=False
    )
    params = numbers(model)
    _, state, loss = trained(model, create(params), IMAGES, LABELS)
    return params, state, loss


def compiled_forward(model, params, images, **options):
    return (
        jax.jit(lambda params, images: model(images, params=params, **options).logits)
        .lower(params, images)
        .compile(FAST)
    )


def collectives(compiled):
    """Each exchange between devices that a program holds: what kind, and the sizes of the arrays that come of it."""
    found = []
    for line in compiled.as_text().splitlines():
        kind = re.search(
            r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|ragged-all-to-all|collective-\w+)(-start)?\(",
            line,
        )
        if kind:
            shapes = re.findall(r"\w+\[([\d,]*)\]", kind[1])
            found.append((kind[2], [math.prod(int(size) for size in shape.split(",") if size) for shape in shapes]))
    return found


def test_the_collectives_of_a_program_are_seen():
    """Else the tests below could not fail."""
    mesh = partitioning("FSDP").mesh
    split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    gathered = jax.jit(lambda x: x, out_shardings=whole).lower(jax.ShapeDtypeStruct((16,), "float32", sharding=split))
    assert collectives(gathered.compile()) == [("all-gather", [16])]
    turned = NamedSharding(mesh, P(None, "data"))
    square = jax.ShapeDtypeStruct((16, 16), "float32", sharding=NamedSharding(mesh, P("data", None)))
    transposed = jax.jit(lambda x: x, out_shardings=turned).lower(square)
    assert {kind for kind, _ in collectives(transposed.compile())} == {"all-to-all"}


#: Each set of rules, and those that split layers also with layers that are scanned.
CASES = [
    *((case, False) for case in ("data parallel", "FSDP", "tensor parallel")),
    *((case, True) for case in ("FSDP", "tensor parallel", "both")),
]
in_each_case = pytest.mark.parametrize(
    ("case", "scan_layers"), CASES, ids=[case + ", scanned" * scan_layers for case, scan_layers in CASES]
)


@in_each_case
def test_a_step_on_a_mesh_is_that_of_one_device(tiny_config, case, scan_layers):
    params, expected_state, expected_loss = of_one_device(tiny_config.to_json_string(), scan_layers)
    on = partitioning(case)
    model = FlaxViTForImageClassification(tiny_config, scan_layers=scan_layers, partitioning=on, _do_init=False)
    shardings = model.state_shardings(jax.eval_shape(create, params))
    state = jax.device_put(create(params), shardings)
    assert_each_device_holds_its_part(case, state.params)
    images, labels = jax.device_put((IMAGES, LABELS), on.sharding("batch"))
    program, new_state, loss = trained(model, state, images, labels, out_shardings=(shardings, on.sharding()))

    assert_close(loss, expected_loss)
    assert_close(new_state.params, expected_state.params)
    assert_close(new_state.opt_state, expected_state.opt_state)
    moments = new_state.opt_state[0]
    for tree in (new_state.params, moments.mu, moments.nu):
        assert_each_device_holds_its_part(case, tree)

    exchanged = collectives(program)
    kinds = {kind for kind, _ in exchanged}
    allowed = {
        "data parallel": {"all-reduce"},
        "FSDP": {"all-gather", "all-reduce", "reduce-scatter"},
        "tensor parallel": {"all-reduce"},
        "both": kinds,  # the compiler goes ways of its own with what has no axis on "model"
    }
    assert kinds <= allowed[case]
    assert kinds & {"all-reduce", "reduce-scatter"}
    # Parameters travel, and class tokens, but not the tokens of images, of which there are 17 each.
    positions = 17 * tiny_config.hidden_size
    for kind, sizes in exchanged:
        if kind not in ("all-reduce", "reduce-scatter"):
            assert all(size % 17 or size == positions for size in sizes)


@pytest.mark.parametrize(("case", "scan_layers"), CASES[:-1])
def test_a_forward_pass_exchanges_no_more_than_its_rules_need(tiny_config, case, scan_layers):
    on = partitioning(case)
    model = FlaxViTForImageClassification(tiny_config, scan_layers=scan_layers, partitioning=on, _do_init=False)
    params = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        model.params_shape_tree,
        model.parameter_shardings(),
    )
    images = jax.ShapeDtypeStruct(IMAGES.shape, IMAGES.dtype, sharding=on.sharding("batch"))
    exchanged = collectives(compiled_forward(model, params, images))
    kinds = Counter(kind for kind, _ in exchanged)
    if case == "data parallel":
        assert not exchanged
    elif case == "tensor parallel":
        # After attention and after the MLP (section 3 of the paper); the program holds a scanned layer once.
        assert kinds == {"all-reduce": 2 if scan_layers else 2 * tiny_config.num_hidden_layers}
    else:
        # Each parameter is gathered once, those of scanned layers one layer at a time.
        assert kinds == {"all-gather": len(jax.tree.leaves(params)) - 1}
        sizes = Counter(
            leaf.size // (leaf.shape[0] if scan_layers and "layer" in path else 1)
            for path, leaf in flatten(params).items()
            if path != ("classifier", "bias")
        )
        assert Counter(max(sizes) for _, sizes in exchanged) == sizes


@pytest.mark.parametrize(
    ("case", "scan_layers"), [("FSDP", False), ("tensor parallel", True)], ids=["FSDP", "tensor parallel, scanned"]
)
def test_a_random_start_on_a_mesh_has_the_numbers_of_one_device(tiny_config, case, scan_layers):
    tiny_config.num_hidden_layers = 1
    expected = FlaxViTForImageClassification(tiny_config, scan_layers=scan_layers)
    model = FlaxViTForImageClassification(tiny_config, scan_layers=scan_layers, partitioning=partitioning(case))
    assert_close(model.params, expected.params, tolerance=0)
    assert_each_device_holds_its_part(case, model.params)


def test_no_device_makes_a_parameter_whole_that_it_holds_a_part_of():
    """Each array of the compiled program is at most a part of the large parameters."""
    config = ViTConfig(
        hidden_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=1024,
        image_size=16,
        patch_size=8,
        num_channels=1,
        num_labels=2,
    )
    on = partitioning("FSDP")
    model = FlaxViTForImageClassification(config, partitioning=on, _do_init=False)

    def start(key):
        return nn.unbox(model.module.init(key, jnp.zeros((1, 16, 16, 1)))["params"])

    program = jax.jit(start, out_shardings=model.parameter_shardings()).lower(model.key).compile(FAST)
    held = [
        math.prod(int(size) for size in shape.split(","))
        for shape in re.findall(r"\b[fu]\d+\[([\d,]+)\]", program.as_text())
    ]
    assert max(held) == 64 * 1024 // 8
    assert not collectives(program)


@pytest.fixture
def read(monkeypatch):
    """The shapes of what is read from a checkpoint, by the shape of the array that it is for."""
    shapes, make = {}, jax.make_array_from_callback

    def watched(shape, sharding, part):
        def watched_part(index):
            array = part(index)
            shapes.setdefault((shape, sharding), set()).add(array.shape)
            return array

        return make(shape, sharding, watched_part)

    monkeypatch.setattr(jax, "make_array_from_callback", watched)
    return shapes


@in_each_case
def test_loading_onto_a_mesh_reads_for_each_device_its_part(read, case, scan_layers):
    on = partitioning(case)
    expected = FlaxViTForImageClassification.from_pretrained("bundled/vit-digits", scan_layers=scan_layers)
    assert not read
    model = FlaxViTForImageClassification.from_pretrained(
        "bundled/vit-digits", scan_layers=scan_layers, partitioning=on
    )
    assert_close(model.params, expected.params, tolerance=0)
    assert_each_device_holds_its_part(case, model.params)
    assert read.keys() == {(leaf.shape, leaf.sharding) for leaf in jax.tree.leaves(model.params)}
    for (shape, sharding), shapes in read.items():
        assert shapes == {sharding.shard_shape(shape)}


def test_loading_onto_a_mesh_places_a_new_head_there_too():
    with pytest.warns(UserWarning, match="start at random"):
        model = FlaxViTForImageClassification.from_pretrained(
            "bundled/vit-digits", num_labels=12, ignore_mismatched_sizes=True, partitioning=partitioning("FSDP")
        )
    assert model.params["classifier"]["kernel"].shape == (56, 12)
    assert model.params["classifier"]["kernel"].std() > 0
    assert_each_device_holds_its_part("FSDP", model.params)


@pytest.mark.parametrize("scan_layers", [False, True], ids=["unrolled", "scanned"])
def test_saving_from_a_mesh_writes_the_bytes_of_one_device(tmp_path, scan_layers):
    written = []
    for name, on in (("one", None), ("mesh", partitioning("both"))):
        model = FlaxViTForImageClassification.from_pretrained(
            "bundled/vit-digits", scan_layers=scan_layers, partitioning=on
        )
        model.save_pretrained(tmp_path / name)
        written.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert json.loads(written[0]["config.json"])["hidden_size"] == 56


@pytest.mark.parametrize("case", ["FSDP", "tensor parallel"])
def test_dropout_on_a_mesh_drops_what_it_drops_on_one_device(tiny_config, case):
    tiny_config.num_hidden_layers = 1
    tiny_config.hidden_dropout_prob = tiny_config.attention_probs_dropout_prob = 0.3
    alone = FlaxViTForImageClassification(tiny_config, _do_init=False)
    on = partitioning(case)
    model = FlaxViTForImageClassification(tiny_config, partitioning=on, _do_init=False)
    params, key = numbers(alone), jax.random.key(3)
    expected, still = (
        compiled_forward(alone, params, IMAGES, **how) for how in ({"train": True, "dropout_rng": key}, {})
    )
    placed = jax.device_put(params, model.parameter_shardings())
    images = jax.device_put(IMAGES, on.sharding("batch"))
    logits = compiled_forward(model, placed, images, train=True, dropout_rng=key)(placed, images)
    assert_close(logits, expected(params, IMAGES), 1e-5)
    assert np.abs(logits - still(params, IMAGES)).max() > 0.01


def test_bfloat16_on_a_mesh_sums_over_the_devices_in_float32(tiny_config):
    on = partitioning("tensor parallel")
    alone = FlaxViTForImageClassification(tiny_config, dtype=jnp.bfloat16, _do_init=False)
    model = FlaxViTForImageClassification(tiny_config, dtype=jnp.bfloat16, partitioning=on, _do_init=False)
    params = numbers(alone)
    expected = compiled_forward(alone, params, IMAGES)(params, IMAGES)
    placed = jax.device_put(params, model.parameter_shardings())
    images = jax.device_put(IMAGES, on.sharding("batch"))
    program = compiled_forward(model, placed, images)
    logits = program(placed, images)
    assert logits.dtype == jnp.bfloat16
    sums = re.findall(r"= \(?(\w+)\[.*? all-reduce(?:-start)?\(", program.as_text())
    assert sums == ["f32"] * 4
    # Sums in another order are rounded to the other neighbour now and then.
    assert_close(logits.astype("float32"), expected.astype("float32"), 2 * 2.0**-8)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_a_mesh_in_either_mode_does(tiny_config, axis_type):
    on = Partitioning(jax.make_mesh((8,), ("data",), axis_types=(axis_type,)), FSDP)
    assert on == partitioning("FSDP")
    assert on.mesh.axis_types == (AxisType.Auto,)
    assert on.sharding("batch").spec == P("data")
    assert on.sharding().is_fully_replicated
    model = FlaxViTForImageClassification(tiny_config, partitioning=on, _do_init=False)
    assert_each_device_holds_its_part("FSDP", jax.device_put(numbers(model), model.parameter_shardings()))


def test_a_module_boxes_its_parameters_with_the_axes_of_the_mesh(tiny_config):
    model = FlaxViTForImageClassification(
        tiny_config, partitioning=partitioning("both"), scan_layers=True, _do_init=False
    )
    boxed = jax.eval_shape(model.module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    axes = nn.get_partition_spec(boxed)["vit"]["encoder"]["layer"]
    assert axes["attention"]["attention"]["query"]["kernel"] == P(None, "data", "model")
    assert axes["attention"]["output"]["dense"]["kernel"] == P(None, "model", "data")
    assert axes["output"]["dense"]["bias"] == P(None, "data")
    assert axes["attention"]["output"]["dense"]["bias"] == P(None, "data")


def test_without_a_mesh_there_are_no_boxes(tiny_config):
    module = FlaxViTForImageClassification(tiny_config, _do_init=False).module
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    assert nn.unbox(params) == params


def test_a_rule_for_an_axis_that_the_mesh_lacks_is_refused():
    mesh = jax.make_mesh((8,), ("data",))
    message = "a rule puts 'heads' on the mesh axis 'model', but the mesh has the axes ('data',); name them as the"
    with pytest.raises(ValueError, match=re.escape(message)):
        Partitioning(mesh, TENSOR_PARALLEL)


def test_a_parameter_that_the_mesh_does_not_divide_is_refused_when_the_model_is_made(tiny_config):
    tiny_config.intermediate_size = 46
    message = "parameters of dense have 46 entries along 'mlp', which the rules split over the 4 devices of model"
    with pytest.raises(ValueError, match=message):
        FlaxViTForImageClassification(tiny_config, partitioning=partitioning("tensor parallel"))


def test_heads_that_the_mesh_does_not_divide_are_refused(tiny_config):
    tiny_config.num_attention_heads = 2

    def run():
        model = FlaxViTForImageClassification(tiny_config, partitioning=partitioning("tensor parallel"), _do_init=False)
        jax.eval_shape(model, IMAGES, model.params_shape_tree)

    with pytest.raises(
        ValueError, match="have 2 entries along 'heads', which the rules split over the 4 devices of model"
    ):
        run()


def test_a_batch_that_the_mesh_does_not_divide_is_refused(tiny_config):
    model = FlaxViTForImageClassification(tiny_config, partitioning=partitioning("FSDP"), _do_init=False)
    with pytest.raises(
        ValueError, match="have 6 entries along 'batch', which the rules split over the 8 devices of data"
    ):
        jax.eval_shape(model, IMAGES[:6], model.params_shape_tree)


@pytest.mark.parametrize("ask", ["parameter_shardings", "state_shardings"])
def test_shardings_of_a_model_on_no_mesh_are_refused(tiny_config, ask):
    model = FlaxViTForImageClassification(tiny_config, _do_init=False)
    with pytest.raises(ValueError, match="the model is on no mesh; build it with partitioning="):
        getattr(model, ask)(*[{}] * (ask == "state_shardings"))
