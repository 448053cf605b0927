from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file

import vit_cli.features
from vit_cli import image_batches
from vit_cli.feature_model import FeatureModel
from vit_cli.image_batches import Images
from vit_core.hub import BUNDLED

pytest.importorskip("torch")

Run = Callable[..., Any]
Copy = Callable[..., Path]

DIGITS = BUNDLED / "vit-digits/test_images"
NAMES = [str(file) for file in sorted(DIGITS.glob("*.png"))]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, fixture_folder: Path) -> Callable[[str], Any]:
    """What a fixture's writer got, whose pixels the command reads from then on, whatever the files."""

    def use(name: str) -> Any:
        expected = np.load(fixture_folder / name / "expected.npz")

        def read_batch(_: Any, files: list[Path]) -> Iterator[Images]:
            yield Images(files, expected["pixel_values"][: len(files)])

        monkeypatch.setattr(image_batches, "read_batch", read_batch)
        return expected

    return use


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], list[int]]:
    """Has the model stop the command at a batch, as Ctrl-C would; gives the sizes of batches that it was given."""
    look = FeatureModel.look

    def at(batch: int | None) -> list[int]:
        sizes: list[int] = []

        def look_until(self: FeatureModel, pixel_values: np.ndarray) -> Any:
            if pixel_values.any():  # and is not the blank one that tells the shape
                sizes.append(len(pixel_values))
                if len(sizes) == batch:
                    raise KeyboardInterrupt
            return look(self, pixel_values)

        monkeypatch.setattr(FeatureModel, "look", look_until)
        return sizes

    return at


def read(file: Path | str) -> tuple[np.ndarray, list[str], dict[str, Any]]:
    """Features, names and what they are, as the page says that files are read."""
    if str(file).endswith(".npz"):
        content = np.load(file)
        return content["features"], content["files"].tolist(), json.loads(str(content["about"]))
    if str(file).endswith(".safetensors"):
        with safe_open(file, "numpy") as opened:
            metadata = opened.metadata()
        return load_file(file)["features"], json.loads(metadata["files"]), json.loads(metadata["about"])
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(file)
    values = np.array(table["features"].to_pylist(), np.float32)
    return values, table["file"].to_pylist(), json.loads(table.schema.metadata[b"about"])


@pytest.mark.parametrize("kind", ["class", "mean", "patches", "pooled"])
def test_features_are_those_of_transformers(
    trivit: Run, published: Any, fixture_folder: Path, images: Path, kind: str
) -> None:
    expected = published("hf_vit_model")
    model = fixture_folder / "hf_vit_model"
    files = [images / "cat.png", images / "photo.jpg"]
    result = trivit("features", *files, "-m", model, "-f", kind, "-o", "a.npz")
    assert result.status == 0, result.err
    tokens = expected["last_hidden_state"]
    features, names, about = read("a.npz")
    wanted = {"class": tokens[:, 0], "mean": tokens[:, 1:].mean(1), "patches": tokens[:, 1:]}
    np.testing.assert_allclose(features, wanted.get(kind, expected["pooler_output"]), atol=1e-5, rtol=0)
    assert features.dtype == np.float32
    assert names == [str(file) for file in files]
    assert about["features"] == kind
    assert math.prod(about["grid"]) == tokens.shape[1] - 1


def test_registers_are_no_patches(trivit: Run, published: Any, checkpoint: Copy) -> None:
    logits = published("hf_dinov2_registers")["logits"]
    model = checkpoint("hf_dinov2_registers")
    (model / "preprocessor_config.json").unlink()
    parts = []
    for kind in ("class", "mean"):
        assert trivit("features", *NAMES[:2], "-m", model, "-f", kind, "-o", f"{kind}.npz").status == 0
        parts.append(read(f"{kind}.npz")[0])
    tensors = load_file(model / "model.safetensors")  # whose head reads both, and no register
    found = np.concatenate(parts, axis=1) @ tensors["classifier.weight"].T + tensors["classifier.bias"]
    np.testing.assert_allclose(found, logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["hf_siglip_vision", "hf_clip_vision"])
