"""What the tests of the core share."""

import contextlib
import resource
import sys

import pytest

ENOUGH = 64 * 2**20  # bytes; what a test refuses to take is gigabytes


@pytest.fixture
def taking_no_memory():
    """A context that fails if the process has needed more memory in it than ever before, by more than a little."""

    def most():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    @contextlib.contextmanager
    def watched():
        before = most()
        yield
        assert most() - before < ENOUGH

    return watched
