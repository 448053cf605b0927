"""Who sees what modules return on the way: if nobody does, less may be computed, and memory used again."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules import module as _of_all  # hooks of all modules of the process


def is_watched(modules: Iterable[nn.Module]) -> bool:
    """Whether hooks, or a forward pass put into a module's place, may see what one of them reads or returns."""
    if _of_all._global_forward_hooks or _of_all._global_forward_pre_hooks:
        return True
    if _of_all._global_backward_hooks or _of_all._global_backward_pre_hooks:
        return True
    for module in modules:
        if module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__:
            return True
        if module._backward_hooks or module._backward_pre_hooks:
            return True
    return False


def is_traced() -> bool:
    """Whether a compiler, an exporter or a transform of functions reads the forward pass, and has plans of its own."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return torch._C._are_functorch_transforms_active()


def is_own(module: nn.Module) -> bool:
    """Whether a module's forward pass is one of this package's, rather than a script's."""
    return type(module).forward.__module__.startswith("vit_torch.")
