"""`trivit classify`: what the user wrote -> answers, as a table, as JSON or as a picture."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from conversion.proof.frameworks import choose_framework
from vit_cli.attention_picture import draw_picture
from vit_cli.classifier import Answer, Classifier
from vit_cli.image_batches import Unreadable, progress, read_ahead
from vit_cli.image_files import find_images
from vit_cli.picture import LARGEST_NUMBER_OF_IMAGES, check_picture_file
from vit_cli.settings import parse_settings
from vit_cli.terminal import complain, file_column, plain_console, print_json, printable

#: Attention maps of 32 images by a base model take 700 MB; images to be pictured go through in smaller batches.
PICTURED_AT_ONCE = 8


def classify_images(
    arguments: Sequence[str],
    *,
    model: str,
    top_k: int = 1,
    as_json: bool = False,
    picture: Path | None = None,
    draft: bool = False,
    batch_size: int = 32,
    settings: Sequence[str] = (),
    under: str | None = None,
    revision: str = "main",
    backend: str | None = None,
) -> bool:
    """Classify images and print the answers; the arguments are those of the command.

    Returns:
        Whether every image could be read; those that could not are named on standard error.

    Raises:
        ImportError: no framework is installed.
        OSError: there are no images, or no such model.
        ValueError: the model is no classifier, or its preprocessing does not fit it.
    """
    files = find_images(arguments)
    if picture is not None:
        check_picture_file(picture, files)
    classifier = Classifier.load(model, revision, choose_framework(backend), parse_settings(settings), under)
    classifier.processor.draft = draft
    answers = _classify(classifier, files, top_k, batch_size, LARGEST_NUMBER_OF_IMAGES if picture else 0)
    if as_json:
        print_json([_as_json(answer) for answer in answers])
    elif answers:
        _print_table(answers)
    pictured = [answer.pictured for answer in answers if answer.pictured]
    if picture is not None and pictured:
        draw_picture(picture, pictured, "attention rollout, each image on its own scale")
        some = "" if len(pictured) == len(answers) else f", for the first {len(pictured)} of {len(answers)} images"
        complain(f"{picture} shows where the model looked{some}")
    return len(answers) == len(files)


def _classify(classifier: Classifier, files: list[Path], top_k: int, batch_size: int, pictured: int) -> list[Answer]:
    """Ask the model about every file, naming those that cannot be read; the first `pictured` are to be drawn."""
    answers: list[Answer] = []
    batches = list(_batches(files, batch_size, pictured))
    read = read_ahead(classifier.processor, [batch for batch, _ in batches])
    with progress("classifying", len(files), shown=len(files) > batch_size and sys.stderr.isatty()) as advance:
        for (batch, is_pictured), parts in zip(batches, read, strict=True):
            for images in parts:
                if isinstance(images, Unreadable):
                    complain(images.reason)
                else:
                    answers += classifier.answer(images, top_k, is_pictured)
            advance(len(batch))
    return answers


def _batches(files: list[Path], batch_size: int, pictured: int) -> Iterator[tuple[list[Path], bool]]:
    """Cut the files into batches, and say of each whether it is for the picture."""
    start = 0
    while start < len(files):
        is_pictured = start < pictured
        end = min(start + min(batch_size, PICTURED_AT_ONCE), pictured) if is_pictured else start + batch_size
        yield files[start:end], is_pictured
        start = end


def _as_json(answer: Answer) -> dict[str, Any]:
    predictions = [{"label": label, "score": score} for label, score in answer.predictions]
    return {"file": str(answer.file), "predictions": predictions}


def _print_table(answers: Sequence[Answer]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    title, names = file_column([answer.file for answer in answers])
    table.add_column(title, overflow="fold")
    table.add_column("answer", overflow="fold")
    table.add_column("probability", justify="right", no_wrap=True)
    for name, answer in zip(names, answers, strict=True):
        for place, (label, score) in enumerate(answer.predictions):
            table.add_row(
                Text("" if place else name), Text(printable(label)), f"{score:.1%}", style="" if place == 0 else "dim"
            )
    plain_console().print(table)
