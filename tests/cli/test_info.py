from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

Run = Callable[..., Any]
Copy = Callable[..., Path]


def shapes(file: Path) -> dict[str, int]:
    """Number of entries of each tensor, as the safetensors package reads the file."""
    with safe_open(file, "numpy") as tensors:
        return {name: math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118


def test_parameters_are_counted_by_part(trivit: Run, checkpoint: Copy) -> None:
    folder = checkpoint()
    sizes = shapes(folder / "model.safetensors")
    parts = {
        part: sum(size for name, size in sizes.items() if name.startswith(start))
        for part, start in [
            ("embeddings", "vit.embeddings."),
            ("encoder", "vit.encoder."),
            ("layernorm", "vit.layernorm."),
            ("head", "classifier."),
        ]
    }
    found = trivit("info", folder, "--json").json()
    assert found["parameters"] == {"total": sum(sizes.values()), "parts": parts}
    assert found["dtypes"] == {"F32": sum(sizes.values())}
    assert found["bytes"] == 4 * sum(sizes.values())


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hf_vit_model", {"embeddings", "encoder", "layernorm", "pooler"}),
        ("hf_vit_masked", {"embeddings", "encoder", "layernorm", "head"}),
    ],
)
def test_parts_of_the_other_models(trivit: Run, checkpoint: Copy, name: str, parts: set[str]) -> None:
    folder = checkpoint(name)
    found = trivit("info", folder, "--json").json()["parameters"]
    assert set(found["parts"]) == parts
    assert found["total"] == sum(shapes(folder / "model.safetensors").values())


def test_the_pooler_that_a_classifier_reads_is_counted(trivit: Run, pooling_checkpoint: Path) -> None:
    parts = trivit("info", pooling_checkpoint, "--json").json()["parameters"]["parts"]
    assert set(parts) == {"embeddings", "encoder", "layernorm", "pooler", "head"}
    assert (parts["pooler"], parts["head"]) == (64 * 32 + 64, 10 * 64 + 10)


def test_tensors_that_no_vit_has_are_counted_as_other(trivit: Run, checkpoint: Copy) -> None:
    folder = checkpoint(changes={"config.json": {"num_hidden_layers": 2}})
    sizes = shapes(folder / "model.safetensors")
    third_layer = sum(size for name, size in sizes.items() if name.startswith("vit.encoder.layer.2."))
    assert trivit("info", folder, "--json").json()["parameters"]["parts"]["other"] == third_layer


def test_shards_are_one_model_of_several_files(trivit: Run, checkpoint: Copy) -> None:
    found = trivit("info", checkpoint("hf_vit_sharded"), "--json").json()
    whole = trivit("info", checkpoint("hf_vit_classifier"), "--json").json()
    assert found["parameters"]["total"] == whole["parameters"]["total"]
    assert {file["name"] for file in found["files"]} == {
        "config.json",
        "model.safetensors.index.json",
        "model-00001-of-00003.safetensors",
        "model-00002-of-00003.safetensors",
        "model-00003-of-00003.safetensors",
    }
    assert found["preprocessing"] is None


def test_config_labels_preprocessing_and_files_are_told(trivit: Run, checkpoint: Copy) -> None:
    folder = checkpoint()
    found = trivit("info", folder, "--json").json()
    assert found["architecture"] == "ViTForImageClassification"
    assert found["config"]["hidden_size"] == 32
    assert found["labels"] == [f"class {number}" for number in range(10)]
    assert found["preprocessing"]["size"] == {"height": 32, "width": 32}
    assert found["files"] == [
        {"name": name, "bytes": (folder / name).stat().st_size}
        for name in ("config.json", "model.safetensors", "preprocessor_config.json")
    ]


def test_description_for_people_fits_80_columns(trivit: Run, checkpoint: Copy) -> None:
    result = trivit("info", checkpoint())
    assert result.status == 0, result.err
    assert all(len(line) <= 80 for line in result.out.splitlines())
    words = " ".join(result.out.split())
    for fact in (
        "image 32 x 32 pixels, 3 channel(s)",
        "patches 4 x 4, each of 8 x 8 pixels",
        "layers 3, each with 4 heads of 8",
        "total 31,218 124.9 kB as float32",
        "class 0, class 1",
        "and 2 more",
        "mean [0.5, 0.5, 0.5]",
        "model.safetensors 130.8 kB",
    ):
        assert fact in words


def test_preprocessing_that_is_switched_off_is_not_told(trivit: Run, checkpoint: Copy) -> None:
    result = trivit("info", checkpoint(changes={"preprocessor_config.json": {"do_normalize": False}}))
    assert "resize" in result.out
    assert "std" not in result.out


def test_strangers_text_cannot_steer_the_terminal(trivit: Run, checkpoint: Copy) -> None:
    evil = "\x1b[2J[bold]gone"
    folder = checkpoint(
        changes={
            "config.json": {"architectures": [evil], "id2label": {"0": evil, "1": "\u202ereversed"}, "label2id": None},
            "preprocessor_config.json": {"image_processor_type": evil},
        }
    )
    result = trivit("info", folder)
    assert result.status == 0, result.err
    assert "\x1b" not in result.out
    assert "\u202e" not in result.out
    assert "[bold]gone" in result.out


def remove_weights(folder: Path) -> None:
    for file in (*folder.glob("*model*"), *folder.glob("*.npz")):
        file.unlink()


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "does not tell the number of attention heads"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not JSON"),
        (remove_weights, "has no weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"short"), "model.safetensors"),
        (
            lambda folder: (folder / "config.json").write_text('{"hidden_size": 7, "model_type": "vit"}'),
            "hidden_size is 7",
        ),
    ],
)
def test_broken_checkpoint_is_one_line(
    trivit: Run, checkpoint: Copy, break_it: Callable[[Path], object], words: str
) -> None:
    folder = checkpoint()
    break_it(folder)
    result = trivit("info", folder)
    assert (result.status, result.out) == (1, "")
    assert words in result.err
    assert result.err.count("\n") == 1
