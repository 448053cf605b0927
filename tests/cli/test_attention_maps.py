from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vit_cli.attention_maps import class_token_attention, class_token_rollout, patches_with_mass


def test_rollout_of_one_layer_is_half_the_mean_attention() -> None:
    heads = [[[0.2, 0.6, 0.2], [0, 1, 0], [0, 0, 1]], [[0.4, 0.0, 0.6], [0, 1, 0], [0, 0, 1]]]
    # The mean of the class token's rows is (0.3, 0.3, 0.4); with the identity added and halved, (0.65, 0.15, 0.2).
    np.testing.assert_allclose(class_token_rollout([np.array([heads])]), [[0.15, 0.2]])


def test_rollout_multiplies_later_layers_from_the_left() -> None:
    first = np.array([[[[1, 0, 0], [0, 0, 1], [0, 1, 0]]]], dtype=np.float32)
    second = np.array([[[[0, 1, 0], [1, 0, 0], [0, 0, 1]]]], dtype=np.float32)
    # (second + I)/2 has (1/2, 1/2, 0) for the class token, (first + I)/2 has rows (1, 0, 0), (0, 1/2, 1/2), ...:
    # 1/2 (1, 0, 0) + 1/2 (0, 1/2, 1/2) = (1/2, 1/4, 1/4). The other way round it would be (1/2, 1/2, 0).
    np.testing.assert_allclose(class_token_rollout([first, second]), [[0.25, 0.25]])


def test_rollout_normalises_rows_that_dropout_or_a_head_mask_left_short() -> None:
    attention = np.array([[[[0.0, 0.5], [0.0, 0.0]]]])
    np.testing.assert_allclose(class_token_rollout([attention]), [[0.5 / 1.5]])


def test_rollout_is_the_first_row_of_the_product_of_whole_matrices(fixture_folder: Path) -> None:
    expected = np.load(fixture_folder / "hf_vit_classifier/expected.npz")
    attentions = [expected[f"attentions.{layer}"] for layer in range(3)]
    tokens = attentions[0].shape[-1]
    mixing = [attention.mean(axis=1) / 2 + np.eye(tokens) / 2 for attention in attentions]
    product = mixing[2] @ mixing[1] @ mixing[0]
    np.testing.assert_allclose(class_token_rollout(attentions), product[:, 0, 1:], atol=1e-6)


def test_model_without_layers_has_no_rollout() -> None:
    with pytest.raises(ValueError, match="without layers looks nowhere"):
        class_token_rollout([])


def test_the_class_tokens_row_is_taken_without_its_attention_to_itself() -> None:
    attention = np.array([[[[0.5, 0.3, 0.2], [0.1, 0.9, 0], [0, 0, 1]], [[0, 0.6, 0.4], [1, 0, 0], [1, 0, 0]]]])
    np.testing.assert_array_equal(class_token_attention(attention), [[[0.3, 0.2], [0.6, 0.4]]])


@pytest.mark.parametrize(
    ("mass", "kept"),
    [
        # Of 0.8 for patches: 0.4 is a half, 0.4 + 0.2 is 3/4, 0.4 + 0.2 + 0.15 is 15/16.
        (0.01, [0, 0, 1, 0, 0]),
        (0.5, [0, 0, 1, 0, 0]),
        (0.51, [0, 1, 1, 0, 0]),
        (0.75, [0, 1, 1, 0, 0]),
        (0.76, [1, 1, 1, 0, 0]),
        (0.95, [1, 1, 1, 0, 1]),
        (1, [1, 1, 1, 0, 1]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_fewest_patches_that_hold_the_mass_are_kept(mass: float, kept: list[int], dtype: type) -> None:
    weights = np.array([0.15, 0.2, 0.4, 0, 0.05], dtype)
    np.testing.assert_array_equal(patches_with_mass(weights, mass), kept)


def test_patches_are_kept_as_dino_keeps_them() -> None:
    """`visualize_attention.py` sorts the weights, the smallest first, and keeps those above 1 - threshold."""
    weights = np.random.default_rng(0).dirichlet(np.full(30, 0.3))
    for threshold in (0.1, 0.6, 0.9):
        order = np.argsort(weights)
        expected = np.zeros(30, bool)
        expected[order] = np.cumsum(weights[order]) > 1 - threshold
        np.testing.assert_array_equal(patches_with_mass(weights, threshold), expected)


def test_of_equal_patches_the_first_are_kept_and_of_none_nothing() -> None:
    np.testing.assert_array_equal(patches_with_mass(np.full(4, 0.1, np.float32), 0.5), [1, 1, 0, 0])
    np.testing.assert_array_equal(patches_with_mass(np.zeros(2), 1), [0, 0])


def test_other_tokens_before_the_patches_are_not_in_the_maps() -> None:
    attention = np.array([[[[0.1, 0.2, 0.3, 0.4], *[[0.25] * 4] * 3]]])
    np.testing.assert_array_equal(class_token_attention(attention, 2), [[[0.3, 0.4]]])
    np.testing.assert_allclose(class_token_rollout([attention[0][None]], 2), [[0.15, 0.2]])


def test_without_a_class_token_the_mean_of_the_patches_looks() -> None:
    attention = np.array([[[[0.8, 0.2], [0.4, 0.6]]]])
    np.testing.assert_allclose(class_token_attention(attention, 0), [[[0.6, 0.4]]])
    np.testing.assert_allclose(class_token_rollout([attention[0][None]], 0), [[0.55, 0.45]])
