"""Computing activations again in the backward pass instead of keeping them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from vit_core.checks import require_choice

Policy = Callable[..., bool]
Remat = bool | str | Policy

#: What `jax.checkpoint` may keep, by the names that JAX gives its policies.
POLICIES: dict[str, Policy] = {
    name: getattr(jax.checkpoint_policies, name)
    for name in ("nothing_saveable", "dots_saveable", "dots_with_no_batch_dims_saveable", "everything_saveable")
}


def check_remat(remat: Remat) -> None:
    """Check that a name is that of a policy.

    Raises:
        ValueError: it is not.
    """
    if isinstance(remat, str):
        require_choice("remat", remat, POLICIES)


def rematerialized(run: Callable[..., Any], remat: Remat, is_scanned: bool) -> Callable[..., Any]:
    """A function of a module and arrays that keeps for the backward pass only what the policy says.

    Where nothing is traced there is no backward pass, and the function is called as it is: to the bit what it was.

    Args:
        run: what to do with a layer.
        remat: False to keep everything, True to keep nothing but what goes in, a name of `POLICIES`, or a policy.
        is_scanned: whether it is the body of a scan.

    Raises:
        ValueError: there is no policy of that name.
    """
    if remat is False:
        return run
    check_remat(remat)
    policy: Policy | None = None if remat is True else POLICIES[remat] if isinstance(remat, str) else remat
    again = nn.remat(run, policy=policy, prevent_cse=not is_scanned)  # a scan keeps the compiler from merging them, too

    def chosen(module: nn.Module, *arrays: Any) -> Any:
        leaves = jax.tree.leaves((module.variables, arrays))
        return (again if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves) else run)(module, *arrays)

    return again if is_scanned else chosen
