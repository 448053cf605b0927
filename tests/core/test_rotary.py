"""Coordinates of rotary positions, against what the papers' code makes of rows and columns."""

import numpy as np
import pytest

from vit_core.rotary import Rotary


@pytest.mark.parametrize(
    ("options", "last"),
    [
        ({"reference": (6, 10)}, (1 / 2 * 6, 3 / 4 * 10)),
        ({"reference": None}, (1, 3)),
        ({"reference": (6, 10), "offset": 1.0}, (2 / 2 * 6, 4 / 4 * 10)),
        ({"reference": (6, 10), "offset": 1.0, "first": "columns"}, (4 / 4 * 10, 2 / 2 * 6)),
        ({"reference": None, "first": "columns"}, (3, 1)),
    ],
)
def test_rows_and_columns_are_counted_stretched_and_put_in_order(options, last):
    found = Rotary("indices", 8, 100.0, **options).coordinates((2, 4))
    assert found.shape == (8, 2)
    np.testing.assert_allclose(found[-1], last)


def test_the_first_pairs_turn_by_the_first_coordinate():
    rotary = Rotary("indices", 8, 100.0, first="columns")
    cos, sin = rotary.tables(rotary.coordinates((2, 4)))
    np.testing.assert_allclose(np.arctan2(sin[3], cos[3]), [3, 3, 0.3, 0.3, 0, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(np.arctan2(sin[4], cos[4]), [0, 0, 0, 0, 1, 1, 0.1, 0.1], atol=1e-12)


def test_trained_frequencies_start_as_those_of_one_axis_turned_from_head_to_head():
    rotary = Rotary("mixed", 8, 100.0)
    first, second = rotary.starting_frequencies(4)
    np.testing.assert_allclose([first[0], second[0]], [[1, 0.1, 0, 0], [0, 0, 1, 0.1]], atol=1e-12)
    np.testing.assert_allclose([first[1], second[1]], [[0, 0, -1, -0.1], [1, 0.1, 0, 0]], atol=1e-12)
    cos, sin = rotary.mixed_tables(np.array([[2.0, 3.0]]), np.stack([first, second]))
    assert cos.shape == (4, 1, 8)
    np.testing.assert_allclose(np.arctan2(sin[0, 0], cos[0, 0]), [2, 2, 0.2, 0.2, 3, 3, 0.3, 0.3], atol=1e-12)
