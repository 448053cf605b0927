"""Which models are computed by the graph that TensorFlow is fastest with.

The numbers are the same but for rounding. What a product is activated by is computed in the same pass, if nothing is
between them; queries are scaled instead of scores, and no heads are moved.
"""

from __future__ import annotations

from vit_core import PretrainedConfig


def has_fast_graph(config: PretrainedConfig) -> bool:
    """Whether a model has it: those with scaled layers do, and a plain ViT keeps the graph that it always had."""
    return config.architecture.layer_scale is not None
