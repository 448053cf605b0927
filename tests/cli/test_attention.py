from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vit_cli.attention
from vit_cli.attention_maps import class_token_rollout
from vit_cli.image_batches import Images
from vit_core import ViTConfig, ViTImageProcessor

pytest.importorskip("torch")

Run = Callable[..., Any]
Copy = Callable[..., Path]

HEADS = ("--set", "num_attention_heads=4")  # which DINO's files do not tell


@pytest.fixture
def dino(fixture_folder: Path) -> Path:
    """A backbone of DINO, without a head, and without a config."""
    return fixture_folder / "dino_vit/backbone.pth"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is to be drawn; nothing is."""
    pictured: list[Any] = []
    monkeypatch.setattr(vit_cli.attention, "draw_picture", lambda _, images, scale: pictured.extend(images))
    return pictured


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[np.ndarray], None]:
    """Has the command read these pixels, whatever the files."""

    def read(pixel_values: np.ndarray) -> None:
        def read_batch(_: Any, files: list[Path]) -> Iterator[Images]:
            yield Images(files, pixel_values[: len(files)])

        monkeypatch.setattr(vit_cli.attention, "read_batch", read_batch)

    return read


@pytest.fixture
def small_model(tmp_path: Path) -> Callable[..., Path]:
    """Saves a model of random weights, with its preprocessing."""

    def save(pruned: dict[int, list[int]] | None = None, **fields: Any) -> Path:
        import vit_torch

        config = ViTConfig(
            **{
                "hidden_size": 8,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 8,
                "image_size": 8,
                "patch_size": 4,
                "initializer_range": 0.5,
                **fields,
            }
        )
        model = vit_torch.ViTModel(config, add_pooling_layer=False)
        if pruned:
            model.prune_heads(pruned)
        model.save_pretrained(tmp_path / "small")
        height, width = config.image_shape
        ViTImageProcessor(size={"height": height, "width": width}).save_pretrained(tmp_path / "small")
        return tmp_path / "small"

    return save


def numbers(images: list[Any]) -> np.ndarray:
    """The maps that are drawn: (images, heads, patches)."""
    return np.array([[each.weights for each in image.maps] for image in images])


def test_the_maps_that_are_drawn_are_dinos(
    trivit: Run, dino: Path, images: Path, fixture_folder: Path, drawn: list[Any], reads: Run, backend: str
) -> None:
    expected = np.load(fixture_folder / "dino_vit/expected.npz")
    reads(expected["pixel_values"])
    files = [images / "cat.png", images / "photo.jpg"]
    result = trivit("attention", *files, "-m", dino, *HEADS, "--picture", "a.png", "--backend", backend)
    assert result.status == 0, result.err
    np.testing.assert_allclose(numbers(drawn), expected["last_attention"][:, :, 0, 1:], atol=1e-5, rtol=0)
    assert [image.title for image in drawn] == ["cat.png", "photo.jpg"]
    assert [each.caption.split(",")[0] for each in drawn[0].maps] == ["head 0", "head 1", "head 2", "head 3"]


@pytest.mark.parametrize("format_file", ["model.safetensors", "tf_model.h5"])
def test_a_layer_a_head_and_the_rollout_of_a_classifier_are_transformers(
    trivit: Run, checkpoint: Copy, images: Path, fixture_folder: Path, drawn: list[Any], reads: Run, format_file: str
) -> None:
    expected = np.load(fixture_folder / "hf_vit_classifier/expected.npz")
    attentions = [expected[f"attentions.{layer}"] for layer in range(3)]
    reads(expected["pixel_values"])
    model = checkpoint()
    for file in model.glob("*.*"):
        if file.suffix != ".json" and file.name != format_file:
            file.unlink()
    arguments = ("attention", images / "cat.png", "-m", model, "--picture", "a.png")
    for options in (["--layer", 1], ["--head", 2], ["--head", "rollout"], ["--head", "rollout", "--layer", 0]):
        result = trivit(*arguments, *options)
        assert (result.status, result.err) == (0, "trivit: a.png shows where the model looked\n")
    layer, head, rollout, rollout_of_one = (numbers([image])[0] for image in drawn)
    for found, wanted in (
        (layer, attentions[1][0, :, 0, 1:]),
        (head, attentions[2][0, 2:3, 0, 1:]),
        (rollout, class_token_rollout(attentions)[:1]),
        (rollout_of_one, class_token_rollout(attentions[:1])[:1]),
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)


def test_pruned_heads_keep_their_numbers(
    trivit: Run, small_model: Run, images: Path, drawn: list[Any], backend: str
) -> None:
    model = small_model(pruned={1: [1]})
    arguments = ("attention", images / "cat.png", "-m", model, "--backend", backend)
    assert [each["head"] for each in trivit(*arguments, "--json").json()[0]["maps"]] == [0, 2, 3]
    assert trivit(*arguments, "--picture", "a.png").status == trivit(*arguments, "--head", 2).status == 0
    np.testing.assert_array_equal(drawn[0].maps[1].weights, drawn[1].maps[0].weights)
    assert trivit(*arguments, "--head", 1, "--json").err == (
        f"trivit: layer 1 of {model} has no head 1; choose from 0, 2, 3\n"
    )
    assert trivit(*arguments, "--head", 1, "--layer", 0, "--json").status == 0


def test_json_tells_the_grid_the_mass_and_the_patches_kept(
    trivit: Run, dino: Path, images: Path, fixture_folder: Path, reads: Run, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = np.load(fixture_folder / "dino_vit/expected.npz")
    reads(expected["pixel_values"])
    result = trivit("attention", images / "cat.png", "-m", dino, *HEADS, "--json", "--threshold", 0.6)
    assert result.err == ""
    assert not list(tmp_path.glob("*.png"))
    (entry,) = result.json()
    assert (entry["file"], entry["grid"], entry["layer"]) == (str(images / "cat.png"), [4, 4], 2)
    for head, found in enumerate(entry["maps"]):
        weights = expected["last_attention"][0, head, 0, 1:].reshape(4, 4)
        assert found["head"] == head
        assert found["mass"] == pytest.approx(weights.sum(), abs=1e-5)
        largest = found["largest"]
        assert largest["weight"] == pytest.approx(weights.max(), abs=1e-5)
        assert weights[largest["row"], largest["column"]] == weights.max()
        kept = np.zeros((4, 4), bool)
        kept[tuple(np.transpose(found["kept"]))] = True
        assert weights[kept].sum() >= 0.6 * weights.sum() > weights[kept].sum() - weights[kept].min()
        assert weights[kept].min() > weights[~kept].max()


def test_table_has_a_line_for_each_head(trivit: Run, images: Path, drawn: list[Any]) -> None:
    result = trivit("attention", images / "cat.png", "--threshold", 0.5)
    assert result.status == 0
    lines = [line for line in result.out.splitlines() if "row " in line]
    assert len(lines) == len(drawn[0].maps) == 4
    assert all("of 64" in line and "%" in line for line in lines)
    assert all(len(line) <= 80 for line in result.out.splitlines())


def test_picture_is_named_after_its_image(trivit: Run, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(images)
    assert trivit("attention", "cat.png").err == "trivit: cat.attention.png shows where the model looked\n"
    result = trivit("attention", "cat.png", "photo.jpg", "--head", 0, "--threshold", 0.6)
    assert result.err == "trivit: attention.png shows where the model looked\n"
    for name in ("cat.attention.png", "attention.png"):
        with Image.open(name) as drawn:
            assert drawn.size[0] > drawn.size[1]
    assert "would replace the image attention.png" in trivit("attention", ".").err


def test_a_grid_may_have_any_shape_and_a_file_several_models(
    trivit: Run, fixture_folder: Path, images: Path, drawn: list[Any]
) -> None:
    arguments = ("attention", images / "cat.png", "-m", fixture_folder / "dino_vit/full_checkpoint.pth", *HEADS)
    result = trivit(*arguments, "--under", "student.backbone", "--set", "image_size=[16,40]", "--picture", "a.png")
    assert result.err.splitlines() == [
        "trivit: images are resized to 40 x 16, which the model takes, and not as preprocessor_config.json says",
        "trivit: a.png shows where the model looked",
    ]
    assert drawn[0].pixels.shape == (16, 40, 3)
    assert drawn[0].caption == "2 x 5 patches"
    assert numbers(drawn).shape == (1, 4, 10)


def test_one_patch_is_drawn(trivit: Run, small_model: Run, images: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    model = small_model(patch_size=8, num_channels=1)
    assert trivit("attention", images / "cat.png", "-m", model, "--picture", picture, "--threshold", 1).status == 0
    assert picture.exists()


def test_a_model_without_preprocessing_is_fed_as_it_takes_images(
    trivit: Run, checkpoint: Copy, images: Path, drawn: list[Any]
) -> None:
    result = trivit("attention", images / "cat.png", "-m", checkpoint("hf_vit_sharded"), "--picture", "a.png")
    assert result.status == 0
    assert "has no preprocessor_config.json, so images are resized to 32 x 32 and scaled to -1..1" in result.err
    assert len(drawn) == 1


def test_unreadable_images_are_named_and_the_others_drawn(trivit: Run, images: Path, drawn: list[Any]) -> None:
    result = trivit("attention", images / "gone.png", images, images / "notes.txt", "--picture", "a.png")
    assert result.status == 1
    assert [image.title for image in drawn] == ["cat.png", "gray.png", "photo.jpg"]
    named = [line for line in result.err.splitlines() if "a.png shows" not in line]
    assert len(named) == 2
    assert "gone.png" in named[0]
    assert "notes.txt" in named[1]


def test_nothing_readable_gives_no_picture(trivit: Run, images: Path, tmp_path: Path) -> None:
    result = trivit("attention", images / "notes.txt", "--picture", tmp_path / "a.png")
    assert (result.status, result.out) == (1, "")
    assert not (tmp_path / "a.png").exists()


def test_the_first_24_images_are_drawn_and_all_are_told(
    trivit: Run, small_model: Run, images: Path, drawn: list[Any]
) -> None:
    result = trivit("attention", *[images / "cat.png"] * 26, "-m", small_model(), "--picture", "a.png", "--json")
    assert (len(result.json()), len(drawn)) == (26, 24)
    assert "a.png shows where the model looked, for the first 24 of 26 images" in result.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--head", "4"], "layer 3 of bundled/vit-digits has no head 4; choose from 0 to 3"),
        (["--layer", "4"], "bundled/vit-digits has no layer 4; choose from 0 to 3"),
        (["--set", "colour=1"], "'colour' is no field of a config."),
        (["--picture", "a.docx"], "a.docx has no suffix of a picture; choose a name such as a.png"),
    ],
)
def test_what_does_not_exist_is_one_sentence(trivit: Run, images: Path, options: list[str], words: str) -> None:
    result = trivit("attention", images / "cat.png", "--picture", "a.png", *options)
    assert (result.status, result.out, result.err) == (1, "", f"trivit: {words}\n")


def test_a_model_without_layers_has_no_attention(trivit: Run, small_model: Run, images: Path) -> None:
    result = trivit("attention", images / "cat.png", "-m", small_model(num_hidden_layers=0), "--json")
    assert result.status == 1
    assert "has no layers, and so no attention to show; choose a model that has some" in result.err


def test_a_model_that_lacks_weights_or_holds_nan_is_refused(trivit: Run, checkpoint: Copy, images: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = checkpoint("hf_vit_model")
    for file in folder.glob("*.*"):
        if file.suffix not in (".json", ".safetensors"):
            file.unlink()
    tensors = load_file(folder / "model.safetensors")
    key = "encoder.layer.1.attention.attention.key.weight"
    tensors[key][:] = np.nan
    save_file(tensors, folder / "model.safetensors")
    result = trivit("attention", images / "cat.png", "-m", folder, "--json")
    assert (result.status, result.out) == (1, "")
    assert "in layer 2 is not finite; its weights are damaged" in result.err
    del tensors[key]
    save_file(tensors, folder / "model.safetensors")
    result = trivit("attention", images / "cat.png", "-m", folder, "--json")
    assert f"is no complete model: it lacks {key}" in result.err


@pytest.mark.parametrize(
    "name", ["hf_deit", "hf_beit_layerwise", "hf_data2vec_vision", "hf_vit_msn", "hf_ijepa", "timm_deit_distilled"]
)
def test_every_relative_shows_patches_alone(
    trivit: Run, images: Path, fixture_folder: Path, drawn: list[Any], reads: Run, name: str
) -> None:
    expected = np.load(fixture_folder / name / "expected.npz")
    reads(expected["pixel_values"])
    options = HEADS if "timm" in name else ()
    files = (images / "cat.png", images / "photo.jpg")
    result = trivit("attention", *files, "-m", fixture_folder / name, *options, "--picture", "a.png")
    assert result.status == 0, result.err
    assert numbers(drawn).shape == (2, 4, 16)
    if "hf" in name:
        last = expected[max(key for key in expected if key.startswith("attentions."))]
        before = last.shape[-1] - 16
        wanted = last[:, :, 0, before:] if before else last.mean(2)
        np.testing.assert_allclose(numbers(drawn), wanted, atol=1e-5, rtol=0)


def test_a_masked_autoencoder_sees_all_patches_in_their_order(
    trivit: Run, images: Path, fixture_folder: Path, drawn: list[Any], reads: Run, backend: str
) -> None:
    import torch

    import vit_torch

    pixels = np.load(fixture_folder / "hf_vit_mae/expected.npz")["pixel_values"]
    reads(pixels)
    result = trivit(
        "attention", images / "cat.png", "-m", fixture_folder / "hf_vit_mae", "--picture", "a.png", "--backend", backend
    )
    assert result.status == 0, result.err
    plain = vit_torch.ViTModel.from_pretrained(fixture_folder / "hf_vit_mae", add_pooling_layer=False)
    with torch.no_grad():
        attentions = plain(torch.from_numpy(pixels[:1]), output_attentions=True).attentions
    np.testing.assert_allclose(numbers(drawn), attentions[-1][:, :, 0, 1:].numpy(), atol=1e-5, rtol=0)