def test_towers_of_image_and_text_give_what_they_pool(trivit: Run, published: Any, checkpoint: Copy, name: str) -> None:
    expected = published(name)
    (checkpoint(name) / "preprocessor_config.json").unlink()
    assert trivit("features", *NAMES[:2], "-m", name, "-o", "a.npz").status == 0
    features, _, about = read("a.npz")
    np.testing.assert_allclose(features, expected["pooler_output"], atol=1e-5, rtol=0)
    assert about["features"] == "pooled"


@pytest.mark.parametrize(("model", "kind"), [("bundled/mae-digits", "class"), ("hf_ijepa", "mean")])
def test_others_give_the_class_token_or_the_mean(trivit: Run, fixture_folder: Path, model: str, kind: str) -> None:
    model = model if model.startswith("bundled") else str(fixture_folder / model)
    result = trivit("features", NAMES[0], "-m", model, "-o", "a.npz")
    assert result.status == 0, result.err
    assert read("a.npz")[2]["features"] == kind


def test_every_framework_gives_the_same(
    trivit: Run, published: Any, fixture_folder: Path, images: Path, backend: str
) -> None:
    expected = published("hf_vit_model")
    files = [images / "cat.png", images / "photo.jpg"]
    result = trivit("features", *files, "-m", fixture_folder / "hf_vit_model", "-o", "a.npz", "--backend", backend)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("a.npz: class tokens, 2 x 32, float32, ")
    features, _, about = read("a.npz")
    np.testing.assert_allclose(features, expected["last_hidden_state"][:, 0], atol=1e-5, rtol=0)
    assert about["backend"] == backend


@pytest.mark.parametrize("kind", ["class", "patches"])
@pytest.mark.parametrize("suffix", ["safetensors", "parquet"])
def test_every_format_holds_the_same(trivit: Run, kind: str, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if suffix == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        monkeypatch.setattr("vit_cli.feature_files.AT_ONCE", 2**12)
    for file in ("a.npz", f"in/a/folder/a.{suffix}"):
        result = trivit("features", *NAMES[:12], "-f", kind, "-o", file)
        assert (result.status, result.err) == (0, "")
    (features, names, about), (expected, *others) = read(file), read("a.npz")
    np.testing.assert_array_equal(features, expected)
    assert [names, about] == others
    assert [path.name for path in Path("in/a/folder").iterdir()] == [f"a.{suffix}"]
    if suffix == "parquet":
        assert parquet.ParquetFile(file).num_row_groups == (12 if kind == "patches" else 1)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_features_are_never_all_in_memory(tmp_path: Path, suffix: str) -> None:
    import tracemalloc

    from vit_cli.feature_files import Features, write_features

    with open(tmp_path / "values", "wb") as file:
        file.truncate(2**26)
    features = Features(tmp_path / "values", (2**8, 2**8, 2**8), ["a name"] * 2**8, {})
    tracemalloc.start()
    try:
        write_features(tmp_path / "whole", f".{suffix}", features)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**26 / 3


@pytest.mark.parametrize("picture", [False, True])
def test_a_run_that_was_stopped_goes_on_where_it_was(trivit: Run, stops: Any, picture: bool, monkeypatch: Any) -> None:
    scales = []
    monkeypatch.setattr(vit_cli.features, "draw_features", lambda *arguments: scales.append(arguments))
    options = ["--picture", "a.png"] if picture else []
    stops(3)
    stopped = trivit("features", DIGITS, "-o", "a.npz", "--batch-size", 6, *options)
    assert stopped.status == 130
    assert stopped.err == "trivit: stopped after 12 of 20 images; the same command goes on there\n"
    assert [path.name for path in Path().iterdir()] == ["a.npz.unfinished"]
    with open("a.npz.unfinished/features.f32", "ab") as file:  # what a run leaves that is killed while it writes
        file.write(b"half a row")
    with open("a.npz.unfinished/done.jsonl", "ab") as file:
        file.write(b'{"done": 18')
    sizes = stops(None)
    result = trivit("features", DIGITS, "-o", "a.npz", "--batch-size", 5, *options)
    assert result.status == 0
    assert "going on after 12 of 20 images" in result.err
    assert sizes[:2] == [5, 3]
    assert trivit("features", DIGITS, "-o", "b.npz", *options).status == 0
    (features, *others), (expected, *others_expected) = read("a.npz"), read("b.npz")
    np.testing.assert_allclose(features, expected, atol=1e-5, rtol=0)
    assert others == others_expected
    assert not Path("a.npz.unfinished").exists()
    if picture:
        (_, images, _, scale), (_, expected_images, _, expected_scale) = scales
        assert scale == expected_scale
        for image, wanted in zip(images, expected_images, strict=True):
            np.testing.assert_allclose(image.components, wanted.components, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (["-m", "bundled/mae-digits"], "model"),
        (["-f", "mean"], "features"),
        (["--set", "layer_norm_eps=1e-3"], "set"),
        (["--picture", "a.png"], "picture"),
        (NAMES[:1], "images"),
    ],
)
def test_another_run_does_not_mix_into_one_that_was_stopped(
    trivit: Run, stops: Any, options: list[str], difference: str
) -> None:
    stops(2)
    assert trivit("features", *NAMES[:8], "-o", "a.npz", "--batch-size", 4).status == 130
    stops(None)
    refused = trivit("features", *NAMES[:8], "-o", "a.npz", *options)
    assert refused.status == 1
    assert refused.err == (
        f"trivit: a.npz.unfinished is of a run with other {difference}; repeat that run to finish it, choose another "
        "--output, or drop it with --overwrite\n"
    )
    assert trivit("features", *NAMES[:8], "-o", "a.npz", *options, "--overwrite").status == 0
    assert len(read("a.npz")[0]) == (9 if difference == "images" else 8)


