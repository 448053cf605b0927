import itertools
import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vit_core import ViTConfig, parameters
from vit_core.checkpoint import OpenCheckpoint, open_checkpoint, parse_size, save_checkpoint, split_into_shards
from vit_core.hub import locate
from vit_core.safetensors_file import map_safetensors, write_safetensors
from vit_core.stored_tensor import StoredTensor, from_numpy

INDEX = "model.safetensors.index.json"
SHARDED_BY_TRANSFORMERS = "60KB"  # the max_shard_size that hf_vit_sharded was saved with

property_test = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
sizes = st.dictionaries(st.text(max_size=5).filter(str.isprintable), st.integers(0, 40), max_size=12)


def of_bytes(sizes):
    """Tensors of these sizes."""
    return {name: from_numpy(np.full(size, number, "u1")) for number, (name, size) in enumerate(sizes.items())}


def bits(tensors):
    return {name: (tensor.dtype, tensor.shape, tensor.read().tobytes()) for name, tensor in tensors.items()}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def reopened(folder):
    return open_checkpoint(locate(folder))


def as_saved(folder):
    """The checkpoint in a folder, with its tensors in the order of the parameter table, as models save them."""
    checkpoint = reopened(folder)
    config = ViTConfig.from_dict(checkpoint.config)
    table = parameters(config, "image-classification")
    return config, {row.name: checkpoint.tensors[row.name] for row in table}


@pytest.fixture
def sharded(tmp_path):
    """A folder with a checkpoint in two shards, and its index to spoil."""
    save_checkpoint(tmp_path, ViTConfig(), of_bytes({"a": 10, "b": 10, "c": 10}), 20)
    return tmp_path, json.loads((tmp_path / INDEX).read_text())


def refusal(folder, kind=ValueError):
    """What is said of a checkpoint that is refused: one sentence that names it."""
    with pytest.raises(kind) as caught:
        reopened(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    assert len(message) < len(str(folder)) + 500
    return message


# Shards


@property_test
@given(sizes=sizes, largest=st.integers(1, 60))
def test_shards_keep_the_order_and_the_size_and_none_is_empty(sizes, largest):
    shards = split_into_shards(of_bytes(sizes), largest)
    assert [name for names in shards.values() for name in names] == list(sizes)
    for names in shards.values():
        assert names or not sizes
        assert len(names) <= 1 or sum(sizes[name] for name in names) <= largest
    count = len(shards)
    numbered = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    assert list(shards) == (["model.safetensors"] if count == 1 else numbered)


@property_test
@given(sizes=sizes, largest=st.integers(1, 60))
def test_a_shard_is_begun_only_when_the_next_tensor_does_not_fit(sizes, largest):
    shards = list(split_into_shards(of_bytes(sizes), largest).values())
    for names, following in itertools.pairwise(shards):
        assert sum(sizes[name] for name in names) + sizes[following[0]] > largest


@property_test
@given(sizes=sizes, largest=st.integers(1, 60))
def test_any_distribution_over_shards_reads_back(tmp_path, sizes, largest):
    tensors = of_bytes(sizes)
    save_checkpoint(tmp_path, ViTConfig(), tensors, largest)
    assert bits(reopened(tmp_path).tensors) == bits(tensors)
    shards = split_into_shards(tensors, largest)
    assert names_in(tmp_path) == sorted({"config.json", *shards, *([INDEX] if len(shards) > 1 else [])})
    if len(shards) > 1:
        index = json.loads((tmp_path / INDEX).read_text())
        assert index["metadata"] == {"total_size": sum(sizes.values())}
        assert index["weight_map"] == {name: shard for shard, names in shards.items() for name in names}


def test_tensors_and_index_lie_as_transformers_lays_them(fixture_folder, tmp_path):
    theirs = fixture_folder / "hf_vit_sharded"
    save_checkpoint(tmp_path, *as_saved(theirs), SHARDED_BY_TRANSFORMERS)
    weights = sorted(path.name for path in theirs.glob("model*"))
    assert names_in(tmp_path) == sorted(["config.json", *weights])
    for name in weights:
        assert (tmp_path / name).read_bytes() == (theirs / name).read_bytes(), name


def test_shards_of_transformers_hold_what_its_single_file_holds(fixture_folder):
    shards = reopened(fixture_folder / "hf_vit_sharded")
    whole = reopened(fixture_folder / "hf_vit_classifier")
    assert shards.tensors.keys() == whole.tensors.keys()
    assert {path.name for path in shards.files} == {
        "config.json",
        INDEX,
        *(f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)),
    }


