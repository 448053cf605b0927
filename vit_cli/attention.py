"""`trivit attention`: where the class token of a model looks on images, as a picture with a table, or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conversion.proof.frameworks import choose_framework
from vit_cli.attention_maps import patches_with_mass
from vit_cli.attention_model import ALL, ROLLOUT, AttentionModel
from vit_cli.attention_picture import PicturedImage, PicturedMap, draw_picture
from vit_cli.image_batches import Unreadable, progress, read_batch
from vit_cli.image_files import find_images
from vit_cli.picture import LARGEST_NUMBER_OF_IMAGES, LONGEST_TITLE, check_picture_file, shortened, unprocess
from vit_cli.settings import parse_settings
from vit_cli.terminal import complain, file_column, plain_console, print_json


@dataclass(frozen=True)
class Look:
    """How one head, or the rollout, looks at one image.

    Attributes:
        head: the head's number, or "rollout".
        weights: (rows, columns) of patches; at most one in sum, since the rest is for the class token itself.
        kept: of the same shape, the patches on which most of it lies, if they were asked for.
    """

    head: int | str
    weights: np.ndarray
    kept: np.ndarray | None

    @property
    def mass(self) -> float:
        """The share of the attention that is for patches."""
        return float(self.weights.sum(dtype=np.float64))

    @property
    def largest(self) -> tuple[int, int]:
        """Row and column of the patch that is looked at most."""
        row, column = np.unravel_index(self.weights.argmax(), self.weights.shape)
        return int(row), int(column)


@dataclass(frozen=True)
class Finding:
    """What was found on one image; its pixels, (height, width, channels), if it is to be drawn."""

    file: Path
    looks: list[Look]
    pixels: np.ndarray | None


def show_attention(
    arguments: Sequence[str],
    *,
    model: str,
    head: str = ALL,
    layer: int | None = None,
    threshold: float | None = None,
    picture: Path | None = None,
    as_json: bool = False,
    settings: Sequence[str] = (),
    under: str | None = None,
    revision: str = "main",
    backend: str | None = None,
) -> bool:
    """Draw where a model looks and print it in numbers; the arguments are those of the command.

    Returns:
        Whether every image could be read; those that could not are named on standard error.

    Raises:
        ImportError: no framework is installed, or nothing to draw with.
        OSError: there are no images, no such model, or the picture cannot be written.
        TypeError: a setting is no field of the config.
        ValueError: there is no such head or layer, or the model is not complete.
    """
    files = find_images(arguments)
    if picture is None and not as_json:
        picture = Path(f"{files[0].stem}.attention.png" if len(files) == 1 else "attention.png")
    if picture is not None:
        check_picture_file(picture, files)
    loaded = AttentionModel.load(model, revision, choose_framework(backend), parse_settings(settings), under)
    layer = loaded.find_layer(layer)
    heads = loaded.find_heads(layer, head)
    findings = _look(loaded, files, layer, heads, threshold, LARGEST_NUMBER_OF_IMAGES if picture else 0)
    if as_json:
        print_json([_as_json(finding, layer) for finding in findings])
    elif findings:
        _print_table(findings)
    if picture is not None and findings:
        drawn = [_pictured(finding, loaded.config.patch_shape) for finding in findings if finding.pixels is not None]
        draw_picture(picture, drawn, _scale(layer, heads, threshold))
        some = "" if len(drawn) == len(findings) else f", for the first {len(drawn)} of {len(findings)} images"
        complain(f"{picture} shows where the model looked{some}")
    return len(findings) == len(files)


def _look(
    loaded: AttentionModel,
    files: list[Path],
    layer: int,
    heads: list[int | str],
    threshold: float | None,
    pictured: int,
) -> list[Finding]:
    """Ask the model about every file, naming those that cannot be read; the first `pictured` are to be drawn."""
    findings: list[Finding] = []
    at_once = loaded.images_at_once
    with progress("looking", len(files), shown=len(files) > at_once and sys.stderr.isatty()) as advance:
        for start in range(0, len(files), at_once):
            batch = files[start : start + at_once]
            for images in read_batch(loaded.processor, batch):
                if isinstance(images, Unreadable):
                    complain(images.reason)
                    continue
                weights = loaded.look(images.pixel_values, layer, heads)
                for file, pixels, rows in zip(images.files, images.pixel_values, weights, strict=True):
                    looks = [
                        _looked(head, row, loaded.config.grid, threshold) for head, row in zip(heads, rows, strict=True)
                    ]
                    is_drawn = len(findings) < pictured
                    findings.append(Finding(file, looks, unprocess(pixels, loaded.processor) if is_drawn else None))
            advance(len(batch))
    return findings


def _looked(head: int | str, weights: np.ndarray, grid: tuple[int, int], threshold: float | None) -> Look:
    kept = None if threshold is None else patches_with_mass(weights, threshold).reshape(grid)
    return Look(head, weights.reshape(grid), kept)


def _pictured(finding: Finding, patch_shape: tuple[int, int]) -> PicturedImage:
    assert finding.pixels is not None
    maps = []
    for look in finding.looks:
        if look.kept is None:
            found = f"up to {look.weights.max():.1%} a patch"
        else:
            found = f"{look.kept.sum()} of {look.kept.size} patches"
        kept = None if look.kept is None else look.kept.ravel()
        maps.append(PicturedMap(look.weights.ravel(), f"{_called(look.head)}, {found}", kept))
    rows, columns = finding.looks[0].weights.shape
    return PicturedImage(
        shortened(finding.file.name, LONGEST_TITLE), finding.pixels, patch_shape, maps, f"{rows} x {columns} patches"
    )


def _called(head: int | str) -> str:
    return ROLLOUT if head == ROLLOUT else f"head {head}"


def _scale(layer: int, heads: list[int | str], threshold: float | None) -> str:
    """What the colours of the picture stand for."""
    is_rollout = heads == [ROLLOUT]
    if threshold is None:
        what = (
            f"attention rollout up to layer {layer}" if is_rollout else f"the class token's attention in layer {layer}"
        )
        return f"{what}, each map on its own scale"
    what = f"attention rollout up to layer {layer}" if is_rollout else f"attention in layer {layer}"
    return f"{what}: the fewest patches that hold {100 * threshold:.4g}%"


def _as_json(finding: Finding, layer: int) -> dict[str, Any]:
    maps: list[dict[str, Any]] = []
    for look in finding.looks:
        row, column = look.largest
        largest = {"row": row, "column": column, "weight": float(look.weights[row, column])}
        maps.append({"head": look.head, "mass": look.mass, "largest": largest})
        if look.kept is not None:
            maps[-1]["kept"] = np.argwhere(look.kept).tolist()
    return {"file": str(finding.file), "grid": list(finding.looks[0].weights.shape), "layer": layer, "maps": maps}


def _print_table(findings: Sequence[Finding]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    title, names = file_column([finding.file for finding in findings])
    table.add_column(title, overflow="fold")
    table.add_column("head", justify="right")
    table.add_column("on patches", justify="right", no_wrap=True)
    table.add_column("most on", no_wrap=True)
    if findings[0].looks[0].kept is not None:
        table.add_column("patches kept", justify="right", no_wrap=True)
    for name, finding in zip(names, findings, strict=True):
        for place, look in enumerate(finding.looks):
            row, column = look.largest
            cells = [f"{look.mass:.1%}", f"row {row}, column {column}: {look.weights[row, column]:.1%}"]
            if look.kept is not None:
                cells.append(f"{look.kept.sum()} of {look.kept.size}")
            table.add_row(Text("" if place else name), str(look.head), *cells)
    plain_console().print(table)
