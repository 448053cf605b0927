"""`trivit reconstruct`: what a masked autoencoder makes of images of which it sees a few patches."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conversion.proof.frameworks import Framework, choose_framework
from vit_cli.fitting_processor import fitting_processor
from vit_cli.image_batches import Unreadable, progress, read_batch
from vit_cli.image_files import find_images
from vit_cli.picture import LARGEST_NUMBER_OF_IMAGES, check_picture_file, unprocess
from vit_cli.reconstruction_picture import PicturedReconstruction, draw_reconstructions
from vit_cli.settings import parse_settings
from vit_cli.terminal import complain, file_column, plain_console, print_json
from vit_core.patches import patchify, unpatchify

AT_ONCE = 8  # images that go through the model together


@dataclass(frozen=True)
class Reconstruction:
    """What the model made of one image; pixels are (height, width, channels), from 0 to 1.

    Attributes:
        file: the image.
        pixels: what there was to see.
        painted: every patch as the decoder paints it.
        mask: (rows, columns), true where a patch was left out.
        error: the mean squared error over the pixels of the patches that were left out.
        error_of_mean: likewise, of the mean colour of the patches that were seen.
    """

    file: Path
    pixels: np.ndarray
    painted: np.ndarray
    mask: np.ndarray
    error: float
    error_of_mean: float


@dataclass(frozen=True)
class Autoencoder:
    """A masked autoencoder with its preprocessing, in one framework."""

    name: str
    model: Any
    processor: Any
    backend: Framework

    @classmethod
    def load(
        cls, name: str, revision: str, backend: Framework, config_fields: Mapping[str, Any], under: str | None
    ) -> Autoencoder:
        """Load a model with its decoder.

        Raises:
            OSError: there is no such model.
            TypeError: there is no such field.
            ValueError: the model is corrupt, or no masked autoencoder, or lacks its decoder.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*start at random")  # refused below
            model, loading = backend.load_package().ViTMAEForPreTraining.from_pretrained(
                name, revision=revision, output_loading_info=True, under=under, **config_fields
            )
        if missing := loading["missing_keys"]:
            raise ValueError(
                f"{name} is no masked autoencoder with its decoder: it lacks {missing[0]}; choose one that was "
                f"pre-trained and not fine-tuned, such as bundled/mae-digits or facebook/vit-mae-base"
            )
        return cls(name, model, fitting_processor(name, revision, model.config), backend)

    def reconstruct(self, files: Sequence[Path], pixel_values: np.ndarray, seed: int) -> list[Reconstruction]:
        """Paint what is left out of images.

        Args:
            files: the images.
            pixel_values: (batch, channels, height, width).
            seed: of what is left out; each image has the same patches left out whatever else is in the batch.

        Raises:
            ValueError: there are results that are no numbers.
        """
        config = self.model.config
        patches = patchify(pixel_values, config.patch_shape)
        noise = np.tile(draw_noise(seed, patches.shape[1]), (len(files), 1))
        inputs = {"pixel_values": pixel_values, "noise": noise}
        output = self.backend.forward(self.model, inputs, False, False)
        painted, masks = (self.backend.to_numpy(each) for each in (output.logits, output.mask))
        if not np.isfinite(painted).all():
            raise ValueError(f"what {self.name} paints is not finite; its weights are damaged")
        if config.norm_pix_loss:  # such a model paints what is left when a patch's mean and contrast are taken out
            painted = painted * np.sqrt(patches.var(-1, ddof=1, keepdims=True) + 1e-6) + patches.mean(-1, keepdims=True)
        images = unpatchify(painted, config.patch_shape, config.grid)
        return [self._measured(*each) for each in zip(files, pixel_values, images, masks > 0.5, strict=True)]

    def _measured(self, file: Path, image: np.ndarray, painted: np.ndarray, mask: np.ndarray) -> Reconstruction:
        config = self.model.config
        seen, guessed = (unprocess(each, self.processor) for each in (image, painted))
        is_left_out = np.kron(mask.reshape(config.grid), np.ones(config.patch_shape)) > 0
        there = seen[: is_left_out.shape[0], : is_left_out.shape[1]]
        mean = there[~is_left_out].mean(axis=0) if (~is_left_out).any() else there.mean(axis=(0, 1))
        errors = [
            float(np.mean((there - each)[is_left_out] ** 2)) if is_left_out.any() else 0.0 for each in (guessed, mean)
        ]
        return Reconstruction(file, seen, guessed, mask.reshape(config.grid), *errors)


