"""The modules of a TorchScript program, as `torch.jit.save` writes it: which of what they hold is weights.

Such an archive is one of `torch.save` (see `torch_file`) whose objects are modules, of classes of the program's own,
with the classes' code beside them. The code is neither compiled nor run: all that is read of it are the two lists with
which it opens a class, of the names of its parameters and of its buffers. The layout is that of
torch/csrc/jit/serialization/export_module.cpp and python_print.cpp.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from conversion.containers.torch_names import PickledTensor, ScriptModule
from conversion.containers.zip_file import ZipEntry
from vit_core.checks import shown

#: What a value holds, with the key of each.
Children = Callable[[Any], Iterator[tuple[Any, Any]]]

LARGEST_CODE = 2**25  # bytes of one file; those of the published CLIPs have some hundred thousand
_CLASS = re.compile(
    r"^class (?P<name>\w+)\(Module\):\n  __parameters__ = \[(?P<parameters>[^\]\n]*)\]\n"
    r"  __buffers__ = \[(?P<buffers>[^\]\n]*)\]$",
    re.MULTILINE,
)
_NAME = re.compile(r'"([^"]*)"')


def script_children(entries: Mapping[str, ZipEntry]) -> Children:
    """What gives the modules in a module and its weights: other tensors and lists of them are no part of a state dict.

    Args:
        entries: those of the archive.
    """
    folder = next(name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1).partition("/")[0]

    @functools.cache
    def weights_in(module: str) -> dict[str, frozenset[str]]:
        entry = entries.get(f"{folder}/code/{module.replace('.', '/')}.py")
        return {} if entry is None else _weights_of_classes(entry)

    def children(module: Any) -> Iterator[tuple[Any, Any]]:
        if not isinstance(module, ScriptModule):
            return
        package, _, class_name = module.class_name.rpartition(".")
        weights = weights_in(package).get(class_name)  # before PyTorch 1.5 there was no list of buffers
        for key, value in module.attributes or ():
            is_weight = isinstance(value, PickledTensor) and (weights is None or key in weights)
            if is_weight or isinstance(value, ScriptModule):
                yield key, value

    return children


def _weights_of_classes(entry: ZipEntry) -> dict[str, frozenset[str]]:
    """The names of the parameters and buffers of each class in a file of code."""
    if entry.size > LARGEST_CODE:
        raise ValueError(
            f"has {entry.size} bytes of code in {shown(entry.name)}, more than the {LARGEST_CODE} that are looked at; "
            f"save its state dict alone."
        )
    text = entry.read().tobytes().decode("utf-8", "replace")
    return {
        match["name"]: frozenset(_NAME.findall(match["parameters"]) + _NAME.findall(match["buffers"]))
        for match in _CLASS.finditer(text)
    }