@pytest.mark.parametrize(
    ("size", "in_bytes"),
    [
        (1, 1),
        (1000, 1000),
        (2**63 - 1, 2**63 - 1),
        (10**30, 10**30),
        (np.int64(7), 7),
        ("1000", 1000),
        ("5GB", 5 * 10**9),
        ("5gb", 5 * 10**9),
        ("5 GB", 5 * 10**9),
        (" 200MiB ", 200 * 2**20),
        ("1.5KB", 1500),
        ("0.29GB", 290_000_000),
        ("4.35TB", 4_350_000_000_000),
        ("2TiB", 2 * 2**40),
        ("1KiB", 1024),
        ("3GiB", 3 * 2**30),
        ("", None),
        ("GB", None),
        ("5 G", None),
        ("5XB", None),
        ("-5GB", None),
        ("0", None),
        ("0GB", None),
        ("0.0001KB", None),
        ("5GB5", None),
        ("1e3", None),
        ("9" * 5000, None),
        ("nan", None),
        ("٣GB", None),
        (0, None),
        (-1, None),
        (True, None),
        (None, None),
        (b"5GB", None),
    ],
)
def test_sizes_are_bytes_or_a_number_with_a_unit(size, in_bytes):
    if in_bytes is not None:
        assert parse_size(size) == in_bytes
    else:
        with pytest.raises(ValueError, match="max_shard_size is .*; give bytes or a size such as '5GB'"):
            parse_size(size)


def test_size_that_is_none_leaves_the_folder_alone(tmp_path):
    with pytest.raises(ValueError, match="max_shard_size is 'big'"):
        save_checkpoint(tmp_path / "new", ViTConfig(), {}, "big")
    assert names_in(tmp_path) == []


# Saving over what is there


@pytest.mark.parametrize(
    ("first", "second", "weights"),
    [
        ("5GB", 20, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", INDEX]),
        (20, "5GB", ["model.safetensors"]),
        (10, 20, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", INDEX]),
    ],
)
def test_weights_of_the_old_checkpoint_go_and_other_files_stay(tmp_path, first, second, weights):
    others = {
        "preprocessor_config.json": "{}",
        "pytorch_model.bin": "x",
        "model.txt": "x",
        "model-card.md": "x",
        "my-model-00001-of-00002.safetensors": "x",
        "notes": "x",
    }
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    save_checkpoint(tmp_path, ViTConfig(), of_bytes({"old": 15, "older": 5, "x": 10}), first)
    new = of_bytes({"a": 10, "b": 10, "c": 10})
    save_checkpoint(tmp_path, ViTConfig(), new, second)
    assert names_in(tmp_path) == sorted([*others, "config.json", *weights])
    assert {name: (tmp_path / name).read_text() for name in others} == others
    assert bits(reopened(tmp_path).tensors) == bits(new)


def test_published_checkpoint_is_saved_again_byte_for_byte(fixture_folder, tmp_path):
    save_checkpoint(tmp_path, *as_saved(fixture_folder / "hf_vit_classifier"))
    theirs = fixture_folder / "hf_vit_classifier/model.safetensors"
    assert (tmp_path / "model.safetensors").read_bytes() == theirs.read_bytes()


def test_checkpoint_is_saved_over_the_files_that_its_tensors_are_mapped_from(fixture_folder, tmp_path):
    shutil.copytree(fixture_folder / "hf_vit_sharded", tmp_path, dirs_exist_ok=True)
    config, tensors = as_saved(tmp_path)
    before = bits(tensors)
    for size in ("5GB", "30KB"):
        save_checkpoint(tmp_path, config, tensors, size)
        assert bits(tensors) == before
        assert bits(reopened(tmp_path).tensors) == before


def test_opened_checkpoint_stays_what_it_was_when_the_folder_is_saved_to(tmp_path):
    old = of_bytes({"a": 5000, "b": 10})
    save_checkpoint(tmp_path, ViTConfig(), old, 5000)
    opened = reopened(tmp_path)
    save_checkpoint(tmp_path, ViTConfig(hidden_size=24), of_bytes({"a": 10}))
    assert bits(opened.tensors) == bits(old)
    assert opened.config["hidden_size"] == 768


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("F32", "float32"), ("BF16", "bfloat16"), ("F16", "float16"), ("F64", "float64"), ("U8", None)],
)
def test_config_file_names_the_dtype_of_the_weights(tmp_path, dtype, name):
    tensors = {"count": StoredTensor("I64", (1,), lambda: np.zeros(1, "<i8"))}
    tensors["weights"] = StoredTensor(dtype, (0,), lambda: np.zeros(0, "u1"))
    config = ViTConfig(torch_dtype="float32")
    save_checkpoint(tmp_path, config, tensors)
    assert reopened(tmp_path).config.get("torch_dtype") == name
    assert config.to_dict()["torch_dtype"] == "float32"


def test_config_that_has_no_json_form_leaves_the_folder_alone(tmp_path):
    with pytest.raises(TypeError, match="hidden_act"):
        save_checkpoint(tmp_path / "new", ViTConfig(hidden_act=np.tanh), {})
    assert names_in(tmp_path) == []


# Opening