def test_other_weights_in_the_same_place_are_noticed(trivit: Run, stops: Any, checkpoint: Copy) -> None:
    model = checkpoint()
    command = ("features", *NAMES[:8], "-m", model, "-o", "a.npz", "--batch-size", 4)
    stops(2)
    assert trivit(*command).status == 130
    weights = next(model.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "of a run with other weights" in trivit(*command).err


def test_a_state_that_is_damaged_is_named(trivit: Run, stops: Any) -> None:
    stops(2)
    assert trivit("features", *NAMES[:8], "-o", "a.npz", "--batch-size", 4).status == 130
    Path("a.npz.unfinished/done.jsonl").write_text("no JSON\n")
    result = trivit("features", *NAMES[:8], "-o", "a.npz")
    assert result.err == "trivit: a.npz.unfinished is damaged; remove it, and the run begins anew\n"


def test_a_folder_that_no_run_left_is_not_touched(trivit: Run) -> None:
    Path("a.npz.unfinished").mkdir()
    Path("a.npz.unfinished/mine").write_text("mine")
    result = trivit("features", NAMES[0], "-o", "a.npz", "--overwrite")
    assert "no run left it" in result.err
    assert Path("a.npz.unfinished/mine").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no locks")
def test_two_runs_do_not_write_one_file(trivit: Run) -> None:
    import fcntl

    Path("a.npz.unfinished").mkdir()
    descriptor = os.open("a.npz.unfinished", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    result = trivit("features", NAMES[0], "-o", "a.npz")
    os.close(descriptor)
    assert (result.status, result.err) == (
        1,
        "trivit: another run is writing a.npz; wait for it, or choose another --output\n",
    )


def test_images_that_cannot_be_read_have_no_row(trivit: Run, images: Path, stops: Any) -> None:
    files = [images / "notes.txt", *NAMES[:3], "absent.png", NAMES[3]]
    stops(3)  # its second and third image, since the three of a batch are read one by one
    assert trivit("features", *files, "-o", "a.npz", "--batch-size", 3).status == 130
    stops(None)
    result = trivit("features", *files, "-o", "a.npz", "--batch-size", 3)
    assert result.status == 1
    going_on, first, second = result.err.splitlines()
    assert "after 3 of 6 images" in going_on
    assert "notes.txt is not an image" in first
    assert "absent.png" in second
    assert read("a.npz")[1] == NAMES[:4]
    nothing = trivit("features", "absent.png", "-o", "b.npz")
    assert (nothing.status, nothing.out) == (1, "")
    assert [path.name for path in Path().glob("*.npz*")] == ["a.npz"]


def test_drafts_are_said_in_the_file_and_do_not_mix_with_others(trivit: Run, stops: Any) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    Image.fromarray(photo).resize((640, 480)).save("photo.jpg", quality=95)
    parts = {}
    for option in ([], ["--draft"]):
        assert trivit("features", "photo.jpg", "-o", "a.npz", "--overwrite", *option).status == 0
        parts[bool(option)] = read("a.npz")
    assert (parts[False][2].get("draft"), parts[True][2]["draft"]) == (None, True)
    assert 0 < np.abs(parts[True][0] - parts[False][0]).max() < 0.5
    stops(2)
    assert trivit("features", DIGITS, "-o", "b.npz", "--batch-size", 6).status == 130
    assert "of a run with other draft" in trivit("features", DIGITS, "-o", "b.npz", "--draft").err


def test_a_file_that_is_there_stays_unless_told(trivit: Run) -> None:
    Path("a.npz").write_text("mine")
    result = trivit("features", NAMES[0], "-o", "a.npz")
    assert (result.status, result.err) == (
        1,
        "trivit: a.npz exists; choose another name, or replace it with --overwrite\n",
    )
    assert Path("a.npz").read_text() == "mine"
    assert trivit("features", NAMES[0], "-o", "a.npz", "--overwrite").status == 0
    assert len(read("a.npz")[0]) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-o", "a.csv"], 1, "a.csv ends as no file of features does; choose a name in .npz, .safetensors, .parquet"),
        (["-o", "a.npz", "-f", "pooled"], 1, "bundled/vit-digits has no trained pooler; use --features class"),
        (["-o", "a.npz", "-f", "all"], 2, "choose one of: class, mean, patches, pooled"),
        ([], 2, "Missing option '--output'"),
        (["-o", "a.npz", "--picture", "a"], 1, "a has no suffix of a picture; choose a name such as a.png"),
        (["-o", "a.npz", "--set", "depth=2"], 1, "'depth' is no field"),
    ],
)
def test_a_wrong_call_gets_one_sentence(trivit: Run, arguments: list[str], status: int, message: str) -> None:
    result = trivit("features", NAMES[0], *arguments)
    assert result.status == status
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not list(Path().glob("a*"))


