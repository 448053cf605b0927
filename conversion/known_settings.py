"""Of what a stranger's files say, that which Trivit knows: the rest is not written on under somebody else's name.

Some of it other programs obey: what names code (`vit_core.named_code`), and `registered_name`, which Keras builds.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from vit_core.auto_image_processor import PROCESSORS
from vit_core.checks import listed
from vit_core.config import PretrainedConfig
from vit_core.config_scripts import GENERAL_SETTINGS
from vit_core.file_names import CONFIG_NAME, PROCESSOR_NAME
from vit_core.image_settings_file import TYPE_KEYS
from vit_core.named_code import without_code

#: What transformers says beside a model's own fields: of a CLIP's or SigLIP's text tower, and of both towers.
OF_OTHER_PARTS = frozenset(("text_config", "logit_scale_init_value", "initializer_factor"))
OF_SEGMENTATION = ("do_reduce_labels", "reduce_labels")  # BEiT's, which are kept and written back


def known_fields(config: PretrainedConfig) -> tuple[PretrainedConfig, tuple[str, ...]]:
    """A copy of a config without what its class does not know, and a note of what that is, if anything."""
    known = {*vars(type(config)()), *GENERAL_SETTINGS, *OF_OTHER_PARTS}
    kept = copy.deepcopy(config)
    unknown = [name for name in vars(config) if name not in known and not hasattr(type(config), name)]
    for name in unknown:
        del vars(kept)[name]
    for name in vars(kept).keys() & OF_OTHER_PARTS:
        vars(kept)[name] = without_code(vars(kept)[name])
    return kept, _note(CONFIG_NAME, unknown)


def known_preprocessing(settings: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings of images without what no image processor knows, and a note of what that is, if anything."""
    known = {*TYPE_KEYS, *OF_SEGMENTATION}.union(*(each._setting_names for each in PROCESSORS.values()))
    kept = {name: value for name, value in settings.items() if name in known}
    return kept, _note(PROCESSOR_NAME, [name for name in settings if name not in known])


def _note(file: str, unknown: list[str]) -> tuple[str, ...]:
    if not unknown:
        return ()
    return (f"what {file} says of {listed(unknown)} is nothing that Trivit knows, and was left out",)
