import numpy as np
import pytest

from vit_core.position import linear_weights, resampling_matrix, sincos_positions
from vit_core.relative_position import relative_position_index, resample_table, table_length


def test_each_way_between_patches_has_one_row():
    grid = (3, 4)
    index = relative_position_index(grid)
    places = [(row, column) for row in range(3) for column in range(4)]
    ways = {}
    for i, asks in enumerate(places):
        for j, seen in enumerate(places):
            way = (asks[0] - seen[0], asks[1] - seen[1])
            assert ways.setdefault(way, index[1 + i, 1 + j]) == index[1 + i, 1 + j]
    assert len(set(ways.values())) == len(ways) == table_length(grid) - 3
    assert sorted(ways.values()) == list(range(len(ways)))


def test_the_last_three_rows_are_for_the_class_token():
    index = relative_position_index((2, 3))
    length = table_length((2, 3))
    assert index[0, 0] == length - 1
    assert set(index[0, 1:]) == {length - 3}
    assert set(index[1:, 0]) == {length - 2}


def test_every_token_before_the_patches_has_these_rows_and_without_any_there_are_none():
    one, two, none = (relative_position_index((2, 2), tokens) for tokens in (1, 2, 0))
    np.testing.assert_array_equal(two[1:, 1:], one)
    np.testing.assert_array_equal(two[0, 2:], two[1, 2:])
    np.testing.assert_array_equal(none, one[1:, 1:])
    assert table_length((2, 2), 0) == table_length((2, 2)) - 3


@pytest.mark.parametrize("new", [(3, 3), (5, 2), (2, 7)])
def test_a_table_is_resampled_bilinearly_and_keeps_the_class_tokens_rows(new):
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(0).standard_normal((table_length((3, 4)), 2)).astype(np.float32)
    resampled = resample_table(table, (3, 4), new)
    # In float64, since torch rounds the places it samples.
    ways = torch.from_numpy(table[:-3].reshape(1, 5, 7, 2).astype(np.float64)).permute(0, 3, 1, 2)
    size = (2 * new[0] - 1, 2 * new[1] - 1)
    expected = torch.nn.functional.interpolate(ways, size=size, mode="bilinear").permute(0, 2, 3, 1).reshape(-1, 2)
    np.testing.assert_allclose(resampled[:-3], expected.numpy(), atol=1e-6)
    np.testing.assert_array_equal(resampled[-3:], table[-3:])


def test_a_table_for_the_same_grid_stays():
    table = np.random.default_rng(0).standard_normal((table_length((2, 3)), 4)).astype(np.float32)
    np.testing.assert_array_equal(resample_table(table, (2, 3), (2, 3)), table)


def test_linear_resampling_between_equal_lengths_is_the_identity():
    np.testing.assert_array_equal(resampling_matrix(4, 4, linear_weights), np.eye(4))
    np.testing.assert_allclose(resampling_matrix(3, 7, linear_weights).sum(1), 1)


def test_fixed_positions_are_those_of_published_masked_autoencoders(fixture_folder):
    load_file = pytest.importorskip("safetensors.numpy").load_file
    tensors = load_file(fixture_folder / "hf_vit_mae" / "model.safetensors")
    np.testing.assert_array_equal(tensors["vit.embeddings.position_embeddings"], sincos_positions((4, 4), 32))
    np.testing.assert_array_equal(tensors["decoder.decoder_pos_embed"], sincos_positions((4, 4), 24))


def test_fixed_positions_tell_columns_before_rows():
    positions = sincos_positions((2, 3), 8, prefix_tokens=2)
    assert positions.shape == (1, 8, 8)
    assert not positions[0, :2].any()
    grid = positions[0, 2:].reshape(2, 3, 8)
    np.testing.assert_array_equal(grid[0, :, :4], grid[1, :, :4])
    np.testing.assert_array_equal(grid[:, 0, 4:], grid[:, 2, 4:])
    np.testing.assert_allclose(grid[0, 2, :4], [np.sin(2), np.sin(0.02), np.cos(2), np.cos(0.02)], atol=1e-7)
