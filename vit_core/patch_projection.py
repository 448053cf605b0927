"""The projection of the patches for patches of another size, as FlexiViT has it.

Beyer et al. 2022 (https://arxiv.org/abs/2212.08013, section 3.4, "PI-resize"): the new kernel w' is the one for which a
patch x and its resized image B x have as nearly as can be the same product, w' . B x = w . x. Over all patches that is
the pseudo-inverse of B's transpose, times w. Resizing goes by height and by width, B = B_h (x) B_w, and the
pseudo-inverse of a Kronecker product is that of its factors, so two small matrices are enough.
References: google-research/big_vision, models/proj/flexi/vit.py, resample_patchemb, and timm, layers/patch_embed.py,
resample_patch_embed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vit_core.checks import require_choice, require_integer
from vit_core.config import LARGEST_SIZE
from vit_core.loading_options import PATCH_RESAMPLINGS, PatchResampling
from vit_core.position import resampling_matrix

if TYPE_CHECKING:
    from jaxtyping import Float


def resample_patch_projection(
    kernel: Float[np.ndarray, "hidden channels height width"],
    size: int | tuple[int, int],
    resampling: PatchResampling = "antialiased",
) -> Float[np.ndarray, "hidden channels new_height new_width"]:
    """The kernel of the patches' projection for patches of another size.

    Tokens of images that are enlarged, or reduced, with their patches stay as nearly the same as can be. Going back
    does not give the first kernel again where patches were made smaller in between.

    Args:
        kernel: in PyTorch's axes, as `embeddings.patch_embeddings.projection.weight` of the table of parameters.
        size: height and width of the new patches in pixels, or one number for both.
        resampling: see `vit_core.loading_options.PatchResampling`.

    Returns:
        Array of shape (hidden, channels, *size), of the dtype of `kernel`; computed in float64.

    Raises:
        ValueError: a size is no positive number, the kernel has not four axes, or there is no such resampling.
    """
    require_choice("resampling", resampling, PATCH_RESAMPLINGS)
    if kernel.ndim != 4 or 0 in kernel.shape:
        raise ValueError(f"the kernel has shape {kernel.shape}; give one of (hidden, channels, height, width).")
    lengths = size if isinstance(size, tuple | list) else (size, size)
    if len(lengths) != 2:
        raise ValueError(f"size is {size!r}; give one number or (height, width).")
    for length in lengths:
        require_integer("size", length, 1, LARGEST_SIZE)
    down, right = (_inverse(old, new, resampling) for old, new in zip(kernel.shape[2:], lengths, strict=True))
    resampled = down @ kernel.astype(np.float64) @ right.T
    return resampled.astype(kernel.dtype)


def _inverse(old_length: int, new_length: int, resampling: PatchResampling) -> np.ndarray:
    """What takes an axis of a kernel to its new length: of what resizes patches, the transpose's pseudo-inverse."""
    return np.linalg.pinv(resampling_matrix(old_length, new_length, resampling=resampling).T)
