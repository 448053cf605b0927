"""Width and attention heads of timm's Vision Transformers, which the names of their architectures tell.

Reference: the entrypoints in timm/models/vision_transformer.py and deit.py of timm 1.0.31.
"""

from __future__ import annotations

#: By the beginning of the name: up to "_patch" in most, further where a variant differs from the others of its size.
ARCHITECTURES: dict[str, tuple[int, int]] = {
    "test_vit": (64, 2),
    "test_vit2": (64, 2),
    "test_vit3": (96, 3),
    "test_vit4": (96, 3),
    "vit_tiny": (192, 3),
    "vit_xsmall": (256, 4),
    "vit_wee": (256, 4),
    "vit_dwee": (256, 4),
    "vit_little": (320, 5),
    "vit_dlittle": (320, 5),
    "vit_small": (384, 6),
    "vit_medium": (512, 8),
    "vit_mediumd": (512, 8),
    "vit_betwixt": (640, 10),
    "vit_base": (768, 12),
    "vit_base_patch16_gap": (768, 16),
    "vit_base_patch16_plus": (896, 14),
    "vit_base_patch32_plus": (896, 14),
    "vit_so150m": (896, 14),
    "vit_so150m2": (832, 13),
    "vit_intern300m": (1024, 16),
    "vit_large": (1024, 16),
    "vit_so400m": (1152, 16),
    "vit_huge": (1280, 16),
    "vit_giant": (1408, 16),
    "vit_giant_patch14_dinov2": (1536, 24),
    "vit_giant_patch14_reg1": (1536, 24),
    "vit_giant_patch14_reg4": (1536, 24),
    "vit_giant_patch16_radio": (1536, 24),
    "vit_giantopt": (1536, 16),
    "vit_gigantic": (1664, 16),
    "flexivit_small": (384, 6),
    "flexivit_base": (768, 12),
    "flexivit_large": (1024, 16),
    "deit_tiny": (192, 3),
    "deit_small": (384, 6),
    "deit_base": (768, 12),
    "deit3_small": (384, 6),
    "deit3_medium": (512, 8),
    "deit3_base": (768, 12),
    "deit3_large": (1024, 16),
    "deit3_huge": (1280, 16),
    "eva_large": (1024, 16),
    "eva_giant": (1408, 16),
    "eva02_tiny": (192, 3),
    "eva02_small": (384, 6),
    "eva02_base": (768, 12),
    "eva02_large": (1024, 16),
    "vit_huge_plus": (1280, 20),
    "vit_7b": (4096, 32),
    "vit_giant_patch16_lingbot": (1536, 24),
    "aimv2_large": (1024, 8),
    "aimv2_huge": (1536, 12),
    "aimv2_1b": (2048, 16),
    "aimv2_3b": (3072, 24),
    "beit_base": (768, 12),
    "beit_large": (1024, 16),
    "beitv2_base": (768, 12),
    "beitv2_large": (1024, 16),
    "beit3_base": (768, 12),
    "beit3_large": (1024, 16),
    "beit3_giant": (1408, 16),
}


def width_and_heads(architecture: str) -> tuple[int, int] | None:
    """Width and heads of an architecture; None if its name is not one of timm's."""
    name, _, _ = architecture.partition(".")  # without the tag of its weights
    known = [start for start in ARCHITECTURES if f"{name}_".startswith(f"{start}_")]
    return ARCHITECTURES[max(known, key=len)] if known else None
