"""transformers' common tests of configs, with the config of `vit_core`."""

import unittest
from collections.abc import Callable

import sdist

import vit_core

common = sdist.load("test_configuration_common", vit_core)
if sdist.OWN:
    from transformers import ViTConfig
else:
    from vit_core import ViTConfig

STEPS = [name for name in vars(common.ConfigTester) if name.startswith(("create_and_test_", "check_"))]


def _method(step: str) -> Callable[[unittest.TestCase], None]:
    def method(self: unittest.TestCase) -> None:
        tester = common.ConfigTester(self, config_class=ViTConfig, has_text_modality=False, hidden_size=36)
        getattr(tester, step)()

    return method


class TestConfig(sdist.TestCase):
    """One method for each step of transformers' tester, which it takes in one go."""


for step in STEPS:
    setattr(TestConfig, f"test_{step}", _method(step))