def test_weights_without_a_config_are_opened(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", of_bytes({"a": 3}))
    opened = reopened(tmp_path)
    assert isinstance(opened, OpenCheckpoint)
    assert opened.config == {}
    assert opened.files == (tmp_path / "model.safetensors",)


def test_folder_without_weights_says_what_was_looked_for(tmp_path):
    message = refusal(tmp_path, OSError)
    assert "looked for model.safetensors, and for shards of them" in message


def test_files_are_looked_for_in_the_order_of_their_readers(tmp_path):
    def read(path):
        return of_bytes({path.read_text(): 1})

    readers = {"model.safetensors": map_safetensors, "pytorch_model.bin": read}
    (tmp_path / "pytorch_model.bin").write_text("pickled")
    assert open_checkpoint(locate(tmp_path), readers).tensors.keys() == {"pickled"}

    (tmp_path / "pytorch_model.bin").unlink()
    for part in ("x", "y"):
        (tmp_path / f"{part}.bin").write_text(part)
    weight_map = {"x": "x.bin", "y": "y.bin"}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert open_checkpoint(locate(tmp_path), readers).tensors.keys() == {"x", "y"}

    write_safetensors(tmp_path / "model.safetensors", of_bytes({"safe": 1}))
    assert open_checkpoint(locate(tmp_path), readers).tensors.keys() == {"safe"}


def test_shard_with_other_tensors_gives_only_those_that_the_index_names(sharded):
    folder, index = sharded
    del index["weight_map"]["b"]
    (folder / INDEX).write_text(json.dumps(index))
    assert reopened(folder).tensors.keys() == {"a", "c"}


@pytest.mark.parametrize(
    "name",
    [
        "../model-00001-of-00002.safetensors",
        "..",
        ".",
        "",
        "/etc/passwd",
        "inner/model-00001-of-00002.safetensors",
        "inner\\model-00001-of-00002.safetensors",
        "C:model-00001-of-00002.safetensors",
        "model-00001-of-00002.safetensors\0",
        "model-00001-of-00002.safetensors\n",
        ".hidden.safetensors",
        "x" * 300,
        "x" * 100_000,
        None,
        5,
        ["model-00001-of-00002.safetensors"],
    ],
)
def test_index_that_leads_out_of_its_folder_is_refused(sharded, name):
    folder, index = sharded
    (folder / "inner").mkdir()
    for place in (folder.parent, folder / "inner"):
        shutil.copy(folder / "model-00001-of-00002.safetensors", place)
    (folder / ".hidden.safetensors").write_bytes((folder / "model-00001-of-00002.safetensors").read_bytes())
    index["weight_map"]["a"] = name
    (folder / INDEX).write_text(json.dumps(index))
    assert "as a shard; only files in its own folder are opened" in refusal(folder)


@pytest.mark.parametrize(
    "index", [{}, {"weight_map": None}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": "a"}, {"metadata": {}}]
)
def test_index_without_a_weight_map_is_refused(sharded, index):
    folder, _ = sharded
    (folder / INDEX).write_text(json.dumps(index))
    assert "has no weight_map that names a shard for each tensor" in refusal(folder)


def test_missing_shard_is_named(sharded):
    folder, _ = sharded
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "lacks model-00002-of-00002.safetensors, a shard that its" in refusal(folder, OSError)


@pytest.mark.parametrize("name", ["missing", "\x1b[2J\n", "m" * 100_000, "c"])
def test_tensor_that_its_shard_lacks_is_named(sharded, name):
    folder, index = sharded
    index["weight_map"][name] = "model-00001-of-00002.safetensors"
    (folder / INDEX).write_text(json.dumps(index))
    message = refusal(folder)
    assert repr(name[:20])[:-1] in message
    assert "as a tensor of model-00001-of-00002.safetensors, which does not hold it" in message


def test_damaged_shard_is_named(sharded):
    folder, _ = sharded
    os.truncate(folder / "model-00002-of-00002.safetensors", 50)
    assert "model-00002-of-00002.safetensors" in refusal(folder)


@pytest.mark.parametrize("file", ["config.json", INDEX])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"hello", "is not JSON"),
        (b"\xff\x00", "is not JSON"),
        (b"{" * 100_000, "is not JSON"),
        (b'{"a":' * 100_000, "is not JSON"),
        (b"[1]", "holds a JSON list; an object with named fields is needed"),
        (b"null", "holds a JSON NoneType"),
        (b"9" * 5000, "is not JSON"),
    ],
)
def test_json_file_that_is_no_object_is_named(sharded, file, content, words):
    folder, _ = sharded
    (folder / file).write_bytes(content)
    message = refusal(folder)
    assert file in message
    assert words in message


@pytest.mark.parametrize("file", ["config.json", INDEX])
def test_json_file_of_gigabytes_is_refused_without_taking_memory(sharded, taking_no_memory, file):
    folder, _ = sharded
    os.truncate(folder / file, 4 * 2**30)
    with taking_no_memory():
        assert "more than 16777216 bytes are refused" in refusal(folder)


@settings(property_test, max_examples=150)
@given(
    weight_map=st.dictionaries(
        st.sampled_from(["a", "b", "c", ""]),
        st.sampled_from(["model-00001-of-00002.safetensors", "config.json", INDEX, "..", "a/b"]) | st.text(max_size=4),
        max_size=3,
    )
)
def test_any_weight_map_is_refused_or_gives_tensors_of_the_folder(sharded, weight_map):
    folder, _ = sharded
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    try:
        opened = reopened(folder)
    except (ValueError, OSError):
        return
    whole = map_safetensors(folder / "model-00001-of-00002.safetensors")
    assert bits(opened.tensors).items() <= bits(whole).items()
