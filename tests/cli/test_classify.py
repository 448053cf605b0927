from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import vit_cli.classify
from conversion import AutoImageProcessor
from conversion.proof.answers import probabilities
from conversion.proof.framework_process import load_complete
from conversion.proof.frameworks import FRAMEWORKS
from vit_core.hub import BUNDLED

pytest.importorskip("torch")

Run = Callable[..., Any]
Copy = Callable[..., Path]

#: The answers of transformers 4.47.1 (ViTImageProcessor and ViTForImageClassification) for images converted to RGB.
PHOTO = [("class 7", 0.281169), ("class 1", 0.216214), ("class 6", 0.159939)]
CAT = [("class 8", 0.236573), ("class 7", 0.214826), ("class 9", 0.168912)]
CAT_MULTILABEL = [("LABEL_8", 0.778331), ("LABEL_5", 0.626296), ("LABEL_1", 0.580953)]


def answers(result: Any) -> dict[str, list[tuple[str, float]]]:
    assert result.status == 0, result.err
    return {
        Path(entry["file"]).name: [(answer["label"], round(answer["score"], 5)) for answer in entry["predictions"]]
        for entry in result.json()
    }


def rounded(expected: list[tuple[str, float]]) -> list[tuple[str, Any]]:
    return [(label, pytest.approx(score, abs=1e-5)) for label, score in expected]


def test_answers_are_those_of_the_reference(trivit: Run, checkpoint: Copy, images: Path, backend: str) -> None:
    files = [images / "photo.jpg", images / "cat.png"]
    result = trivit("classify", *files, "-m", checkpoint(), "--json", "--top-k", 3, "--backend", backend)
    assert answers(result) == {"photo.jpg": rounded(PHOTO), "cat.png": rounded(CAT)}
    assert result.err == ""


def test_a_photo_that_was_taken_sideways_is_turned_upright(
    trivit: Run, checkpoint: Copy, images: Path, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn it clockwise to see it
    with Image.open(images / "cat.png") as upright:
        upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "sideways.png", exif=exif)
    result = trivit("classify", tmp_path / "sideways.png", "-m", checkpoint(), "--json", "--top-k", 3)
    assert answers(result) == {"sideways.png": rounded(CAT)}


def test_a_classifier_may_read_a_pooler(trivit: Run, pooling_checkpoint: Path, images: Path, backend: str) -> None:
    files = [images / "photo.jpg", images / "cat.png"]
    result = trivit("classify", *files, "-m", pooling_checkpoint, "--json", "--top-k", 3, "--backend", backend)
    assert answers(result) == {"photo.jpg": rounded(PHOTO), "cat.png": rounded(CAT)}
    assert result.err == ""


def test_a_classifier_without_the_pooler_that_it_reads_is_refused(trivit: Run, checkpoint: Copy, images: Path) -> None:
    result = trivit("classify", images, "-m", checkpoint(changes={"config.json": {"classifier_uses_pooler": True}}))
    assert (result.status, result.out) == (1, "")
    assert "no trained classifier: it lacks vit.pooler.dense.weight" in result.err


