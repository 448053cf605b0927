from __future__ import annotations

from typing import Any

import pytest

from vit_cli.settings import parse_settings


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("layer_norm_eps=1e-6", 1e-6),
        ("image_size=384", 384),
        ("image_size=[224, 384]", [224, 384]),
        ("qkv_bias=false", False),
        ("pooler_output_size=null", None),
        ('pruned_heads={"0": [1]}', {"0": [1]}),
        ('hidden_act="gelu"', "gelu"),
        ("hidden_act=gelu", "gelu"),
        ("image_size=224,384", "224,384"),
        ("name=a=b", "a=b"),
        ("name=", ""),
        (" hidden_act = gelu ", "gelu"),
        ("layer_norm_eps=NaN", "NaN"),
        ("layer_norm_eps=-Infinity", "-Infinity"),
        ("name=" + "[" * 100_000, "[" * 100_000),
    ],
)
def test_values_are_json_or_else_text(text: str, value: Any) -> None:
    (found,) = parse_settings([text]).values()
    assert (type(found), found) == (type(value), value)


def test_every_setting_counts_and_the_last_of_a_field() -> None:
    assert parse_settings(["a=1", "b=2", "a=3"]) == {"a": 3, "b": 2}
    assert parse_settings([]) == {}


@pytest.mark.parametrize("text", ["", "image_size", "=3", "image size=3", "image_size: 3", "2x=3"])
def test_what_names_no_field_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="names no field and value; write it as in --set layer_norm_eps=1e-6"):
        parse_settings([text])
