"""The common tests of transformers 4.47.1, from its source distribution: TRANSFORMERS_SDIST names the unpacked folder.

A script moves to this project by a change of its import line, and so do these tests: `load` runs a file of theirs as
it is, and then exchanges the names that it imported from transformers for those that one of our packages offers.
`PEER_TESTS_OF=transformers` leaves the names as they are and runs transformers' own classes through the same testers,
which shows what the tests say of them.
"""

import importlib.util
import os
import sys
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

OWN = os.environ.get("PEER_TESTS_OF") == "transformers"
#: The name under which the folder `tests` of the source distribution is a package here.
PACKAGE = "transformers_tests"


class TestCase(unittest.TestCase):
    """A method fails where a part of it does, so that each has one outcome to be listed."""

    @contextmanager
    def subTest(self, msg: Any = None, **parameters: Any) -> Iterator[None]:
        yield


class WithOurs:
    """What `import transformers` gives, with the public names of one of our packages in it."""

    def __init__(self, package: ModuleType):
        self._package = package

    def __getattr__(self, name: str) -> Any:
        import transformers

        return getattr(self._package, name) if name in self._package.__all__ else getattr(transformers, name)


def load(name: str, package: ModuleType, **imports: Any) -> ModuleType:
    """Run a file of common tests.

    Args:
        name: the file's name without its suffix.
        package: ours, whose public names take the place of transformers' names that are spelt the same.
        imports: more names, for what ours calls otherwise.
    """
    if PACKAGE not in sys.modules:
        _make_package()
    module_name = f"{PACKAGE}.{name}"
    spec = importlib.util.spec_from_file_location(module_name, _folder() / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
    # The tests of configs would import transformers from the folder in which they lie.
    with mock.patch("transformers.utils.direct_transformers_import", return_value=sys.modules["transformers"]):
        spec.loader.exec_module(module)
    if not OWN:
        public = {public: getattr(package, public) for public in package.__all__ if hasattr(module, public)}
        vars(module).update(public, **imports)
    return module


def register(table: Any, config_class: type, model_class: type) -> None:
    """Have a table of transformers' auto classes know a model of ours; a table that we export has it already."""
    if hasattr(table, "register"):
        table.register(config_class, model_class, exist_ok=True)


def _folder() -> Path:
    source = os.environ.get("TRANSFORMERS_SDIST")
    if not source:
        raise OSError("TRANSFORMERS_SDIST is not set; `nox -s peer_tests` downloads transformers' tests and sets it.")
    return Path(source) / "tests"


def _make_package() -> None:
    """The folder as a package, with what the tests import from folders that the distribution leaves out."""
    left_out = {
        f"{PACKAGE}.utils.test_configuration_utils": {"config_common_kwargs": _fields_of_every_config()},
        "tests.utils.test_modeling_flax_utils": {"check_models_equal": _equal_parameters},
    }
    for name, contents in left_out.items():
        package, folder, _ = name.split(".")
        for parent in (package, f"{package}.{folder}"):
            sys.modules.setdefault(parent, ModuleType(parent)).__path__ = []
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(contents)


def _equal_parameters(first: Any, second: Any) -> bool:
    """Whether two Flax models hold the same parameters, to 1e-3 in sum."""
    import jax
    import numpy as np

    pairs = zip(jax.tree.leaves(first.params), jax.tree.leaves(second.params), strict=True)
    return all(np.abs(np.asarray(one) - np.asarray(other)).sum() < 1e-3 for one, other in pairs)


#: Values for the fields of a config whose default is None or empty.
VALUES = {
    **{"finetuning_task": "word", "tokenizer_class": "word", "prefix": "word", "problem_type": "regression"},
    **{"bos_token_id": 7, "pad_token_id": 6, "eos_token_id": 5, "sep_token_id": 4, "decoder_start_token_id": 3},
    **{"forced_bos_token_id": 2, "forced_eos_token_id": 1, "cross_attention_hidden_size": 8},
    **{"bad_words_ids": [[1, 2]], "suppress_tokens": [0, 1], "begin_suppress_tokens": [2]},
    **{"exponential_decay_length_penalty": (5, 1.01), "task_specific_params": {"first": 1}},
    **{"torch_dtype": "float16", "pruned_heads": {1: [2]}, "architectures": ["BertModel"]},
    **{"id2label": {0: "label"}, "label2id": {"label": 0}},
}


def _fields_of_every_config() -> dict[str, Any]:
    """Each field that all configs of transformers have, with a value that is not its default."""
    from transformers import PretrainedConfig

    fields = {}
    for field, default in PretrainedConfig().to_dict().items():
        if isinstance(default, bool):
            fields[field] = not default
        elif isinstance(default, int | float):
            fields[field] = default + 1
        elif field in VALUES:
            fields[field] = VALUES[field]
    return fields
