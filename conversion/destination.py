"""Where a conversion writes: a folder with everything, or one file."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from conversion.containers.weights_file import CONTAINERS, SUFFIXES, container_for
from conversion.formats.format import Format
from vit_core.config import PretrainedConfig
from vit_core.families import family_of
from vit_core.file_names import CONFIG_NAME, PROCESSOR_NAME
from vit_core.parameters import Task
from vit_core.saving import replacing_files
from vit_core.weights_choice import weight_files


@dataclass(frozen=True)
class Destination:
    """A folder with everything, or one file.

    Attributes:
        folder: the folder.
        container: the kind of the file of weights.
        weights: the name of the file of weights.
        is_file: whether nothing but the weights is written.
    """

    folder: Path
    container: str
    weights: str
    is_file: bool

    @classmethod
    def at(cls, destination: Path, form: Format) -> Destination:
        """The destination that a path names, for a format.

        Raises:
            ValueError: the path's suffix is of another kind of file than the format's.
        """
        container = container_for(destination)
        if container is None or destination.is_dir():
            usual = next(iter(form.files))
            return cls(destination, usual, form.files[usual], is_file=False)
        if container not in form.files:
            suffixes = [suffix for each in form.files for suffix in CONTAINERS[each].suffixes]
            raise ValueError(
                f"{destination} cannot hold the format {form.name!r}, whose files end in {' or '.join(suffixes)}; name "
                f"such a file, a folder, or another format."
            )
        return cls(destination.parent, container, destination.name, is_file=True)

    def require_free(self, overwrite: bool) -> None:
        """Raise an OSError unless the destination may be written."""
        if self.is_file:
            if (self.folder / self.weights).exists() and not overwrite:
                raise FileExistsError(
                    f"{self.folder / self.weights} exists and is kept; overwrite=True (--overwrite) replaces it."
                )
            return
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{self.folder} is a file; name a folder.")
        there = sorted(file.name for file in self.folder.iterdir()) if self.folder.is_dir() else []
        if there and not overwrite:
            raise FileExistsError(
                f"{self.folder} holds {there[0]} and is kept; overwrite=True (--overwrite) replaces it."
            )
        replaced = {self.weights, *(name for pattern in weight_files() for name in fnmatch.filter(there, pattern))}
        if others := [name for name in there if Path(name).suffix.lower() in SUFFIXES and name not in replaced]:
            raise FileExistsError(
                f"{self.folder} holds other weights, {others[0]}, which would stay beside these; remove it first."
            )

    def notes(self, config: PretrainedConfig, task: Task, form: Format) -> list[str]:
        """What the code that reads such files takes for granted and this model is not."""
        conventions = form.computes(config) if form.computes else form.conventions_of(family_of(config))
        notes = [
            f"what else reads {form.title} computes with {name}={value}; this model has {getattr(config, name)}, so "
            f"its answers differ there"
            for name, value in conventions.items()
            if getattr(config, name) != value and (self.is_file or name not in form.told)
        ]
        if form.head_reads_pooler and config.classifier_uses_pooler and config.pooler_act != "tanh":
            notes.append(
                f"what else reads {form.title} computes the representation layer with tanh; this model has "
                f"{config.pooler_act}, so its answers differ there"
            )
        way = config.architecture.position_resampling
        if config.architecture.absolute_positions and way not in form.resamplings and form.resamplings != ("offset",):
            notes.append(
                f"what else reads {form.title} resamples positions in another way than the authors of this model did, "
                f"so its answers differ a little for images of another size"
            )
        if form.resamplings == ("offset",) and way != "offset":
            notes.append(
                f"what else reads {form.title} resamples positions with an offset of 0.1 and this model does not, so "
                f"its answers differ a little for images of another size"
            )
        notes += form.remarks(config, task)
        if self.is_file:
            notes.append(f"the weights alone were written: a folder also gets {CONFIG_NAME} and {PROCESSOR_NAME}")
        return notes

    @contextlib.contextmanager
    def replacing(self, names: Collection[str]) -> Iterator[Path]:
        """A staging folder for files of these names, which appear together when the block ends; on failure, nothing."""
        folders = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        obsolete = () if self.is_file else weight_files()
        try:
            with replacing_files(self.folder, names, obsolete) as staging:
                yield staging
        except BaseException:
            for folder in folders:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise
