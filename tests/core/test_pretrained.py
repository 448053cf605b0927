import re
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest

from vit_core import ViTConfig, parameters, pretrained, resample_patch_projection
from vit_core.checkpoint import OpenCheckpoint, open_checkpoint, save_checkpoint
from vit_core.families.vit import FAMILY
from vit_core.hub import locate
from vit_core.loading_options import PATCH_RESAMPLINGS, WITHOUT_EFFECT, request
from vit_core.loading_plan import plan_loading
from vit_core.stored_tensor import StoredTensor, from_numpy

HEAD, BASE, MASKED = "image-classification", "model", "masked-image-modeling"
MEBIBYTE = 2**20


def small_config(**fields):
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    return ViTConfig(**{**sizes, "image_size": 8, "patch_size": 4, **fields})


def holding(config, task, change=None, **options):
    """A checkpoint with every tensor of such a model, each filled with a number of its own."""
    table = parameters(config, task, **options)
    tensors = {row.name: from_numpy(np.full(row.shape, number, "f4")) for number, row in enumerate(table)}
    return OpenCheckpoint(config.to_diff_dict(), {**tensors, **(change or {})}, ())


def promising(config, task):
    """A checkpoint with every tensor of such a model, none of which can be read."""
    tensors = {row.name: StoredTensor("F32", row.shape, unreadable) for row in parameters(config, task)}
    return OpenCheckpoint(config.to_diff_dict(), tensors, ())


def unreadable():
    raise AssertionError("a tensor was read")


def config_for_loading(*arguments):
    return pretrained.config_for_loading(*arguments, ViTConfig)


def plan(checkpoint, config, task, ignore_mismatched_sizes=False, **options):
    return plan_loading(parameters(config, task, **options), checkpoint, config, "here", ignore_mismatched_sizes)


def warning_text(loading, model="ViTModel"):
    with pytest.warns(UserWarning, match=f"^{model} from here: ") as caught:
        loading.warn(model, "here")
    assert len(caught) == 1
    return str(caught[0].message)


def names(rows):
    return [row.name for row in rows]


# Matching tensors with parameters


