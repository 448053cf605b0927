"""Links in a checkpoint's folder are followed inside of it, and in the Hub's cache, which is made of them.

A link to anywhere else would have whoever converts or uploads a stranger's folder copy a file of their own.
"""

from __future__ import annotations

from pathlib import Path

SNAPSHOTS, BLOBS = "snapshots", "blobs"  # of the Hub's cache: REPOSITORY/snapshots/COMMIT/FILE is a link into blobs


def require_inside(path: Path, folder: Path) -> Path:
    """A path, once it is known to be in a folder, wherever links lead.

    Args:
        path: what is to be opened.
        folder: where it has to be; it may be a link itself, since whoever names it knows.

    Raises:
        OSError: a link leads out of the folder.
    """
    root, real = folder.resolve(), path.resolve()
    if real.is_relative_to(root) or any(real.is_relative_to(place) for place in _blobs(root)):
        return path
    raise OSError(
        f"{path} is a link out of its folder, to {real}, and is not followed, since a stranger may have made it; if "
        f"it is yours, copy the file, or name it itself."
    )


def _blobs(root: Path) -> list[Path]:
    """Where the links of a snapshot in the Hub's cache lead."""
    return [each.parent / BLOBS for each in root.parents if each.name == SNAPSHOTS]
