from __future__ import annotations

import math
import shutil
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


@pytest.mark.parametrize(
    ("source", "form", "title", "assumed"),
    [
        ("google_jax/published.npz", "google", "Google's published .npz", {"hidden_act", "layer_norm_eps"}),
        ("google_jax/linen.npz", "google-linen", "Google's .npz in today's names", {"hidden_act", "layer_norm_eps"}),
        ("torchvision_vit/vit.pth", "torchvision", "torchvision", {"hidden_act", "layer_norm_eps"}),
        ("dino_vit/full_checkpoint.pth", "dino", "DINO", {"hidden_act", "layer_norm_eps"}),
        ("mae_vit/pretrain.pth", "mae", "MAE", {"hidden_act", "layer_norm_eps"}),
        ("hf_vit_model/tf_model.h5", "transformers-tf", "transformers' tf_model.h5", set()),
        ("hf_vit_model/flax_model.msgpack", "transformers-flax", "transformers' flax_model.msgpack", set()),
    ],
)
def test_other_formats_are_described_with_what_is_assumed(
    trivit: Run, fixture_folder: Path, source: str, form: str, title: str, assumed: set[str]
) -> None:
    settings = ["--set", "num_attention_heads=4", *(["--set", "decoder_num_attention_heads=2"] * (form == "mae"))]
    found = trivit("info", fixture_folder / source, "--json", *settings).json()
    assert (found["format"], set(found["assumed"]) - {"preprocessing"}) == (form, assumed)
    wrappers = {"dino_vit/full_checkpoint.pth": "teacher.backbone", "mae_vit/pretrain.pth": "model"}
    assert found["under"] == wrappers.get(source, "")
    assert (found["config"]["hidden_size"], found["config"]["num_hidden_layers"]) == (32, 3)
    assert found["parameters"]["parts"]["layernorm"] == 64
    assert not found["left_out"]
    assert ("decoder" in found["parameters"]["parts"]) == (form == "mae")
    result = trivit("info", fixture_folder / source, *settings)
    assert result.status == 0, result.err
    assert all(len(line) <= 80 for line in result.out.splitlines())
    assert f"format {title}" in " ".join(result.out.split())
    assert ("Assumed" in result.out) == bool(found["assumed"])


def test_timm_says_its_own_preprocessing(trivit: Run, fixture_folder: Path) -> None:
    found = trivit("info", fixture_folder / "timm_vit", "--json").json()
    assert found["preprocessing"]["size"] == {"shortest_edge": 35}
    assert set(found["assumed"]) == {"hidden_act", "layer_norm_eps"}


def test_a_file_that_does_not_tell_its_heads_asks_for_them(trivit: Run, fixture_folder: Path) -> None:
    result = trivit("info", fixture_folder / "torchvision_vit/vit.pth")
    assert (result.status, result.out, result.err.count("\n")) == (1, "", 1)
    assert "num_attention_heads" in result.err


@pytest.mark.parametrize(
    ("source", "format", "architecture", "parts"),
    [
        (
            "hf_deit",
            "transformers",
            "DeiTForImageClassificationWithTeacher",
            {"embeddings", "encoder", "layernorm", "head"},
        ),
        ("hf_vit_mae", "transformers", "ViTMAEForPreTraining", {"embeddings", "encoder", "layernorm", "decoder"}),
        ("hf_beit_masked_grads", "transformers", "BeitForMaskedImageModeling", {"embeddings", "encoder", "head"}),
        ("hf_beit_shared", "transformers", "BeitForImageClassification", {"embeddings", "encoder", "pooler", "head"}),
        ("timm_beitv2", "timm-beit", "BeitForImageClassification", {"embeddings", "encoder", "pooler", "head"}),
        ("hf_ijepa", "transformers", "IJepaForImageClassification", {"embeddings", "encoder", "layernorm", "head"}),
    ],
)
def test_a_relative_is_described_with_its_parts(
    trivit: Run, fixture_folder: Path, source: str, format: str, architecture: str, parts: set[str]
) -> None:
    found = trivit("info", fixture_folder / source, "--json").json()
    assert (found["format"], found["architecture"]) == (format, architecture)
    assert set(found["parameters"]["parts"]) == parts
    assert found["parameters"]["total"] == sum(shapes(fixture_folder / source / "model.safetensors").values())
    result = trivit("info", fixture_folder / source)
    assert (result.status, "decoder" in result.out) == (0, "decoder" in parts)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: cc-by-nc-4.0\ntags: [vit]\n---\n# A model", "cc-by-nc-4.0"),
        (
            "---\nlicense: other\nlicense_name: dinov3-license\nlicense_link: LICENSE.md\n---\n",
            "dinov3-license, LICENSE.md",
        ),
        ("---\nmodel-index:\n- [what, no, YAML\nlicense: mit\n---\n", "mit"),  # nothing else is parsed
        ("---\nlicense: [apache-2.0\n---\n", None),
        ("---\nlicense: apache-2.0\n", None),
        ("no fields", None),
    ],
)
def test_the_licence_is_that_of_the_model_card(trivit: Run, checkpoint: Copy, card: str, licence: str | None) -> None:
    folder = checkpoint("hf_vit_classifier")
    (folder / "README.md").write_text(card)
    assert trivit("info", folder, "--json").json()["licence"] == licence
    assert ("  licence  " in trivit("info", folder).out) == (licence is not None)


def test_timms_config_names_a_licence(trivit: Run, checkpoint: Copy) -> None:
    folder = checkpoint("timm_vit", {"config.json": {"pretrained_cfg": {"license": "apache-2.0"}}})
    assert trivit("info", folder, "--json").json()["licence"] == "apache-2.0"


def test_a_relative_is_known_by_its_tensors_alone(trivit: Run, fixture_folder: Path, tmp_path: Path) -> None:
    for source in (
        "hf_deit",
        "hf_vit_mae",
        "hf_beit_layerwise",
        "hf_beit_masked_grads",
        "hf_data2vec_vision",
        "hf_ijepa",
    ):
        file = tmp_path / f"{source}.safetensors"
        shutil.copy(fixture_folder / source / "model.safetensors", file)
        heads = ["--set", "num_attention_heads=4", *(["--set", "decoder_num_attention_heads=2"] * ("mae" in source))]
        found = trivit("info", file, "--json", *heads).json()
        whole = trivit("info", fixture_folder / source, "--json").json()
        for name in ("architecture", "parameters"):
            assert found[name] == whole[name], source
        assert found["config"]["model_type"] == whole["config"]["model_type"]


def test_a_setting_that_is_no_field_is_refused(trivit: Run, fixture_folder: Path) -> None:
    for source in ("hf_vit_classifier", "timm_vit"):
        result = trivit("info", fixture_folder / source, "--set", "heads=4")
        assert result.status == 1
        assert "'heads' is no field of a config" in result.err
