from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vit_cli.reconstruct
from vit_cli.image_batches import Images
from vit_core import ViTImageProcessor

pytest.importorskip("torch")

Run = Callable[..., Any]


@pytest.fixture
def mae(checkpoint: Callable[..., Path]) -> Path:
    """A masked autoencoder that transformers wrote, with its preprocessing."""
    folder = checkpoint("hf_vit_mae")
    ViTImageProcessor(size=32).save_pretrained(folder)
    return folder


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is to be drawn; nothing is."""
    pictured: list[Any] = []
    monkeypatch.setattr(vit_cli.reconstruct, "draw_reconstructions", lambda _, images, patch: pictured.extend(images))
    return pictured


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, fixture_folder: Path) -> Any:
    """What transformers computed; the command reads its images and leaves out the patches that it left out."""
    results = dict(np.load(fixture_folder / "hf_vit_mae/expected.npz"))

    def read_batch(_: Any, files: list[Path]) -> Iterator[Images]:
        yield Images(files, results["pixel_values"][:1])

    monkeypatch.setattr(vit_cli.reconstruct, "read_batch", read_batch)
    monkeypatch.setattr(vit_cli.reconstruct, "draw_noise", lambda seed, patches: results["noise"][0])
    return results


def test_what_is_painted_is_what_transformers_paints(
    trivit: Run, mae: Path, images: Path, drawn: list[Any], published: Any, backend: str
) -> None:
    result = trivit("reconstruct", images / "cat.png", "-m", mae, "--picture", "a.png", "--backend", backend)
    assert result.status == 0, result.err
    (image,) = drawn
    mask = published["mask"][0].reshape(4, 4) > 0.5
    np.testing.assert_array_equal(image.mask, mask)
    patches = published["logits"][0].reshape(4, 4, 8, 8, 3).transpose(0, 2, 1, 3, 4).reshape(32, 32, 3)
    np.testing.assert_allclose(image.painted, np.clip(patches * 0.5 + 0.5, 0, 1), atol=1e-5)
    assert "error" in result.out


def test_json_has_the_errors_of_the_patches_that_were_left_out(
    trivit: Run, mae: Path, images: Path, published: Any
) -> None:
    (found,) = trivit("reconstruct", images / "cat.png", "-m", mae, "--json").json()
    pixels = np.clip(published["pixel_values"][0] * 0.5 + 0.5, 0, 1).transpose(1, 2, 0)
    painted = published["logits"][0].reshape(4, 4, 8, 8, 3).transpose(0, 2, 1, 3, 4).reshape(32, 32, 3)
    mask = np.kron(published["mask"][0].reshape(4, 4), np.ones((8, 8))) > 0.5
    errors = [np.clip(painted * 0.5 + 0.5, 0, 1) - pixels, pixels[~mask].mean(0) - pixels]
    np.testing.assert_allclose(found["error"], (errors[0][mask] ** 2).mean(), rtol=1e-4)
    np.testing.assert_allclose(found["error_of_mean"], (errors[1][mask] ** 2).mean(), rtol=1e-4)
    assert found["grid"] == [4, 4]
    assert found["masked"] == np.argwhere(published["mask"][0].reshape(4, 4)).tolist()


def test_a_seed_leaves_the_same_patches_out_of_every_image(trivit: Run, mae: Path, images: Path) -> None:
    arguments = ("reconstruct", images / "cat.png", images / "photo.jpg", "-m", mae, "--json")
    first, again, other = (trivit(*arguments, "--seed", seed).json() for seed in (0, 0, 1))
    assert first == again
    assert first[0]["masked"] == first[1]["masked"] != other[0]["masked"]
    assert len(first[0]["masked"]) == 10  # of 16, with the config's mask_ratio of 0.6


def test_a_mask_ratio_may_be_given_and_0_leaves_nothing_out(trivit: Run, mae: Path, images: Path) -> None:
    arguments = ("reconstruct", images / "cat.png", "-m", mae, "--json", "--mask-ratio")
    (half,), (none,) = (trivit(*arguments, ratio).json() for ratio in (0.5, 0))
    assert len(half["masked"]) == 8
    assert (none["masked"], none["error"]) == ([], 0)


@pytest.mark.parametrize("ratio", ["1", "-0.1", "nan"])
def test_an_impossible_mask_ratio_is_refused(trivit: Run, images: Path, ratio: str) -> None:
    result = trivit("reconstruct", images / "cat.png", "--mask-ratio", ratio)
    assert result.status == 2
    assert "leaves nothing to see or is no share" in " ".join(result.err.split())


def test_contrast_comes_back_where_the_loss_took_it_out(
    trivit: Run, mae: Path, images: Path, drawn: list[Any], published: Any
) -> None:
    said = json.loads((mae / "config.json").read_text())
    (mae / "config.json").write_text(json.dumps({**said, "norm_pix_loss": True}))
    assert trivit("reconstruct", images / "cat.png", "-m", mae, "--picture", "a.png").status == 0
    patches = published["pixel_values"][0].reshape(3, 4, 8, 4, 8).transpose(1, 3, 2, 4, 0).reshape(16, -1)
    painted = published["logits"][0] * np.sqrt(patches.var(1, ddof=1, keepdims=True) + 1e-6)
    painted = (painted + patches.mean(1, keepdims=True)).reshape(4, 4, 8, 8, 3).transpose(0, 2, 1, 3, 4)
    np.testing.assert_allclose(drawn[0].painted, np.clip(painted.reshape(32, 32, 3) * 0.5 + 0.5, 0, 1), atol=1e-5)


def test_a_model_without_a_decoder_is_refused(trivit: Run, checkpoint: Callable[..., Path], images: Path) -> None:
    result = trivit("reconstruct", images / "cat.png", "-m", checkpoint("hf_vit_classifier"), "--json")
    assert result.status == 1
    assert len(result.err.splitlines()) == 1


def test_the_pictures_name_is_made_from_the_images(
    trivit: Run, mae: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = trivit("reconstruct", images / "cat.png", "-m", mae)
    assert result.err == "trivit: cat.reconstruction.png shows what the model made\n"
    assert (tmp_path / "cat.reconstruction.png").read_bytes().startswith(b"\x89PNG")


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_done(trivit: Run, mae: Path, images: Path) -> None:
    broken = images / "broken.png"
    broken.write_bytes(b"nothing")
    result = trivit("reconstruct", broken, images / "cat.png", "-m", mae, "--json")
    assert result.status == 1
    assert [Path(each["file"]).name for each in result.json()] == ["cat.png"]
    assert "broken.png" in result.err
