"""How many tokens each layer merges, and which models can."""

import pytest

from vit_core import DINOv3ViTConfig, VisionTransformerConfig, ViTConfig
from vit_core.token_merging import merged_counts, require_mergeable


@pytest.mark.parametrize(
    ("per_layer", "schedule", "counts"),
    [
        (16, "constant", (16,) * 5),
        (16, "decreasing", (32, 24, 16, 8, 0)),
        (5, "decreasing", (10, 7, 5, 2, 0)),  # rounded down
        ([0, 4, 4, 0, 1], "constant", (0, 4, 4, 0, 1)),
        (0, "constant", ()),
        ([0] * 5, "constant", ()),
    ],
)
def test_each_layer_merges_as_many_tokens_as_the_schedule_says(per_layer, schedule, counts):
    assert merged_counts(per_layer, schedule, 5) == counts


def test_one_layer_merges_what_is_asked_for_on_either_schedule():
    assert merged_counts(3, "decreasing", 1) == merged_counts(3, "constant", 1) == (3,)


@pytest.mark.parametrize(
    ("per_layer", "schedule", "message"),
    [
        (-1, "constant", "per_layer is -1; give a whole number"),
        (1.5, "constant", "per_layer is 1.5; give a whole number"),
        (True, "constant", "per_layer is True"),
        ([1, 2], "constant", "2 numbers; give one for each of the 5 layers"),
        ([1, 2, 3, 4, -5], "constant", "per_layer is -5"),
        ([1] * 5, "decreasing", "a schedule of its own"),
        (4, "increasing", "schedule is 'increasing'; choose one of constant, decreasing"),
    ],
)
def test_impossible_numbers_are_told(per_layer, schedule, message):
    with pytest.raises(ValueError, match=message):
        merged_counts(per_layer, schedule, 5)


@pytest.mark.parametrize(
    ("config", "task", "message"),
    [
        (DINOv3ViTConfig(), "model", "rotary positions.* a merged token has no place"),
        (VisionTransformerConfig(relative_positions="shared"), "model", "relative positions"),
        (VisionTransformerConfig(halves="parallel"), "model", "side by side"),
        (ViTConfig(), "masked-image-modeling", "reconstructs each patch"),
    ],
)
def test_models_that_cannot_merge_tokens_say_why(config, task, message):
    with pytest.raises(ValueError, match=message):
        require_mergeable(config, task)


def test_models_with_added_positions_can():
    require_mergeable(ViTConfig(), "image-classification")
    require_mergeable(ViTConfig(), None)