@pytest.mark.parametrize(
    ("name", "task"),
    [("hf_vit_classifier", HEAD), ("hf_vit_model", BASE), ("hf_vit_masked", MASKED), ("hf_vit_sharded", HEAD)],
)
def test_published_checkpoint_fills_its_model_and_warns_of_nothing(fixture_folder, name, task):
    checkpoint = open_checkpoint(locate(fixture_folder / name))
    config = config_for_loading(checkpoint, name, None, {})
    assert config.architectures == [FAMILY.models[task]]
    loading = plan(checkpoint, config, task)
    assert loading.tensors == checkpoint.tensors
    assert loading.loading_info() == {
        "missing_keys": [],
        "unexpected_keys": [],
        "mismatched_keys": [],
        "error_msgs": [],
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loading.warn("ViTModel", "here")


def test_base_checkpoint_fills_a_model_with_a_head(fixture_folder):
    checkpoint = open_checkpoint(locate(fixture_folder / "hf_vit_model"))
    config = ViTConfig.from_dict(checkpoint.config)
    loading = plan(checkpoint, config, HEAD)
    for name, tensor in loading.tensors.items():
        assert tensor is checkpoint.tensors[name.removeprefix("vit.")]
    assert names(loading.missing) == ["classifier.weight", "classifier.bias"]
    assert set(loading.unexpected) == {"pooler.dense.weight", "pooler.dense.bias"}
    assert loading.tensors.keys() | {"classifier.weight", "classifier.bias"} == set(names(parameters(config, HEAD)))


def test_checkpoint_of_a_model_with_a_head_fills_the_base_model(fixture_folder):
    checkpoint = open_checkpoint(locate(fixture_folder / "hf_vit_classifier"))
    config = ViTConfig.from_dict(checkpoint.config)
    loading = plan(checkpoint, config, BASE, add_pooling_layer=False)
    for name, tensor in loading.tensors.items():
        assert tensor is checkpoint.tensors[f"vit.{name}"]
    assert loading.missing == ()
    assert set(loading.unexpected) == {"classifier.weight", "classifier.bias"}
    with_pooler = plan(checkpoint, config, BASE)
    assert names(with_pooler.missing) == ["pooler.dense.weight", "pooler.dense.bias"]


def test_tensor_under_the_models_own_name_is_preferred():
    config = small_config()
    own = from_numpy(np.ones(8, "f4"))
    other = from_numpy(np.zeros(8, "f4"))
    checkpoint = holding(config, HEAD, {"vit.layernorm.bias": own, "layernorm.bias": other})
    loading = plan(checkpoint, config, HEAD)
    assert loading.tensors["vit.layernorm.bias"] is own
    assert loading.unexpected == ("layernorm.bias",)


def test_planning_reads_no_tensor():
    checkpoint = promising(small_config(), HEAD)
    assert plan(checkpoint, small_config(image_size=16), HEAD).tensors.keys() == checkpoint.tensors.keys()


def test_shape_that_does_not_fit_is_refused_with_both_shapes():
    checkpoint = holding(small_config(num_labels=10), HEAD)
    message = (
        "here holds classifier.weight with shape (10, 8), but the config makes it (3, 8); load with the checkpoint's "
        "own config, or with ignore_mismatched_sizes=True to start it at random."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        plan(checkpoint, small_config(num_labels=3), HEAD)


def test_shape_that_does_not_fit_is_named_as_the_file_names_it():
    checkpoint = holding(small_config(), BASE)
    with pytest.raises(
        ValueError, match=r"here holds embeddings\.cls_token with shape \(1, 1, 8\), but .* \(1, 1, 16\)"
    ):
        plan(checkpoint, small_config(hidden_size=16), HEAD)


def test_transposed_tensor_of_the_same_size_is_refused():
    checkpoint = holding(
        small_config(), HEAD, {"vit.encoder.layer.0.output.dense.weight": from_numpy(np.zeros((12, 8)))}
    )
    with pytest.raises(ValueError, match=r"with shape \(12, 8\), but the config makes it \(8, 12\)"):
        plan(checkpoint, small_config(), HEAD)


def test_shapes_that_do_not_fit_start_at_random_where_that_was_asked_for():
    checkpoint = holding(small_config(num_labels=10), HEAD)
    loading = plan(checkpoint, small_config(num_labels=3), HEAD, ignore_mismatched_sizes=True)
    mismatched = [("classifier.weight", (10, 8), (3, 8)), ("classifier.bias", (10,), (3,))]
    assert loading.mismatched == tuple(mismatched)
    assert names(loading.missing) == ["classifier.weight", "classifier.bias"]
    assert loading.unexpected == ()
    assert "classifier.weight" not in loading.tensors
    info = loading.loading_info()
    assert (info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"]) == ([], [], mismatched)


@pytest.mark.parametrize("tensors", [{}, {"conv1.weight": from_numpy(np.zeros(3, "f4"))}])
def test_checkpoint_of_another_kind_of_model_is_refused(tensors):
    config = small_config()
    with pytest.raises(
        ValueError, match="here holds no tensor of this model: it has .*, where vit.embeddings.cls_token"
    ):
        plan(OpenCheckpoint({}, tensors, ()), config, HEAD)


# What the user is told


def test_one_warning_names_what_is_missing_and_what_is_not_used():
    loading = plan(holding(small_config(), BASE), small_config(), HEAD)
    assert warning_text(loading, "ViTForImageClassification") == (
        "ViTForImageClassification from here: classifier.weight, classifier.bias were not in the checkpoint and start "
        "at random, so train them before use; pooler.dense.weight, pooler.dense.bias are in the checkpoint, but this "
        "model has no such tensors."
    )


def test_one_warning_names_both_shapes_of_what_did_not_fit():
    loading = plan(holding(small_config(num_labels=10), HEAD), small_config(num_labels=3), HEAD, True)
    assert warning_text(loading, "ViTForImageClassification") == (
        "ViTForImageClassification from here: classifier.weight (10, 8) -> (3, 8), classifier.bias (10,) -> (3,) have "
        "another shape in the checkpoint and start at random."
    )


def test_warning_stays_short_whatever_there_is_to_name():
    config = small_config(num_hidden_layers=6)
    loading = plan(holding(small_config(), BASE), config, BASE)
    assert "encoder.layer.2.attention.attention.query.weight, " in warning_text(loading)
    assert "and 60 more were not in the checkpoint" in warning_text(loading)  # 16 tensors a layer


def test_warning_names_the_line_of_the_caller_of_from_pretrained():
    def from_pretrained():
        plan(holding(small_config(), BASE), small_config(), HEAD).warn("ViTModel", "here")

    with pytest.warns(UserWarning, match="classifier.weight") as caught:
        from_pretrained()
    assert caught[0].filename == __file__
    assert caught[0].lineno == test_warning_names_the_line_of_the_caller_of_from_pretrained.__code__.co_firstlineno + 5


def test_name_from_a_strangers_file_cannot_steer_the_terminal():
    for name in ("\x1b[2J\n\ud800", "x" * 10**6):
        with pytest.raises(ValueError, match=r"a tensor with the name '(\\x1b\[2J\\n\\ud800|x+\.\.\.x+)'"):
            holding(small_config(), BASE, {name: from_numpy(np.zeros(2, "f4"))})


# Position embeddings of another resolution

# Rows of a grid as {(rows, columns): values}; the resampled ones are what PyTorch 2.13's
# interpolate(mode="bicubic", align_corners=False) returned in float64, rounded to seven digits.
PATCHES = [[0, 1], [4, -1], [9, 2], [3, 0], [-2, 5], [7, 7]]
RESAMPLED = {
    ((2, 2), (3, 3)): [
        [-1.2038243, 1.0868056],
        [1.6527778, -0.0868056],
        [4.5093798, -1.2604167],
        [4.5868056, 1.6736111],
        [4.0, 0.5],
        [3.4131944, -0.6736111],
        [10.3774354, 2.2604167],
        [6.3472222, 1.0868056],
        [2.3170091, -0.0868056],
    ],
    ((2, 3), (4, 2)): [
        [0.6439514, 0.3759003],
        [8.347702, 0.6728058],
        [0.9163208, 0.5821228],
        [7.2776794, 2.4898987],
        [1.3649292, 0.9217834],
        [5.5152893, 5.4827576],
        [1.6372986, 1.128006],
        [4.4452667, 7.2998505],
    ],
    ((2, 3), (3, 2)): [  # as many patches as before, in another arrangement
        [0.6592611, 0.3874919],
        [8.287557, 0.774943],
        [1.140625, 0.7519531],
        [6.3964844, 3.9863281],
        [1.6219889, 1.1164144],
        [4.5054118, 7.1977132],
    ],
}


def two_wide(grid):
    return small_config(hidden_size=2, image_size=(4 * grid[0], 4 * grid[1]))


def positioned(grid, dtype="f4"):
    """A checkpoint whose position embeddings are a class token, [10, 20], and the patches above."""
    tokens = np.array([[[10, 20], *PATCHES[: grid[0] * grid[1]]]], dtype)
    return holding(two_wide(grid), HEAD, {"vit.embeddings.position_embeddings": from_numpy(tokens)})


@pytest.mark.parametrize(("old", "new"), RESAMPLED)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_position_embeddings_are_resampled_for_another_image_size(old, new, dtype):
    checkpoint = positioned(old, dtype)
    override = {"image_size": (4 * new[0], 4 * new[1])}
    config = config_for_loading(checkpoint, "here", None, override)
    loading = plan(checkpoint, config, HEAD)
    assert (loading.missing, loading.mismatched, loading.unexpected) == ((), (), ())
    resampled = loading.tensors["vit.embeddings.position_embeddings"]
    assert (resampled.dtype, resampled.shape) == ("F32", (1, 1 + new[0] * new[1], 2))
    np.testing.assert_allclose(resampled.read()[0], [[10, 20], *RESAMPLED[old, new]], atol=1e-6)
    assert resampled.read().dtype == np.float32


def test_position_embeddings_in_bfloat16_are_resampled():
    checkpoint = positioned((2, 3))
    values = checkpoint.tensors["vit.embeddings.position_embeddings"].read()  # small integers: bfloat16 holds them
    bits = (values.view("<u4") >> 16).astype("<u2")
    checkpoint.tensors["vit.embeddings.position_embeddings"] = StoredTensor("BF16", bits.shape, lambda: bits)
    resampled = plan(checkpoint, two_wide((4, 2)), HEAD).tensors["vit.embeddings.position_embeddings"]
    np.testing.assert_allclose(resampled.read()[0], [[10, 20], *RESAMPLED[(2, 3), (4, 2)]], atol=1e-6)


def test_position_embeddings_are_resampled_between_models_with_and_without_a_head():
    loading = plan(positioned((2, 3)), two_wide((4, 2)), BASE, add_pooling_layer=False)
    resampled = loading.tensors["embeddings.position_embeddings"].read()
    np.testing.assert_allclose(resampled[0, 1:], RESAMPLED[(2, 3), (4, 2)], atol=1e-6)


def test_position_embeddings_for_the_same_grid_are_the_files_own():
    checkpoint = positioned((2, 3))
    for config in (two_wide((2, 3)), small_config(hidden_size=2, image_size=(11, 13))):  # 2 by 3 whole patches
        loading = plan(checkpoint, config, HEAD)
        name = "vit.embeddings.position_embeddings"
        assert loading.tensors[name] is checkpoint.tensors[name]


def test_position_embeddings_that_are_not_what_their_config_says_are_refused():
    checkpoint = positioned((2, 3))
    checkpoint.config["image_size"] = 12
    with pytest.raises(
        ValueError, match=r"position_embeddings with shape \(1, 7, 2\), but the config makes it \(1, 9, 2\)"
    ):
        plan(checkpoint, two_wide((4, 2)), HEAD)


def test_position_embeddings_of_a_checkpoint_without_a_config_are_not_guessed_at():
    without = OpenCheckpoint({}, positioned((2, 2)).tensors, ())
    with pytest.raises(
        ValueError, match=r"position_embeddings with shape \(1, 5, 2\), but the config makes it \(1, 10, 2\)"
    ):
        plan(without, two_wide((3, 3)), HEAD)


def test_config_of_another_kind_of_model_does_not_stop_loading_with_one_of_ours():
    checkpoint = positioned((2, 2))
    checkpoint.config.update(model_type="vit_msn", hidden_act="their_own")
    config = config_for_loading(checkpoint, "here", two_wide((3, 3)), {})
    resampled = plan(checkpoint, config, HEAD).tensors["vit.embeddings.position_embeddings"].read()
    np.testing.assert_allclose(resampled[0, 1:], RESAMPLED[(2, 2), (3, 3)], atol=1e-6)


# Patches of another size

PROJECTION = "vit.embeddings.patch_embeddings.projection.weight"


def with_kernel():
    """A checkpoint with patches of 4 x 4 and a kernel that is not all alike."""
    kernel = np.random.default_rng(0).standard_normal((8, 3, 4, 4)).astype("f4")
    return holding(small_config(), HEAD, {PROJECTION: from_numpy(kernel)})


def plan_patches(checkpoint, config, resampling=None, task=HEAD, ignore=False):
    return plan_loading(parameters(config, task), checkpoint, config, "here", ignore, patch_resampling=resampling)


@pytest.mark.parametrize("resampling", PATCH_RESAMPLINGS)
def test_projection_and_positions_are_resampled_for_patches_of_another_size(resampling):
    checkpoint, config = with_kernel(), small_config(patch_size=(8, 2))
    loading = plan_patches(checkpoint, config, resampling)
    assert (loading.missing, loading.mismatched, loading.unexpected) == ((), (), ())
    kernel = checkpoint.tensors[PROJECTION].numpy()
    expected = resample_patch_projection(kernel, (8, 2), resampling)
    np.testing.assert_array_equal(loading.tensors[PROJECTION].numpy(), expected)
    assert loading.tensors["vit.embeddings.position_embeddings"].shape == (1, 1 + 1 * 4, 8)


def test_patches_of_another_size_are_refused_unless_something_asks_for_them():
    with pytest.raises(ValueError, match=r"config makes it \(8, 3, 2, 2\); .*patch_resampling='antialiased'"):
        plan_patches(with_kernel(), small_config(patch_size=2))
    loading = plan_patches(with_kernel(), small_config(patch_size=2), ignore=True)
    assert loading.mismatched == ((PROJECTION, (8, 3, 4, 4), (8, 3, 2, 2)),)


def test_a_projection_that_is_not_what_its_config_says_is_refused():
    checkpoint = with_kernel()
    checkpoint.config["patch_size"] = 8
    with pytest.raises(ValueError, match=r"projection.weight with shape \(8, 3, 4, 4\), but the config makes it"):
        plan_patches(checkpoint, small_config(patch_size=2, image_size=4), "bilinear")


def test_a_head_that_predicts_the_pixels_of_patches_is_not_resampled():
    checkpoint = holding(small_config(encoder_stride=4), MASKED)
    smaller = small_config(encoder_stride=4, patch_size=2)
    with pytest.raises(ValueError, match=r"here predicts the pixels of patches .*decoder\.0\.weight.*encoder_stride=2"):
        plan_patches(checkpoint, smaller, "antialiased", MASKED)
    loading = plan_patches(checkpoint, small_config(encoder_stride=2, patch_size=2), "antialiased", MASKED, ignore=True)
    assert [name for name, *_ in loading.mismatched] == ["decoder.0.weight", "decoder.0.bias"]
    assert loading.tensors[PROJECTION].shape == (8, 3, 2, 2)


def test_a_way_of_resampling_is_an_option_of_loading_and_no_field():
    asked = request({"patch_size": 2, "patch_resampling": "bilinear"})
    assert (asked.patch_resampling, asked.config_overrides) == ("bilinear", {"patch_size": 2})
    with pytest.raises(ValueError, match="patch_resampling is 'bicubic'; choose one of antialiased, bilinear"):
        request({"patch_resampling": "bicubic"})


@pytest.mark.parametrize(
    ("options", "ignore", "wanted", "words"),
    [
        ({"patch_size": 4}, False, "antialiased", None),
        ({"patch_size": 2}, False, "antialiased", "patches of 4 x 4 pixels; its projection is resampled for 2 x 2"),
        ({"patch_size": 2, "patch_resampling": "bilinear"}, False, "bilinear", None),
        ({"patch_size": 2, "position_resampling": "bilinear"}, False, "bilinear", None),  # as FlexiViT was trained
        ({"patch_size": 2}, True, None, None),  # whose meaning is a random start
        ({"image_size": 16}, False, None, None),
    ],
)
def test_a_patch_size_in_the_call_asks_for_resampling_and_that_is_said_once(tmp_path, options, ignore, wanted, words):
    save_checkpoint(tmp_path, small_config(), with_kernel().tensors)

    def opener(source, known, **choice):
        return open_checkpoint(source)

    arguments = {"config": None, "config_class": ViTConfig, "ignore_mismatched_sizes": ignore, "opener": opener}
    with pytest.warns(UserWarning, match=words) if words else warnings.catch_warnings():
        loading = pretrained.prepare_loading(tmp_path, request(options), **arguments)
    assert loading.patch_resampling == wanted


# The config that a model is loaded with


def test_config_of_the_checkpoint_is_taken_with_what_was_overridden():
    checkpoint = holding(small_config(num_labels=10), HEAD)
    config = config_for_loading(checkpoint, "here", None, {"num_labels": 3, "hidden_dropout_prob": 0.5})
    assert (config.num_labels, config.hidden_dropout_prob, config.hidden_size) == (3, 0.5, 8)
    assert checkpoint.config["hidden_dropout_prob"] == 0.0


def test_config_that_was_given_is_taken_with_what_was_overridden_and_left_alone():
    given = small_config(hidden_size=16, attn_implementation="eager")
    config = config_for_loading(holding(small_config(), HEAD), "here", given, {"num_labels": 3})
    assert (config.num_labels, config.hidden_size, config.attn_implementation) == (3, 16, "eager")
    assert given == small_config(hidden_size=16)
    chosen = config_for_loading(holding(small_config(), HEAD), "here", given, {"attn_implementation": "sdpa"})
    assert chosen.attn_implementation == "sdpa"


def test_checkpoint_without_a_config_needs_one():
    checkpoint = OpenCheckpoint({}, {}, ())
    with pytest.raises(OSError, match="here has no config.json; give the model's config as config=ViTConfig"):
        config_for_loading(checkpoint, "here", None, {})
    assert config_for_loading(checkpoint, "here", small_config(), {}) == small_config()


@pytest.mark.parametrize("config", [None, small_config()])
def test_option_that_does_not_exist_is_a_type_error_that_names_it(config):
    with pytest.raises(TypeError, match="from_pretrained has no option 'hiden_size', nor is it a field of the config"):
        config_for_loading(holding(small_config(), HEAD), "here", config, {"image_size": 16, "hiden_size": 5})


def test_field_that_only_this_checkpoint_has_can_be_overridden():
    checkpoint = holding(small_config(), HEAD)
    checkpoint.config["license"] = "theirs"
    assert config_for_loading(checkpoint, "here", None, {"license": "ours"}).license == "ours"


def test_options_that_change_nothing_are_no_fields():
    assert request({**dict.fromkeys(WITHOUT_EFFECT, True), "return_unused_kwargs": True}) == request({})


# Configs from strangers

ABSURD = [
    ({"hidden_size": 10**9}, "hidden_size is 1000000000; give a whole number from 1 to"),
    ({"hidden_size": 1e9}, "hidden_size is 1000000000.0; give a whole number"),
    ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
    ({"intermediate_size": 10**12}, "intermediate_size is 1000000000000"),
    ({"num_labels": 10**9}, "num_labels is 1000000000"),
    ({"num_channels": 10**9}, "num_channels is 1000000000"),
    ({"encoder_stride": 10**9}, "encoder_stride is 1000000000"),
    ({"image_size": 10**9}, "image_size is 1000000000"),
    ({"image_size": 2**20, "patch_size": 1}, "image_size 1048576 holds 1099511627776 patches"),
    ({"hidden_size": 2**20, "intermediate_size": 2**24}, "intermediate_size=16777216.*GiB of new weights"),
    ({"hidden_size": 2**24, "num_labels": 2**12}, "and 4096 labels asks for .*GiB of new weights"),
    ({"hidden_size": 2**24, "num_hidden_layers": 100}, "hidden_size=16777216.*GiB of new weights"),
    ({"num_channels": 2**24, "patch_size": 2**12, "image_size": 2**12}, "image_size=4096.*GiB of new weights"),
]


def loaded(values):
    """Plan to load a checkpoint that has a scale of the right shape and nothing else."""
    hidden = values["hidden_size"]
    shape = (hidden,) if isinstance(hidden, int) else (1,)
    scale = StoredTensor("F32", shape, unreadable)
    checkpoint = OpenCheckpoint(values, {"vit.layernorm.weight": scale}, ())
    return plan(checkpoint, config_for_loading(checkpoint, "here", None, {}), HEAD)


@pytest.mark.parametrize(("fields", "words"), ABSURD, ids=[str(fields) for fields, _ in ABSURD])
def test_config_with_absurd_sizes_is_refused_without_taking_memory(taking_no_memory, fields, words):
    values = {**small_config().to_diff_dict(), **fields}
    tracemalloc.start()
    try:
        with taking_no_memory(), pytest.raises(ValueError, match=words):
            loaded(values)
        assert tracemalloc.get_traced_memory()[1] < 8 * MEBIBYTE
    finally:
        tracemalloc.stop()


def test_absurd_config_with_a_file_of_something_else_is_refused():
    config = small_config(hidden_size=2**20, intermediate_size=2**24)
    checkpoint = OpenCheckpoint(config.to_diff_dict(), {"conv1.weight": from_numpy(np.zeros(3, "f4"))}, ())
    with pytest.raises(ValueError, match=r"here holds no tensor of this model: it has conv1\.weight"):
        plan(checkpoint, config, HEAD)


def test_weights_that_would_be_resampled_to_absurd_sizes_are_refused_without_taking_memory(taking_no_memory):
    config = small_config(hidden_size=2**20, image_size=4, patch_size=4, num_hidden_layers=0)
    checkpoint = promising(config, HEAD)
    assert plan(checkpoint, config, HEAD).tensors == checkpoint.tensors
    larger = config_for_loading(checkpoint, "here", None, {"image_size": 2**14})
    with (
        taking_no_memory(),
        pytest.raises(ValueError, match="image_size=16384 .*GiB of new weights, but this process may have"),
    ):
        plan(checkpoint, larger, HEAD)


def test_mapped_weights_may_be_larger_than_memory():
    config = small_config(hidden_size=2**20, intermediate_size=2**24)
    checkpoint = promising(config, HEAD)
    assert plan(checkpoint, config, HEAD).tensors == checkpoint.tensors


# What a subclass added


def test_what_a_subclass_added_is_loaded_under_its_own_name():
    config = small_config()
    checkpoint = holding(config, HEAD, {"extra.weight": from_numpy(np.ones((3, 2), "f4"))})
    table = parameters(config, HEAD)
    found = plan_loading(table, checkpoint, config, "here", extras={"extra.weight": (3, 2), "other.bias": (4,)})
    assert found.tensors["extra.weight"] is checkpoint.tensors["extra.weight"]
    assert found.missing == ()
    assert found.missing_extras == ("other.bias",)
    assert found.loading_info()["missing_keys"] == ["other.bias"]
    assert "other.bias were not in the checkpoint" in warning_text(found)
    with pytest.raises(ValueError, match=r"holds extra.weight with shape \(3, 2\), but the config makes it \(5,\)"):
        plan_loading(table, checkpoint, config, "here", extras={"extra.weight": (5,)})
    left = plan_loading(table, checkpoint, config, "here", True, extras={"extra.weight": (5,)})
    assert left.mismatched == (("extra.weight", (3, 2), (5,)),)
    assert left.missing_extras == ("extra.weight",)


def test_a_base_model_under_another_name_is_filled():
    config = small_config()
    table = [replace(row, name=f"backbone.{row.name}") for row in parameters(config)]
    for checkpoint in (holding(config, BASE), holding(config, HEAD)):
        found = plan_loading(table, checkpoint, config, "here", prefix="backbone.")
        assert {row.name for row in table if "pooler" not in row.name} <= found.tensors.keys()


@pytest.mark.parametrize("wrapped", ["module.{}", "_orig_mod.{}", "module._orig_mod.{}"])
def test_what_wrappers_put_into_names_is_understood(wrapped):
    config = small_config()
    plain = holding(config, HEAD)
    tensors = {wrapped.format(name): tensor for name, tensor in plain.tensors.items()}
    found = plan(OpenCheckpoint(plain.config, tensors, ()), config, HEAD)
    assert found.tensors == plain.tensors
    assert found.unexpected == ()


def test_what_may_be_missing_or_left_over_is_not_told():
    config = small_config()
    checkpoint = holding(config, BASE)
    found = plan(checkpoint, config, HEAD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.warn("ViTModel", "here", missing_is_fine=["^classifier"], unexpected_is_fine=["pooler"])


def test_a_part_of_a_head_is_never_taken_for_one_of_the_base_model_with_that_name():
    config, eights = small_config(), lambda: from_numpy(np.zeros(8, "f4"))
    own = {"layernorm.weight": eights(), "layernorm.bias": eights()}
    extras = dict.fromkeys(own, (8,))
    for checkpoint in (holding(config, BASE), holding(config, HEAD)):  # neither has the head's
        found = plan_loading(parameters(config, HEAD), checkpoint, config, "here", extras=extras)
        assert found.missing_extras == tuple(extras)
        stored = checkpoint.tensors.get("vit.layernorm.bias", checkpoint.tensors.get("layernorm.bias"))
        assert found.tensors["vit.layernorm.bias"] is stored
    checkpoint = holding(config, HEAD, own)
    found = plan_loading(parameters(config, HEAD), checkpoint, config, "here", extras=extras)
    assert found.tensors["layernorm.bias"] is own["layernorm.bias"]
    base = plan_loading(parameters(config, BASE, add_pooling_layer=False), checkpoint, config, "here")
    assert base.tensors["layernorm.bias"] is checkpoint.tensors["vit.layernorm.bias"]
    assert set(own) < set(base.unexpected)
    incomplete = replace(checkpoint, tensors={n: t for n, t in checkpoint.tensors.items() if "vit.layernorm" not in n})
    found = plan_loading(parameters(config, HEAD), incomplete, config, "here")
    assert names(found.missing) == ["vit.layernorm.weight", "vit.layernorm.bias"]


def test_a_model_with_a_head_inside_another_is_filled():
    config = small_config()
    table = [replace(row, name=f"model.{row.name}") for row in parameters(config, HEAD)]
    checkpoint = holding(config, HEAD)
    found = plan_loading(table, checkpoint, config, "here", extras={"classifier.bias": (2,)}, prefix="model.")
    assert {f"model.{name}" for name in checkpoint.tensors} == found.tensors.keys()
    assert found.missing_extras == ("classifier.bias",)


def test_what_older_checkpoints_hold_although_sizes_tell_it_is_no_unexpected_tensor():
    checkpoint = holding(small_config(), HEAD)
    index = StoredTensor("I64", (2, 2), lambda: np.zeros((2, 2), np.int64))
    tensors = {**checkpoint.tensors, "vit.encoder.relative_position_bias.relative_position_index": index}
    assert plan(replace(checkpoint, tensors=tensors), small_config(), HEAD).unexpected == ()
