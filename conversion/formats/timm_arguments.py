"""What the entrypoints of timm's Vision Transformers tell them beside their sizes, by the name of the architecture.

Read off timm/models/vision_transformer.py, deit.py and eva.py of timm 1.0.31: arguments that no tensor shows, under
timm's names; `eps` is that of `norm_layer`, if not 1e-6; "gated" stands for the layers of gated MLPs, "norm_layer" for
the norm of all others, and True for a value that makes a model one that is not read. Most names of sizes follow from
each other, so that they stand together.
"""

from __future__ import annotations

from typing import Any

_ROWS: tuple[tuple[dict[str, Any], str], ...] = (
    (
        {},
        """
        deit_base_patch16_224 deit_base_patch16_384 deit_small_patch16_224 deit_tiny_patch16_224
        test_vit vit_base_patch16_224 vit_base_patch16_224_miil vit_base_patch16_384
        vit_base_patch32_224 vit_base_patch32_384 vit_base_patch8_224 vit_giant_patch14_224
        vit_gigantic_patch14_224 vit_huge_patch14_224 vit_large_patch14_224 vit_large_patch16_224
        vit_large_patch16_384 vit_large_patch32_224 vit_large_patch32_384 vit_small_patch16_224
        vit_small_patch16_384 vit_small_patch32_224 vit_small_patch32_384 vit_small_patch8_224
        vit_tiny_patch16_224 vit_tiny_patch16_384
        """,
    ),
    (
        {"global_pool": "avg"},
        """
        eva_large_patch14_196 eva_large_patch14_336 vit_base_patch16_gap_224
        vit_base_patch16_siglip_gap_224 vit_base_patch16_siglip_gap_256
        vit_base_patch16_siglip_gap_384 vit_base_patch16_siglip_gap_512 vit_giant_patch16_gap_224
        vit_huge_patch14_gap_224 vit_huge_patch16_gap_448 vit_large_patch16_siglip_gap_256
        vit_large_patch16_siglip_gap_384 vit_so150m_patch16_reg4_gap_256
        vit_so150m_patch16_reg4_gap_384 vit_so400m_patch14_siglip_gap_224
        vit_so400m_patch14_siglip_gap_378 vit_so400m_patch14_siglip_gap_384
        vit_so400m_patch14_siglip_gap_448 vit_so400m_patch14_siglip_gap_896
        """,
    ),
    (
        {"no_embed_class": True},
        """
        flexivit_base flexivit_large flexivit_small vit_giant_patch16_radio_v3
        vit_huge_patch16_radio_v3 vit_huge_patch16_radio_v4 vit_so400m_patch16_radio_v4
        """,
    ),
    (
        {"init_values": 1e-05},
        """
        vit_base_patch14_dinov2 vit_base_patch16_plus_240 vit_base_patch32_plus_256
        vit_large_patch14_dinov2 vit_small_patch14_dinov2 vit_small_patch16_36x1_224
        """,
    ),
    (
        {"eps": 1e-05},
        """
        vit_base_patch16_clip_224 vit_base_patch16_clip_384 vit_base_patch16_plus_clip_240
        vit_base_patch32_clip_224 vit_base_patch32_clip_256 vit_base_patch32_clip_384
        vit_base_patch32_clip_448 vit_betwixt_patch32_clip_224 vit_giant_patch14_clip_224
        vit_gigantic_patch14_clip_224 vit_gigantic_patch14_clip_378 vit_huge_patch14_clip_224
        vit_huge_patch14_clip_336 vit_huge_patch14_clip_378 vit_large_patch14_clip_224
        vit_large_patch14_clip_336 vit_medium_patch16_clip_224 vit_medium_patch32_clip_224
        vit_xsmall_patch16_clip_224
        """,
    ),
    (
        {"global_pool": "map"},
        """
        vit_base_patch16_siglip_224 vit_base_patch16_siglip_256 vit_base_patch16_siglip_384
        vit_base_patch16_siglip_512 vit_large_patch16_siglip_256 vit_large_patch16_siglip_384
        vit_so150m_patch16_reg4_map_256 vit_so400m_patch14_siglip_224 vit_so400m_patch14_siglip_378
        vit_so400m_patch14_siglip_384
        """,
    ),
    (
        {"init_values": 0.1},
        """
        vit_intern300m_patch14_448
        """,
    ),
    (
        {"global_pool": "avg", "eps": 1e-05},
        """
        beit3_base_patch16_224 beit3_giant_patch14_224 beit3_giant_patch14_336
        beit3_large_patch16_224
        """,
    ),
    (
        {"no_embed_class": True, "init_values": 1e-06},
        """
        deit3_base_patch16_224 deit3_base_patch16_384 deit3_huge_patch14_224 deit3_large_patch16_224
        deit3_large_patch16_384 deit3_medium_patch16_224 deit3_small_patch16_224
        deit3_small_patch16_384
        """,
    ),
    (
        {"global_pool": "avg", "init_values": 1e-05},
        """
        test_vit2 test_vit4 vit_so150m2_patch16_reg1_gap_256 vit_so150m2_patch16_reg1_gap_384
        vit_so150m2_patch16_reg1_gap_448
        """,
    ),
    (
        {"no_embed_class": True, "init_values": 1.0},
        """
        vit_base_patch14_reg1_tipsv2 vit_large_patch14_reg1_tipsv2 vit_so400m_patch14_reg1_tipsv2
        """,
    ),
    (
        {"no_embed_class": True, "init_values": 1e-05},
        """
        vit_base_patch14_reg4_dinov2 vit_base_patch16_radio_v3 vit_large_patch14_reg4_dinov2
        vit_large_patch16_radio_v3 vit_small_patch14_reg4_dinov2
        """,
    ),
    (
        {"block_fn": "ParallelThingsBlock", "init_values": 1e-05},
        """
        vit_base_patch16_18x2_224 vit_small_patch16_18x2_224
        """,
    ),
    (
        {"act_layer": "quick_gelu", "eps": 1e-05},
        """
        vit_base_patch16_clip_quickgelu_224 vit_base_patch32_clip_quickgelu_224
        vit_gigantic_patch14_clip_quickgelu_224 vit_huge_patch14_clip_quickgelu_224
        vit_huge_patch14_clip_quickgelu_378 vit_large_patch14_clip_quickgelu_224
        vit_large_patch14_clip_quickgelu_336
        """,
    ),
    (
        {"no_embed_class": True, "global_pool": "avg"},
        """
        vit_base_patch16_reg4_gap_256
        """,
    ),
    (
        {"no_embed_class": True, "block_fn": "ParallelScalingBlock"},
        """
        vit_base_patch16_xp_224 vit_huge_patch14_xp_224 vit_large_patch14_xp_224
        """,
    ),
    (
        {"act_layer": "gelu_tanh", "global_pool": "map"},
        """
        vit_base_patch32_siglip_256 vit_giantopt_patch16_siglip_256 vit_giantopt_patch16_siglip_384
        vit_large_patch16_siglip_512 vit_so400m_patch16_siglip_256 vit_so400m_patch16_siglip_384
        vit_so400m_patch16_siglip_512
        """,
    ),
    (
        {"act_layer": "gelu_tanh", "global_pool": "avg"},
        """
        vit_base_patch32_siglip_gap_256 vit_giantopt_patch16_siglip_gap_256
        vit_giantopt_patch16_siglip_gap_384 vit_large_patch16_siglip_gap_512
        vit_so400m_patch16_siglip_gap_256 vit_so400m_patch16_siglip_gap_384
        vit_so400m_patch16_siglip_gap_512
        """,
    ),
    (
        {"global_pool": "avg", "init_values": 1e-06},
        """
        vit_betwixt_patch16_gap_256 vit_medium_patch16_gap_240 vit_medium_patch16_gap_256
        vit_medium_patch16_gap_384
        """,
    ),
    (
        {"global_pool": "map", "pool_include_prefix": True, "init_values": 1e-05},
        """
        test_vit3
        """,
    ),
    (
        {"global_pool": "avg", "block_fn": "ResPostBlock", "init_values": 1e-05},
        """
        vit_base_patch16_rpn_224
        """,
    ),
    (
        {"no_embed_class": True, "global_pool": "avg", "init_values": 1e-05},
        """
        vit_betwixt_patch16_reg1_gap_256 vit_betwixt_patch16_reg4_gap_256
        vit_betwixt_patch16_reg4_gap_384 vit_little_patch16_reg1_gap_256
        vit_little_patch16_reg4_gap_256 vit_medium_patch16_reg1_gap_256
        vit_medium_patch16_reg4_gap_256 vit_mediumd_patch16_reg4_gap_256
        vit_mediumd_patch16_reg4_gap_384 vit_wee_patch16_reg1_gap_256
        """,
    ),
    (
        {"act_layer": "silu", "mlp_layer": "gated", "init_values": 1e-05},
        """
        vit_giant_patch14_dinov2
        """,
    ),
    (
        {"no_embed_class": True, "global_pool": "avg", "attn_layer": "diff", "init_values": 1e-05},
        """
        vit_dlittle_patch16_reg1_gap_256 vit_dwee_patch16_reg1_gap_256
        """,
    ),
    (
        {"no_embed_class": True, "global_pool": "avg", "block_fn": "DiffParallelScalingBlock", "init_values": 1e-05},
        """
        vit_dpwee_patch16_reg1_gap_256
        """,
    ),
    (
        {"act_layer": "silu", "no_embed_class": True, "mlp_layer": "gated", "init_values": 1.0},
        """
        vit_giant_patch14_reg1_tipsv2
        """,
    ),
    (
        {"act_layer": "silu", "no_embed_class": True, "mlp_layer": "gated", "init_values": 1e-05},
        """
        vit_giant_patch14_reg4_dinov2
        """,
    ),
    (
        {"no_embed_class": True, "global_pool": "avg", "block_fn": "ParallelScalingBlock", "init_values": 1e-05},
        """
        vit_pwee_patch16_reg1_gap_256
        """,
    ),
    (
        {
            "act_layer": "silu",
            "global_pool": "avg",
            "embed_norm_layer": "norm_layer",
            "mlp_layer": "gated",
            "eps": 1e-05,
        },
        """
        aimv2_1b_patch14_224 aimv2_1b_patch14_336 aimv2_1b_patch14_448 aimv2_3b_patch14_224
        aimv2_3b_patch14_336 aimv2_3b_patch14_448 aimv2_huge_patch14_224 aimv2_huge_patch14_336
        aimv2_huge_patch14_448 aimv2_large_patch14_224 aimv2_large_patch14_336
        aimv2_large_patch14_448
        """,
    ),
    (
        {"is_eva": True},
        """
        eva_giant_patch14_224 eva_giant_patch14_336 eva_giant_patch14_560
        """,
    ),
    (
        {"is_eva": True, "global_pool": "token"},
        """
        eva_giant_patch14_clip_224
        """,
    ),
    (
        {"is_eva": True, "global_pool": "token", "use_post_norm": True},
        """
        eva02_enormous_patch14_clip_224
        """,
    ),
    (
        {"is_eva": True, "use_rot_pos_emb": True, "ref_feat_shape": (16, 16), "mlp_layer": "gated"},
        """
        eva02_base_patch14_224 eva02_base_patch14_448 eva02_large_patch14_224
        eva02_large_patch14_448 eva02_small_patch14_224 eva02_small_patch14_336
        eva02_tiny_patch14_224 eva02_tiny_patch14_336
        """,
    ),
    (
        {"is_eva": True, "use_rot_pos_emb": True, "ref_feat_shape": (16, 16), "init_values": 1e-05},
        """
        vit_base_patch16_rope_reg1_gap_256 vit_betwixt_patch16_rope_reg4_gap_256
        vit_medium_patch16_rope_reg1_gap_256 vit_mediumd_patch16_rope_reg1_gap_256
        """,
    ),
    (
        {
            "is_eva": True,
            "global_pool": "token",
            "use_rot_pos_emb": True,
            "ref_feat_shape": (16, 16),
            "mlp_layer": "gated",
        },
        """
        eva02_base_patch16_clip_224 eva02_large_patch14_clip_224 eva02_large_patch14_clip_336
        """,
    ),
    (
        {
            "is_eva": True,
            "use_rot_pos_emb": True,
            "rope_type": "dinov3",
            "rope_temperature": 100.0,
            "init_values": 1e-05,
            "eps": 1e-05,
        },
        """
        vit_base_patch16_dinov3 vit_base_patch16_dinov3_qkvb vit_large_patch16_dinov3
        vit_large_patch16_dinov3_qkvb vit_small_patch16_dinov3 vit_small_patch16_dinov3_qkvb
        vit_tiny_patch16_dinov3_qkvb
        """,
    ),
    (
        {
            "is_eva": True,
            "global_pool": "token",
            "use_rot_pos_emb": True,
            "rope_temperature": 100.0,
            "rope_grid_indexing": "xy",
            "init_values": 1e-05,
        },
        """
        vit_base_patch16_rope_224 vit_large_patch16_rope_224 vit_small_patch16_rope_224
        """,
    ),
    (
        {
            "is_eva": True,
            "use_rot_pos_emb": True,
            "rope_grid_indexing": "xy",
            "ref_feat_shape": (32, 32),
            "init_values": 0.1,
            "eps": 1e-05,
        },
        """
        vit_pe_lang_gigantic_patch14_448 vit_pe_spatial_gigantic_patch14_448
        """,
    ),
    (
        {
            "is_eva": True,
            "use_rot_pos_emb": True,
            "rope_grid_indexing": "xy",
            "rope_grid_offset": 1.0,
            "ref_feat_shape": (32, 32),
            "eps": 1e-05,
        },
        """
        vit_pe_spatial_base_patch16_512 vit_pe_spatial_large_patch14_448
        vit_pe_spatial_small_patch16_512 vit_pe_spatial_tiny_patch16_512
        """,
    ),
    (
        {
            "is_eva": True,
            "use_rot_pos_emb": True,
            "rope_type": "dinov3",
            "rope_temperature": 100.0,
            "mlp_layer": "gated",
            "init_values": 1e-05,
            "eps": 1e-05,
        },
        """
        vit_7b_patch16_dinov3 vit_huge_plus_patch16_dinov3 vit_huge_plus_patch16_dinov3_qkvb
        vit_small_plus_patch16_dinov3 vit_small_plus_patch16_dinov3_qkvb
        """,
    ),
    (
        {
            "is_eva": True,
            "global_pool": "token",
            "use_rot_pos_emb": True,
            "rope_type": "dinov3",
            "rope_temperature": 100.0,
            "init_values": 1e-05,
            "eps": 1e-05,
        },
        """
        vit_base_patch16_lingbot vit_large_patch16_lingbot vit_small_patch16_lingbot
        """,
    ),
    (
        {
            "is_eva": True,
            "no_embed_class": True,
            "global_pool": "token",
            "use_rot_pos_emb": True,
            "rope_temperature": 100.0,
            "rope_grid_indexing": "xy",
            "init_values": 1e-05,
        },
        """
        vit_base_patch16_rope_ape_224 vit_large_patch16_rope_ape_224 vit_small_patch16_rope_ape_224
        """,
    ),
    (
        {
            "is_eva": True,
            "global_pool": "token",
            "use_rot_pos_emb": True,
            "rope_type": "mixed",
            "rope_temperature": 10.0,
            "rope_grid_indexing": "xy",
            "init_values": 1e-05,
        },
        """
        vit_base_patch16_rope_mixed_224 vit_large_patch16_rope_mixed_224
        vit_small_patch16_rope_mixed_224
        """,
    ),
    (
        {
            "is_eva": True,
            "global_pool": "map",
            "use_rot_pos_emb": True,
            "rope_grid_indexing": "xy",
            "ref_feat_shape": (32, 32),
            "attn_pool_num_heads": 8,
            "eps": 1e-05,
        },
        """
        vit_pe_core_gigantic_patch14_448
        """,
    ),
    (
        {
            "is_eva": True,
            "use_rot_pos_emb": True,
            "rope_grid_indexing": "xy",
            "rope_grid_offset": 1.0,
            "ref_feat_shape": (32, 32),
            "init_values": 0.1,
            "eps": 1e-05,
        },
        """
        vit_pe_lang_large_patch14_448
        """,
    ),
    (
        {
            "is_eva": True,
            "no_embed_class": True,
            "global_pool": "token",
            "use_rot_pos_emb": True,
            "rope_type": "mixed",
            "rope_temperature": 10.0,
            "rope_grid_indexing": "xy",
            "init_values": 1e-05,
        },
        """
        vit_base_patch16_rope_mixed_ape_224 vit_large_patch16_rope_mixed_ape_224
        vit_small_patch16_rope_mixed_ape_224
        """,
    ),
    (
        {
            "is_eva": True,
            "global_pool": "token",
            "use_rot_pos_emb": True,
            "rope_type": "dinov3",
            "rope_temperature": 100.0,
            "mlp_layer": "gated",
            "init_values": 1e-05,
            "eps": 1e-05,
        },
        """
        vit_giant_patch16_lingbot
        """,
    ),
    (
        {
            "is_eva": True,
            "global_pool": "map",
            "use_rot_pos_emb": True,
            "rope_grid_indexing": "xy",
            "rope_grid_offset": 1.0,
            "ref_feat_shape": (14, 14),
            "attn_pool_num_heads": 8,
            "eps": 1e-05,
        },
        """
        vit_pe_core_base_patch16_224
        """,
    ),
    (
        {
            "is_eva": True,
            "global_pool": "map",
            "use_rot_pos_emb": True,
            "rope_grid_indexing": "xy",
            "rope_grid_offset": 1.0,
            "ref_feat_shape": (24, 24),
            "attn_pool_num_heads": 8,
            "eps": 1e-05,
        },
        """
        vit_pe_core_large_patch14_336 vit_pe_core_small_patch16_384 vit_pe_core_tiny_patch16_384
        """,
    ),
    (
        {
            "is_eva": True,
            "global_pool": "token",
            "use_rot_pos_emb": True,
            "rope_type": "dinov3",
            "rope_temperature": 100.0,
            "num_kv_heads": True,
            "attn_only_layer_scale": True,
            "mlp_layer": "gated",
            "init_values": 1.0,
        },
        """
        vit_5b_patch16_sapiens2 vit_base_patch16_sapiens2 vit_giant_patch16_sapiens2
        vit_huge_patch16_sapiens2 vit_large_patch16_sapiens2
        """,
    ),
)
#: {architecture: its arguments}.
ARGUMENTS: dict[str, dict[str, Any]] = {name: arguments for arguments, names in _ROWS for name in names.split()}
