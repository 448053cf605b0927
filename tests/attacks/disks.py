"""Disks that are full."""

import contextlib
import resource


@contextlib.contextmanager
def largest_file(size):
    """A disk that is full: this process may write no file larger than this many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
