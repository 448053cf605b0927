"""`trivit features`: features of images, in a file that other tools read, and as a picture."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from conversion.proof.frameworks import FRAMEWORKS, choose_framework
from conversion.sources import open_files
from vit_cli.feature_files import check_format
from vit_cli.feature_kinds import KINDS
from vit_cli.feature_model import FeatureModel
from vit_cli.feature_picture import BRIGHTEST, COLOURS, DARKEST, PicturedFeatures, draw_features
from vit_cli.image_batches import Images, Unreadable, progress, read_ahead, read_batch
from vit_cli.image_files import find_images
from vit_cli.output_file import check_writable
from vit_cli.picture import LARGEST_NUMBER_OF_IMAGES, check_picture_file, unprocess
from vit_cli.principal_components import Moments
from vit_cli.settings import parse_settings
from vit_cli.terminal import bytes_in_words, complain, printable
from vit_cli.unfinished_features import UnfinishedFeatures, unfinished_features
from vit_core.hub import locate


def write_image_features(
    arguments: Sequence[str],
    *,
    model: str,
    output: Path,
    kind: str | None = None,
    picture: Path | None = None,
    draft: bool = False,
    batch_size: int = 32,
    overwrite: bool = False,
    settings: Sequence[str] = (),
    under: str | None = None,
    revision: str = "main",
    backend: str | None = None,
) -> bool:
    """Compute features of images and write them to a file; the arguments are those of the command.

    Returns:
        Whether every image could be read; those that could not are named on standard error.

    Raises:
        ImportError: no framework is installed, or nothing to write or draw with.
        OSError: there are no images, no such model, or a file cannot be written.
        TypeError: a setting is no field of the config.
        ValueError: the model has no such features, or the file or a run that was stopped is in the way.
    """
    files = find_images(arguments)
    names = [_storable(file) for file in files]
    check_format(output, names)
    check_writable(output, "features")
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists; choose another name, or replace it with --overwrite")
    if picture is not None:
        check_picture_file(picture, files)
    framework = choose_framework(backend)
    fields = parse_settings(settings)
    loaded = FeatureModel.load(model, kind, revision, framework, fields, under)
    loaded.processor.draft = draft
    options = {
        "model": model,
        "revision": revision,
        "under": under,
        "set": fields,
        "features": loaded.kind,
        "backend": next(name for name, each in FRAMEWORKS.items() if each is framework),
        **({"draft": True} if draft else {}),
    }
    run = {
        **options,
        "images": _digest([json.dumps(names).encode()]),
        "weights": _digest(_weights(model, revision)),
        "config": loaded.config.to_dict(),
        "preprocessing": loaded.processor.to_dict(),
        "picture": picture is not None,
    }
    features, patches = loaded.look(_blank(loaded))
    shape, patch_width = features.shape[1:], patches.shape[2]
    with unfinished_features(output, run, shape, patch_width if picture else None, overwrite) as unfinished:
        if unfinished.done:
            complain(f"going on after {unfinished.done} of {len(files)} images, which {unfinished.folder} has")
        for reason in unfinished.unreadable:
            complain(reason)
        try:
            _compute(loaded, files, names, batch_size, unfinished)
        except KeyboardInterrupt:
            if unfinished.done:
                complain(f"stopped after {unfinished.done} of {len(files)} images; the same command goes on there")
            raise
        if unfinished.files:
            if picture is not None and unfinished.moments is not None:
                _draw(picture, loaded, files, unfinished.moments, len(unfinished.files))
            unfinished.finish(output, {**options, "grid": [*loaded.config.grid]})
            print(_in_words(output, loaded.kind, (len(unfinished.files), *shape)))
        return len(unfinished.files) == len(files)


def _compute(
    loaded: FeatureModel, files: list[Path], names: list[str], batch_size: int, unfinished: UnfinishedFeatures
) -> None:
    """Compute what is missing, batch by batch, naming images that cannot be read."""
    name_of = dict(zip(files, names, strict=True))
    left = files[unfinished.done :]
    batches = [left[start : start + batch_size] for start in range(0, len(left), batch_size)]
    with progress("computing", len(files), shown=len(batches) > 1 and sys.stderr.isatty()) as advance:
        advance(unfinished.done)
        for batch, parts in zip(batches, read_ahead(loaded.processor, batches), strict=True):
            values: list[np.ndarray] = []
            found: list[str] = []
            unreadable: list[str] = []
            for images in parts:
                if isinstance(images, Unreadable):
                    complain(images.reason)
                    unreadable.append(images.reason)
                    continue
                features, patches = loaded.look(images.pixel_values)
                values.append(features)
                found += [name_of[file] for file in images.files]
                if unfinished.moments is not None:
                    unfinished.moments.add(patches.reshape(-1, patches.shape[2]))
            rows = np.concatenate(values) if values else np.empty((0, *unfinished.shape), np.float32)
            unfinished.add(unfinished.done + len(batch), rows, found, unreadable)
            advance(len(batch))


def _draw(picture: Path, loaded: FeatureModel, files: list[Path], moments: Moments, count: int) -> None:
    """Draw the first images, which are read once more, so that none has to be kept meanwhile."""
    components = moments.components(COLOURS)
    drawn: list[PicturedFeatures] = []
    for file in files:
        for images in read_batch(loaded.processor, [file]):
            if isinstance(images, Images):
                _, patches = loaded.look(images.pixel_values)
                places = components.project(patches[0]).reshape(*loaded.config.grid, COLOURS)
                drawn.append(PicturedFeatures(file.name, unprocess(images.pixel_values[0], loaded.processor), places))
        if len(drawn) == LARGEST_NUMBER_OF_IMAGES:
            break
    shares = ", ".join(f"{share:.0%}" for share in components.shares)
    of_all = f"of the variance of {moments.count:,} patches of {count:,} image{'s'[: count != 1]}"
    scale = (
        f"red, green, blue: the first three principal components, {shares} {of_all}, "
        f"each from its percentile {DARKEST} to {BRIGHTEST} over the images shown; no background is removed"
    )
    draw_features(picture, drawn, loaded.config.patch_shape, scale)
    some = "" if len(drawn) == count else f", for the first {len(drawn)} of {count} images"
    complain(f"{picture} shows principal components of the patches{some}")


def _blank(loaded: FeatureModel) -> np.ndarray:
    """An image of zeros, which tells the shape of the features."""
    return np.zeros((1, loaded.config.num_channels, *loaded.config.image_shape), np.float32)


def _storable(file: Path) -> str:
    """The name of a file as every format can hold it: bytes that are no text become question marks."""
    return str(file).encode("utf-8", "replace").decode()


def _weights(model: str, revision: str) -> Iterator[bytes]:
    """The bytes of the files of a model."""
    for path in sorted(open_files(locate(model, revision=revision)).files):
        with open(path, "rb") as file:
            while data := file.read(2**20):
                yield data


def _digest(parts: Iterator[bytes] | list[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _in_words(output: Path, kind: str, shape: tuple[int, ...]) -> str:
    size = bytes_in_words(output.stat().st_size)
    return f"{printable(output)}: {KINDS[kind]}, {' x '.join(map(str, shape))}, float32, {size}"