def draw_noise(seed: int, patches: int) -> np.ndarray:
    """What decides which patches the model sees, (patches,): those with the least."""
    return np.random.default_rng(seed).random(patches, dtype=np.float32)


def show_reconstructions(
    arguments: Sequence[str],
    *,
    model: str,
    mask_ratio: float | None = None,
    seed: int = 0,
    picture: Path | None = None,
    as_json: bool = False,
    settings: Sequence[str] = (),
    under: str | None = None,
    revision: str = "main",
    backend: str | None = None,
) -> bool:
    """Draw what a model makes of masked images and print how far off it is; the arguments are those of the command.

    Returns:
        Whether every image could be read; those that could not are named on standard error.

    Raises:
        ImportError: no framework is installed, or nothing to draw with.
        OSError: there are no images, no such model, or the picture cannot be written.
        TypeError: a setting is no field of the config.
        ValueError: the model is no masked autoencoder, or a value is impossible.
    """
    files = find_images(arguments)
    if picture is None and not as_json:
        picture = Path(f"{files[0].stem}.reconstruction.png" if len(files) == 1 else "reconstruction.png")
    if picture is not None:
        check_picture_file(picture, files)
    fields = {**parse_settings(settings), **({} if mask_ratio is None else {"mask_ratio": mask_ratio})}
    loaded = Autoencoder.load(model, revision, choose_framework(backend), fields, under)
    found = _reconstruct(loaded, files, seed)
    if as_json:
        print_json([_as_json(each) for each in found])
    elif found:
        _print_table(found)
    if picture is not None and found:
        drawn = [
            PicturedReconstruction(each.file.name, each.pixels, each.painted, each.mask, f"error {each.error:.4f}")
            for each in found[:LARGEST_NUMBER_OF_IMAGES]
        ]
        draw_reconstructions(picture, drawn, loaded.model.config.patch_shape)
        some = "" if len(drawn) == len(found) else f", of the first {len(drawn)} of {len(found)} images"
        complain(f"{picture} shows what the model made{some}")
    return len(found) == len(files)


def _reconstruct(loaded: Autoencoder, files: list[Path], seed: int) -> list[Reconstruction]:
    """Ask the model about every file, naming those that cannot be read."""
    found: list[Reconstruction] = []
    with progress("reconstructing", len(files), shown=len(files) > AT_ONCE and sys.stderr.isatty()) as advance:
        for start in range(0, len(files), AT_ONCE):
            batch = files[start : start + AT_ONCE]
            for images in read_batch(loaded.processor, batch):
                if isinstance(images, Unreadable):
                    complain(images.reason)
                else:
                    found += loaded.reconstruct(images.files, images.pixel_values, seed)
            advance(len(batch))
    return found


def _as_json(found: Reconstruction) -> dict[str, Any]:
    return {
        "file": str(found.file),
        "grid": list(found.mask.shape),
        "masked": np.argwhere(found.mask).tolist(),
        "error": found.error,
        "error_of_mean": found.error_of_mean,
    }


def _print_table(found: Sequence[Reconstruction]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    title, names = file_column([each.file for each in found])
    table.add_column(title, overflow="fold")
    for column in ("patches seen", "error", "of the mean"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, each in zip(names, found, strict=True):
        seen = f"{(~each.mask).sum()} of {each.mask.size}"
        table.add_row(Text(name), seen, f"{each.error:.4f}", f"{each.error_of_mean:.4f}")
    plain_console().print(table)
