"""The files that features are written to, each from features that are mapped and never all in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vit_core.safetensors_file import LARGEST_HEADER, write_safetensors
from vit_core.stored_tensor import from_numpy

#: Bytes of features that are in memory at once while a Parquet file is written, and the size of its row groups.
AT_ONCE = 2**26


@dataclass(frozen=True)
class Features:
    """Features of images, ready to be written.

    Attributes:
        values: (images, width) or (images, patches, width), float32, mapped.
        files: the names of the images, in the same order.
        about: what the features are, of plain JSON values.
    """

    values: np.ndarray
    files: Sequence[str]
    about: Mapping[str, Any]


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
    files, about = np.array(features.files, np.str_), np.array(json.dumps(features.about))
    with open(path, "wb") as file:  # given a path, numpy would add a suffix
        np.savez(file, features=features.values, files=files, about=about)  # mapped arrays are copied piece by piece


def _write_safetensors(path: Path, features: Features) -> None:
    metadata = {"files": json.dumps(features.files), "about": json.dumps(features.about)}
    write_safetensors(path, {"features": from_numpy(features.values)}, metadata)


def _write_parquet(path: Path, features: Features) -> None:
    import pyarrow
    from pyarrow import parquet

    count, *shape = features.values.shape
    kind = pyarrow.float32()
    for length in reversed(shape):
        kind = pyarrow.list_(kind, length)
    fields = [pyarrow.field("file", pyarrow.string()), pyarrow.field("features", kind)]
    schema = pyarrow.schema(fields, metadata={"about": json.dumps(features.about)})
    rows = max(AT_ONCE * count // max(features.values.nbytes, 1), 1)
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, count, rows):
            part = features.values[start : start + rows]
            column = pyarrow.array(part.ravel())
            for length in reversed(shape):
                column = pyarrow.FixedSizeListArray.from_arrays(column, length)
            names = pyarrow.array(features.files[start : start + rows], pyarrow.string())
            writer.write_table(pyarrow.Table.from_arrays([names, column], schema=schema))


#: By the suffix of the file.
WRITERS: dict[str, Callable[[Path, Features], None]] = {
    ".npz": _write_npz,
    ".safetensors": _write_safetensors,
    ".parquet": _write_parquet,
}
