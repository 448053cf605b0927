from __future__ import annotations

import numpy as np
import pytest

from vit_cli.feature_picture import as_colours
from vit_cli.principal_components import Moments


@pytest.fixture
def vectors() -> np.ndarray:
    random = np.random.default_rng(0)
    return (random.normal(size=(300, 6)) * [9, 5, 3, 1, 1, 1] + 20).astype(np.float32)


def test_components_of_parts_are_those_of_the_whole(vectors: np.ndarray) -> None:
    moments = Moments.of_none(6)
    for part in np.array_split(vectors, 7):
        moments.add(part)
    found = moments.components(3)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.shares, lengths[:3] ** 2 / (lengths**2).sum(), atol=1e-10)
    np.testing.assert_allclose(np.abs(found.axes.T @ axes[:3].T), np.eye(3), atol=1e-8)
    np.testing.assert_allclose(found.project(vectors), centred @ found.axes, atol=1e-8)
    assert (np.take_along_axis(found.axes, np.abs(found.axes).argmax(axis=0)[None], axis=0) > 0).all()


def test_components_that_there_are_not_are_zero() -> None:
    moments = Moments.of_none(2)
    moments.add(np.ones((4, 2), np.float32))
    found = moments.components(3)
    assert found.axes.shape == (2, 3)
    assert not found.shares.any()
    np.testing.assert_array_equal(as_colours(found.project(np.ones((1, 4, 2)))), np.full((1, 4, 3), 0.5))


def test_single_patches_do_not_fade_the_others() -> None:
    components = np.linspace(0, 1, 1000).repeat(3).reshape(1000, 3)
    components[-1] = 1e6
    colours = as_colours(components)
    assert colours.min() == 0
    assert colours.max() == 1
    assert colours[500] == pytest.approx(0.5, abs=0.01)