def test_nothing_but_answers_is_heard_of_a_framework(
    checkpoint: Copy, images: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    code = "import sys, vit_cli; sys.exit(vit_cli.main(sys.argv[1:]))"
    arguments = ["classify", str(images / "cat.png"), "-m", str(checkpoint()), "--json", "--backend", backend]
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert len(json.loads(run.stdout)) == 1


def test_one_of_several_models_is_chosen_by_its_name(trivit: Run, checkpoint: Copy, images: Path) -> None:
    folder = checkpoint()
    tensors = load_file(folder / "model.safetensors")
    expected = trivit("classify", images / "cat.png", "-m", folder, "--json").json()
    models = {"best/": tensors, "last/": {name: -array for name, array in tensors.items()}}
    stored = {place + name: array for place, model in models.items() for name, array in model.items()}
    save_file(stored, folder / "model.safetensors")
    (folder / "pytorch_model.bin").unlink(missing_ok=True)
    arguments = ("classify", images / "cat.png", "-m", folder, "--json")
    assert "several models, under 'best' and 'last'; name the one to read" in trivit(*arguments).err
    (found,) = trivit(*arguments, "--under", "best").json()[0]["predictions"]
    assert found == pytest.approx(expected[0]["predictions"][0], abs=1e-6)


def test_several_classes_have_independent_probabilities(trivit: Run, checkpoint: Copy, images: Path) -> None:
    result = trivit("classify", images / "cat.png", "-m", checkpoint("hf_vit_multilabel"), "--json", "-k", 3)
    assert answers(result) == {"cat.png": rounded(CAT_MULTILABEL)}


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_batches_do_not_change_the_answers(trivit: Run, checkpoint: Copy, images: Path, batch_size: int) -> None:
    result = trivit("classify", images, "-m", checkpoint(), "--json", "--batch-size", batch_size)
    found = answers(result)
    assert list(found) == ["cat.png", "gray.png", "photo.jpg"]
    assert found["cat.png"] == rounded(CAT[:1])
    assert found["photo.jpg"] == rounded(PHOTO[:1])


def test_json_is_one_document_of_files_and_predictions(trivit: Run, checkpoint: Copy, images: Path) -> None:
    document = trivit("classify", images / "cat.png", "-m", checkpoint(), "--json").json()
    assert [set(entry) for entry in document] == [{"file", "predictions"}]
    assert document[0]["file"] == str(images / "cat.png")


def test_table_has_file_answer_and_probability(
    trivit: Run, checkpoint: Copy, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    result = trivit("classify", "photo.jpg", "cat.png", "-m", checkpoint(), "--top-k", 2)
    rows = [line.split() for line in result.out.splitlines() if line.strip() and "─" not in line]
    assert rows == [
        ["file", "answer", "probability"],
        ["photo.jpg", "class", "7", "28.1%"],
        ["class", "1", "21.6%"],
        ["cat.png", "class", "8", "23.7%"],
        ["class", "7", "21.5%"],
    ]
    assert all(len(line) <= 80 for line in result.out.splitlines())


def test_table_fits_80_columns_whatever_the_names(trivit: Run, checkpoint: Copy, images: Path) -> None:
    labels = {str(number): f"a very long label {number} " * 5 for number in range(10)}
    model = checkpoint(changes={"config.json": {"id2label": labels}})
    deep = images / ("long folder name " * 6)
    deep.mkdir()
    (images / "cat.png").rename(deep / "cat.png")
    result = trivit("classify", deep, "-m", model)
    assert all(len(line) <= 80 for line in result.out.splitlines())
    assert "23.7%" in result.out


def test_labels_cannot_steer_the_terminal(trivit: Run, checkpoint: Copy, images: Path) -> None:
    labels = {str(number): "\x1b[2J[red]label" for number in range(10)}
    result = trivit("classify", images / "cat.png", "-m", checkpoint(changes={"config.json": {"id2label": labels}}))
    assert "\x1b" not in result.out
    assert "[red]label" in result.out


def test_top_k_beyond_the_labels_gives_all_of_them(trivit: Run, checkpoint: Copy, images: Path) -> None:
    found = answers(trivit("classify", images / "cat.png", "-m", checkpoint(), "--json", "--top-k", 99))
    assert len(found["cat.png"]) == 10
    assert sum(score for _, score in found["cat.png"]) == pytest.approx(1, abs=1e-4)


def test_unreadable_images_are_named_and_the_others_classified(trivit: Run, checkpoint: Copy, images: Path) -> None:
    (images / "truncated.png").write_bytes((images / "cat.png").read_bytes()[:500])
    (images / "empty.jpg").touch()
    result = trivit("classify", images, images / "gone.png", images / "notes.txt", "-m", checkpoint(), "--json")
    assert result.status == 1
    assert [Path(entry["file"]).name for entry in result.json()] == ["cat.png", "gray.png", "photo.jpg"]
    lines = result.err.splitlines()
    assert len(lines) == 4
    for line, name in zip(lines, ["empty.jpg", "truncated.png", "gone.png", "notes.txt"], strict=True):
        assert line.startswith("trivit: ")
        assert name in line


def test_nothing_readable_is_a_failure_without_a_table(trivit: Run, checkpoint: Copy, images: Path) -> None:
    result = trivit("classify", images / "notes.txt", "-m", checkpoint())
    assert (result.status, result.out) == (1, "")
    assert "notes.txt" in result.err


def test_model_of_one_channel_sees_color_images_in_gray(trivit: Run, checkpoint: Copy, images: Path) -> None:
    model = checkpoint("hf_vit_variant_gray_selu")
    gray = images / "gray_cat.png"
    Image.open(images / "cat.png").convert("RGB").convert("L").save(gray)
    found = answers(trivit("classify", images / "cat.png", gray, "-m", model, "--json", "-k", 3))
    assert found["cat.png"] == rounded(found["gray_cat.png"])


def test_means_that_say_nothing_about_the_models_channels_are_refused(
    trivit: Run, checkpoint: Copy, images: Path
) -> None:
    model = checkpoint("hf_vit_variant_gray_selu", {"preprocessor_config.json": {"image_mean": [0.1, 0.2, 0.3]}})
    result = trivit("classify", images, "-m", model)
    assert result.status == 1
    assert "takes images of 1 channel(s), but its preprocessor_config.json has an image_mean for 3" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hf_vit_regression", "predicts numbers, not classes"),
        ("hf_vit_model", "no trained classifier: it lacks classifier.weight"),
        ("hf_vit_sharded", "preprocessor_config.json"),
    ],
)
def test_model_that_cannot_classify_is_refused(
    trivit: Run, checkpoint: Copy, images: Path, name: str, words: str
) -> None:
    result = trivit("classify", images, "-m", checkpoint(name))
    assert (result.status, result.out) == (1, "")
    assert words in result.err
    assert result.err.count("\n") == 1


