"""The files that features are written to, each from features that are on disk and never all in memory."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conversion.containers.npz_file import npy_header
from conversion.containers.zip_file import ZipWriter
from vit_core.safetensors_file import LARGEST_HEADER, header_of
from vit_core.stored_tensor import StoredTensor, dtype_name

DTYPE = np.dtype("<f4")
#: Bytes of features that are in memory at once, and the size of the row groups of a Parquet file.
AT_ONCE = 2**23


@dataclass(frozen=True)
class Features:
    """Features of images, ready to be written.

    Attributes:
        values: a file that has them, float32, little endian and without gaps.
        shape: (images, width) or (images, patches, width).
        files: the names of the images, in the same order.
        about: what the features are, of plain JSON values.
    """

    values: Path
    shape: tuple[int, ...]
    files: Sequence[str]
    about: Mapping[str, Any]

    def parts(self) -> Iterator[np.ndarray]:
        """The features of some images after the other. They are not mapped: pages of the file would count as memory."""
        an_image = math.prod(self.shape[1:])
        images = max(AT_ONCE // (an_image * DTYPE.itemsize), 1)
        with open(self.values, "rb") as file:
            for _ in range(0, self.shape[0], images):
                yield np.fromfile(file, DTYPE, images * an_image).reshape(-1, *self.shape[1:])


def check_format(path: Path, files: Sequence[str]) -> None:
    """Find out before the work whether the features of some images can be written to a file of that name.

    Raises:
        ImportError: pyarrow is not installed, and the file is a Parquet file.
        ValueError: the suffix names no format, or the format cannot hold so many names.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise ValueError(f"{path} ends as no file of features does; choose a name in {', '.join(WRITERS)}")
    if suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ModuleNotFoundError as error:
            raise ImportError('a Parquet file needs pyarrow; run: pip install "trivit[parquet]"') from error
    if suffix == ".safetensors" and 2 * len(json.dumps(files)) > LARGEST_HEADER:
        raise ValueError(
            f"the names of {len(files):,} images do not fit into {path}; choose an .npz or a .parquet file"
        )


def write_features(path: Path, suffix: str, features: Features) -> None:
    """Write a file, flushed to disk, in the format of the suffix.

    Raises:
        OSError: it cannot be written.
    """
    WRITERS[suffix](path, features)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _write_npz(path: Path, features: Features) -> None:
    with ZipWriter(path) as archive:
        header = npy_header(DTYPE.str, features.shape)
        size = len(header) + math.prod(features.shape) * DTYPE.itemsize
        archive.stream("features.npy", size, itertools.chain([header], features.parts()))
        for name, text in (("files", features.files), ("about", json.dumps(features.about))):
            values = np.array(text, np.str_)
            archive.write(f"{name}.npy", npy_header(values.dtype.str, values.shape), values)


def _write_safetensors(path: Path, features: Features) -> None:
    metadata = {"files": json.dumps(features.files), "about": json.dumps(features.about)}
    whole = StoredTensor(dtype_name(DTYPE), features.shape, lambda: np.fromfile(features.values, DTYPE))
    _, header = header_of({"features": whole}, metadata)
    with open(path, "wb") as file:
        file.write(header)
        for part in features.parts():
            file.write(part.data)


def _write_parquet(path: Path, features: Features) -> None:
    import pyarrow
    from pyarrow import parquet

    kind = pyarrow.float32()
    for length in reversed(features.shape[1:]):
        kind = pyarrow.list_(kind, length)
    fields = [pyarrow.field("file", pyarrow.string()), pyarrow.field("features", kind)]
    schema = pyarrow.schema(fields, metadata={"about": json.dumps(features.about)})
    done = 0
    with parquet.ParquetWriter(path, schema, use_dictionary=["file"]) as writer:  # no two features are the same
        for part in features.parts():
            column = pyarrow.array(part.ravel())
            for length in reversed(part.shape[1:]):
                column = pyarrow.FixedSizeListArray.from_arrays(column, length)
            names = pyarrow.array(features.files[done : done + len(part)], pyarrow.string())
            writer.write_table(pyarrow.Table.from_arrays([names, column], schema=schema))
            done += len(part)


#: By the suffix of the file.
WRITERS: dict[str, Callable[[Path, Features], None]] = {
    ".npz": _write_npz,
    ".safetensors": _write_safetensors,
    ".parquet": _write_parquet,
}
