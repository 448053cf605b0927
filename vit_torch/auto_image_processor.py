"""The automatic classes of the image processors, which know the fast one that PyTorch has."""

from collections import ChainMap
from typing import ClassVar

import conversion
from vit_core.auto_image_processor import PROCESSORS
from vit_torch.image_processing import ViTImageProcessorFast


class AutoImageProcessor(conversion.AutoImageProcessor):
    """Finds out which image processor a checkpoint has; the fast class for files that name it, and if asked for."""

    _processors: ClassVar = ChainMap({"ViTImageProcessorFast": ViTImageProcessorFast}, PROCESSORS)


class AutoFeatureExtractor(conversion.AutoFeatureExtractor, AutoImageProcessor):
    """`AutoImageProcessor` under its name of old; what it finds are image processors."""