def test_a_model_without_class_token_says_so(trivit: Run, fixture_folder: Path) -> None:
    model = fixture_folder / "hf_siglip_vision"
    result = trivit("features", NAMES[0], "-m", model, "-f", "class", "-o", "a.npz")
    assert result.err == f"trivit: {model} has no class token; use --features pooled\n"


def test_weights_that_are_damaged_are_named(trivit: Run, checkpoint: Copy) -> None:
    from safetensors.numpy import save_file

    file = checkpoint() / "model.safetensors"
    tensors = load_file(file)
    tensors["vit.layernorm.bias"][0] = np.nan
    save_file(tensors, file)
    result = trivit("features", NAMES[0], "-m", file.parent, "-o", "a.npz")
    assert result.err == f"trivit: features of {file.parent} are not finite; its weights are damaged\n"
    assert not list(Path().glob("a*"))


def test_parquet_without_pyarrow_says_what_to_install(trivit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = trivit("features", NAMES[0], "-o", "a.parquet")
    assert result.err == 'trivit: a Parquet file needs pyarrow; run: pip install "trivit[parquet]"\n'


def test_the_picture_is_written(trivit: Run) -> None:
    from PIL import Image

    result = trivit("features", *NAMES[:2], "-o", "a.npz", "--picture", "a.png")
    assert (result.status, result.err) == (0, "trivit: a.png shows principal components of the patches\n")
    with Image.open("a.png") as picture:
        assert picture.size[0] > 400


@pytest.mark.parametrize("batch_size", [4, 32])
def test_many_images_show_their_progress_on_a_terminal(
    trivit: Run, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    result = trivit("features", DIGITS, "-o", "a.npz", "--batch-size", batch_size)
    assert result.status == 0
    assert ("computing" in result.err, "20/20" in result.err) == (batch_size == 4,) * 2
