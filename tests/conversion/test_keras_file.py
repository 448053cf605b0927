"""Keras' files: the Vision Transformer inside of them, its config, and nothing that they only claim."""

from __future__ import annotations

import contextlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conversion
from conversion import AutoImageProcessor
from conversion.containers.keras_file import described_in_hdf5, read_keras
from conversion.containers.weights_file import container_of

FOLDER = "keras_functional"
HEADS = {"num_attention_heads": 2}
WHOLE = ["model.h5", "model.keras", "classifier.h5", "classifier.keras"]


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_of_a_whole_model_tells_its_config(fixture_folder: Path, name: str) -> None:
    found = conversion.load(fixture_folder / FOLDER / name)
    config = found.config
    assert (config.num_attention_heads, config.layer_norm_eps, config.hidden_act) == (2, 1e-3, "relu")
    assert {each.name for each in found.assumed} == {"preprocessing"}
    assert found.task == ("image-classification" if name.startswith("classifier") else "model")
    assert "pooler.dense.weight" in found.tensors or found.task == "image-classification"


def test_weights_alone_are_the_same_as_in_the_whole_file(fixture_folder: Path, bits: Any) -> None:
    folder = fixture_folder / FOLDER
    whole = bits(conversion.load(folder / "model.h5").tensors)
    assert bits(conversion.load(folder / "weights.h5", **HEADS).tensors) == whole
    assert bits(conversion.load(folder / "model.keras").tensors) == whole


def test_a_head_that_someone_put_on_is_left_out_and_named(fixture_folder: Path) -> None:
    found = conversion.load(fixture_folder / FOLDER / "model.keras")
    assert "layers/dense/kernel" in found.left_out


def test_a_config_beside_the_file_does_not_replace_its_own(fixture_folder: Path, tmp_path: Path) -> None:
    file = shutil.copy(fixture_folder / FOLDER / "model.keras", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 8, "layer_norm_eps": 1.0}))
    assert conversion.load(file).config.layer_norm_eps == 1e-3
    with pytest.raises(OSError, match="preprocessor_config"):  # such models are trained in every way
        AutoImageProcessor.from_pretrained(file)


def test_a_keras_file_is_known_by_its_content(fixture_folder: Path, tmp_path: Path) -> None:
    file = shutil.copy(fixture_folder / FOLDER / "model.keras", tmp_path / "model.bin")
    assert container_of(Path(file)) == "keras"
    assert conversion.load(file).format == "keras"
    assert conversion.load(tmp_path).format == "keras"  # the only file of weights


@pytest.fixture
def repacked(fixture_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """The archive with some of its entries changed, or without them (None)."""

    def pack(method: int = zipfile.ZIP_STORED, **changes: bytes | None) -> Path:
        file = tmp_path / "changed.keras"
        with zipfile.ZipFile(fixture_folder / FOLDER / "model.keras") as old, zipfile.ZipFile(file, "w", method) as new:
            for name in old.namelist():
                content = changes.get(name.replace(".", "_"), old.read(name))
                if content is not None:
                    new.writestr(name, content)
        return file

    return pack


def test_a_compressed_file_is_read_too(repacked: Any, fixture_folder: Path, bits: Any) -> None:
    found = conversion.load(repacked(zipfile.ZIP_DEFLATED))
    assert bits(found.tensors) == bits(conversion.load(fixture_folder / FOLDER / "model.keras").tensors)


@pytest.mark.parametrize("said", [b"{", b"[]", b"3", b"\xff", b"[" * 100_000, None], ids=str)
def test_what_is_said_of_the_model_may_be_broken(repacked: Any, said: bytes | None) -> None:
    found = conversion.load(repacked(config_json=said), **HEADS)
    assert {"layer_norm_eps", "hidden_act"} <= {each.name for each in found.assumed}


def test_configs_that_differ_say_nothing(repacked: Any) -> None:
    config = {"model_type": "vit", "hidden_size": 8}
    both = json.dumps({"layers": [{"config": config}, {"config": config | {"layer_norm_eps": 1.0}}]})
    assert "layer_norm_eps" in {
        each.name for each in conversion.load(repacked(config_json=both.encode()), **HEADS).assumed
    }


def test_an_archive_without_weights_is_refused(repacked: Any) -> None:
    with pytest.raises(ValueError, match=r"without model\.weights\.h5"):
        read_keras(repacked(model_weights_h5=None))


@pytest.mark.parametrize("weights", [b"", b"\x89HDF\r\n\x1a\n", b"no HDF5 at all" * 100])
def test_weights_that_are_no_hdf5_are_refused(repacked: Any, weights: bytes) -> None:
    with pytest.raises(ValueError, match=r"model\.weights\.h5 in .* is no HDF5 file"):
        conversion.load(repacked(model_weights_h5=weights))


def test_an_archive_that_claims_too_much_is_refused(repacked: Any) -> None:
    with pytest.raises(ValueError, match="is no Keras file that can be read here"):
        conversion.load(repacked(zipfile.ZIP_DEFLATED, model_weights_h5=bytes(100 * 2**20)))


def test_a_truncated_file_is_refused_at_every_length(fixture_folder: Path, tmp_path: Path) -> None:
    data = (fixture_folder / FOLDER / "classifier.keras").read_bytes()
    file = tmp_path / "cut.keras"
    for length in [0, 1, 3, 4, 30, 100, *range(1000, len(data), 9973), len(data) - 1]:
        file.write_bytes(data[:length])
        with pytest.raises(ValueError, match="cut"):
            conversion.load(file)


def test_a_truncated_description_in_hdf5_is_empty(fixture_folder: Path, tmp_path: Path) -> None:
    data = (fixture_folder / FOLDER / "model.h5").read_bytes()
    file = tmp_path / "cut.h5"
    for length in range(0, 8000, 97):
        file.write_bytes(data[:length])
        assert described_in_hdf5(file) == {}


def test_changed_bytes_give_an_error_or_a_model(fixture_folder: Path, tmp_path: Path) -> None:
    data = bytearray((fixture_folder / FOLDER / "model.h5").read_bytes())
    random = np.random.default_rng(0)
    file = tmp_path / "changed.h5"
    for position in random.integers(0, 12_000, 150):
        changed = data.copy()
        changed[position] = int(random.integers(256))
        file.write_bytes(changed)
        with contextlib.suppress(ValueError):
            assert conversion.load(file, **HEADS).tensors