def test_picture_is_drawn_beside_the_answers(trivit: Run, checkpoint: Copy, images: Path, tmp_path: Path) -> None:
    picture = tmp_path / "new/where.png"
    result = trivit("classify", images, "-m", checkpoint(), "--picture", picture, "--json")
    assert answers(result)["cat.png"] == rounded(CAT[:1])
    with Image.open(picture) as drawn:
        assert drawn.size[0] > drawn.size[1]  # three pairs in a row


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is to be drawn; nothing is."""
    pictured: list[Any] = []
    monkeypatch.setattr(vit_cli.classify, "draw_picture", lambda _, images, scale: pictured.extend(images))
    return pictured


def test_every_framework_looked_where_torch_did(
    trivit: Run, checkpoint: Copy, images: Path, drawn: list[Any], backend: str
) -> None:
    files = [images / "cat.png", images / "photo.jpg"]
    arguments = ("classify", *files, "-m", checkpoint(), "--picture", "a.png", "--backend")
    assert trivit(*arguments, "torch").status == trivit(*arguments, backend).status == 0
    references, pictured = drawn[:2], drawn[2:]
    assert [image.caption for image in pictured] == ["cat.png", "photo.jpg"]
    for reference, image in zip(references, pictured, strict=True):
        assert image.title == reference.title
        np.testing.assert_allclose(image.maps[0].weights, reference.maps[0].weights, atol=1e-5, rtol=0)


def test_picture_follows_a_grid_that_is_not_square(trivit: Run, images: Path, tmp_path: Path, drawn: list[Any]) -> None:
    import vit_torch
    from vit_core import ViTConfig, ViTImageProcessor

    config = ViTConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, image_size=(16, 48),
        patch_size=(8, 4), num_labels=3,
    )  # fmt: skip
    vit_torch.ViTForImageClassification(config).save_pretrained(tmp_path / "wide")
    ViTImageProcessor(size={"height": 16, "width": 48}).save_pretrained(tmp_path / "wide")
    result = trivit("classify", images / "cat.png", "-m", tmp_path / "wide", "--picture", tmp_path / "a.png")
    assert result.status == 0, result.err
    assert drawn[0].pixels.shape == (16, 48, 3)
    assert drawn[0].maps[0].weights.shape == (2 * 12,)


def test_picture_shows_the_first_24_images_and_says_so(
    trivit: Run, checkpoint: Copy, images: Path, tmp_path: Path, drawn: list[Any]
) -> None:
    files = [images / "cat.png"] * 26
    result = trivit("classify", *files, "-m", checkpoint(), "--picture", tmp_path / "a.png", "--json")
    assert len(result.json()) == 26
    assert len(drawn) == 24
    assert "a.png shows where the model looked, for the first 24 of 26 images" in result.err


def test_picture_of_nothing_readable_is_not_drawn(trivit: Run, checkpoint: Copy, images: Path, tmp_path: Path) -> None:
    result = trivit("classify", images / "notes.txt", "-m", checkpoint(), "--picture", tmp_path / "a.png")
    assert result.status == 1
    assert not (tmp_path / "a.png").exists()


def test_picture_that_cannot_be_drawn_is_refused_before_the_work(trivit: Run, images: Path) -> None:
    result = trivit("classify", images, "-m", "./gone", "--picture", "picture.docx")
    assert result.err == "trivit: picture.docx has no suffix of a picture; choose a name such as picture.png\n"


def test_picture_without_matplotlib_names_the_extra(trivit: Run, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    result = trivit("classify", images, "-m", "./gone", "--picture", "a.png")
    assert result.err == 'trivit: a picture needs matplotlib; run: pip install "trivit[cli]"\n'


def test_weights_that_are_not_numbers_give_one_sentence(trivit: Run, checkpoint: Copy, images: Path) -> None:
    import vit_torch

    folder = checkpoint()
    model = vit_torch.ViTForImageClassification.from_pretrained(folder)
    model.classifier.bias.data[:] = float("nan")
    model.save_pretrained(folder)
    result = trivit("classify", images / "cat.png", "-m", folder, "--json")
    assert (result.status, result.out) == (1, "")
    assert result.err == f"trivit: the logits of {folder} are not finite; its weights are damaged\n"


def test_bundled_digits_are_the_default_model(trivit: Run, backend: str) -> None:
    folder = BUNDLED / "vit-digits/test_images"
    found = answers(trivit("classify", folder, "--json", "--backend", backend))
    assert len(found) == 20
    assert all(name == f"digit_{predictions[0][0]}_test_{name[-8:]}" for name, predictions in found.items())


def test_flax_compiles_the_model_for_each_size_of_batch_once(trivit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    vit_flax = pytest.importorskip("vit_flax")
    run, traced = vit_flax.ViTForImageClassification.__call__, []

    def traced_run(model: Any, pixel_values: Any, **options: Any) -> Any:
        traced.append(pixel_values.shape[0])
        return run(model, pixel_values, **options)

    monkeypatch.setattr(vit_flax.ViTForImageClassification, "__call__", traced_run)
    folder = BUNDLED / "vit-digits/test_images"
    assert len(trivit("classify", folder, "--json", "--backend", "flax", "--batch-size", 6).json()) == 20
    assert traced == [6, 2]


def test_table_names_a_shared_folder_once(trivit: Run) -> None:
    folder = BUNDLED / "vit-digits/test_images"
    shared = " ".join(trivit("classify", folder).out.split())
    assert shared.startswith("file in")
    assert "digit_7_test_0009.png 7" in shared
    assert shared.count("test_images") <= 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("batch_size", "shown"), [(4, True), (32, False)])
def test_many_images_show_their_progress_on_a_terminal(batch_size: int, shown: bool) -> None:
    import pty

    command = "import sys; from vit_cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["classify", str(BUNDLED / "vit-digits/test_images"), "--json", "--batch-size", str(batch_size)]
    terminal, its_end = pty.openpty()
    run = subprocess.run(
        [sys.executable, "-c", command, *arguments], stdout=subprocess.PIPE, stderr=its_end, timeout=60
    )
    os.write(its_end, b"end of test\n")
    os.close(its_end)
    with open(terminal, "rb", buffering=0) as screen:
        seen = b""
        while b"end of test" not in seen:
            seen += screen.read(1024)
    assert run.returncode == 0
    assert len(json.loads(run.stdout)) == 20
    assert (b"classifying" in seen) == shown
    assert (b"20/20" in seen) == shown


# Relatives of ViT


@pytest.mark.parametrize(
    "source",
    ["hf_deit", "hf_deit_classifier", "hf_beit_grads", "hf_data2vec_vision", "hf_vit_msn", "hf_ijepa", "timm_beitv2"],
)
def test_any_classifier_answers_as_its_own_class(
    trivit: Run, fixture_folder: Path, images: Path, tmp_path: Path, source: str
) -> None:
    picture = tmp_path / "looked.png"
    arguments = ("-m", fixture_folder / source, "--json", "--top-k", 10, "--backend", "torch", "--picture", picture)
    found = answers(trivit("classify", images / "photo.jpg", *arguments))["photo.jpg"]
    assert len(found) == 10
    assert picture.is_file()
    framework, processor = FRAMEWORKS["torch"], AutoImageProcessor.from_pretrained(fixture_folder / source)
    model, _ = load_complete(framework.load_package(), str(fixture_folder / source), {})
    pixels = processor(Image.open(images / "photo.jpg"), return_tensors="np")["pixel_values"]
    logits = framework.forward(model, {"pixel_values": pixels}, False, False).logits.numpy()
    assert [score for _, score in found] == pytest.approx(sorted(probabilities(logits, None)[0])[::-1], abs=2e-5)


def test_a_masked_autoencoder_is_no_classifier(trivit: Run, fixture_folder: Path, images: Path) -> None:
    result = trivit("classify", images / "photo.jpg", "-m", fixture_folder / "hf_vit_mae")
    assert (result.status, result.out) == (1, "")
    assert "is no trained classifier: it lacks classifier.weight; choose a fine-tuned model" in result.err


@pytest.mark.filterwarnings("always:.* was trained with patches")
def test_patches_may_have_another_size_and_that_is_said(trivit: Run, checkpoint: Copy, images: Path) -> None:
    arguments = ["classify", images / "photo.jpg", "-m", checkpoint(), "--json", "--set", "patch_size=4"]
    result = trivit(*arguments)
    assert result.err.count("trained with patches of 8 x 8 pixels; its projection is resampled for 4 x 4") == 1
    chosen = trivit(*arguments, "--set", "patch_resampling=bilinear")
    assert chosen.err == ""
    assert answers(result) != answers(chosen)
