"""Which weights are read where several lie side by side, by the options that transformers 4 has for it and one more."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vit_core.file_names import (
    FLAX_NAME,
    INDEX_SUFFIX,
    PYTORCH_NAME,
    TENSORFLOW_NAME,
    USUAL_NAMES,
    WEIGHTS_NAME,
)

#: The files of which there are variants.
WITH_VARIANTS = (WEIGHTS_NAME, PYTORCH_NAME)
VARIANT = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"


@dataclass(frozen=True)
class WeightsChoice:
    """Which weights are read where there are several.

    Attributes:
        names: the usual names of files, the one that is wanted first; those that are not in it are not read.
        variant: which variant of each: "fp16" for `model.fp16.safetensors`; None for `model.safetensors` itself.
        under: what stands before the names of the model that is meant, where one file holds several: "student", "ema".
    """

    names: tuple[str, ...] = USUAL_NAMES
    variant: str | None = None
    under: str | None = None

    @classmethod
    def from_options(
        cls,
        use_safetensors: bool | None = None,
        from_pt: bool = False,
        from_tf: bool = False,
        from_flax: bool = False,
        variant: str | None = None,
        under: str | None = None,
    ) -> WeightsChoice:
        """What the options of `from_pretrained` ask for.

        Args:
            use_safetensors: True reads safetensors and nothing else, False takes them last.
            from_pt: `pytorch_model.bin` comes first.
            from_tf: `tf_model.h5` comes first.
            from_flax: `flax_model.msgpack` comes first.
            variant: of the names of files, such as "fp16" for `model.fp16.safetensors`.
            under: what stands before the names of the model that is meant, where one file holds several.

        Returns:
            The choice. An option that puts a file first leaves the others as they are, for folders without that file.

        Raises:
            TypeError: `variant` or `under` is no text.
            ValueError: `variant` cannot be a part of a file's name.
        """
        if under is not None and not isinstance(under, str):
            raise TypeError(f"under is {under!r}; give what stands before a model's names in its file, such as 'ema'.")
        asked = {TENSORFLOW_NAME: from_tf, FLAX_NAME: from_flax, PYTORCH_NAME: from_pt}
        first = [name for name, is_asked in asked.items() if is_asked]
        others = [name for name in USUAL_NAMES if name not in first]
        if use_safetensors:
            others = [WEIGHTS_NAME]
        elif use_safetensors is not None:
            others.sort(key=WEIGHTS_NAME.__eq__)
        if variant := checked_variant(variant):
            others = [name for name in others if name in WITH_VARIANTS]
        return cls((*first, *others), variant, under)

    @property
    def is_open(self) -> bool:
        """Whether any file of weights will do, if there is no other, whatever its name."""
        return set(self.names) == set(USUAL_NAMES)

    def allows(self, name: str) -> bool:
        """Whether a file of weights with an unusual name is of a kind that is wanted."""
        return self.is_open or name.lower().endswith(tuple(map(_suffix, self.names)))

    def file_name(self, name: str) -> str:
        """What one of the usual names is called in this variant."""
        return variant_name(name, self.variant) if name in WITH_VARIANTS else name

    def index_name(self, name: str) -> str:
        """What the index of that file's shards is called in this variant."""
        index = f"{name}{INDEX_SUFFIX}"
        return variant_name(index, self.variant) if name in WITH_VARIANTS else index


def checked_variant(variant: str | None) -> str | None:
    """The variant, if it can be a part of a file's name; none for an empty one.

    Raises:
        TypeError: it is no text.
        ValueError: it has other characters than letters, digits, "_", "-" and ".".
    """
    if variant is None or variant == "":
        return None
    if not isinstance(variant, str):
        raise TypeError(f"variant is {variant!r}; give text such as 'fp16', or None.")
    if not re.fullmatch(VARIANT, variant) or ".." in variant:
        raise ValueError(f"variant is {variant!r}, which cannot be a part of a file's name; give one such as 'fp16'.")
    return variant


def variant_name(name: str, variant: str | None) -> str:
    """The name of a file with a variant before its last part: `model.safetensors.index.fp16.json`."""
    if variant is None:
        return name
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{variant}.{suffix}"


def weight_files(variant: str | None = None, name: str = WEIGHTS_NAME) -> tuple[str, str, str]:
    """Patterns of the weights of a variant: one file, or an index and shards; never some of both."""
    whole = variant_name(name, variant)
    stem, _, suffix = whole.rpartition(".")
    return whole, variant_name(f"{name}{INDEX_SUFFIX}", variant), f"{stem}-*-of-*.{suffix}"


def kind_of(file: str) -> tuple[str, str | None] | None:
    """The usual name and the variant of a file of weights, whole, index or shard; nothing for any other file."""
    for name in USUAL_NAMES:
        stem, _, suffix = map(re.escape, name.rpartition("."))
        variant = f"(?:[.]({VARIANT}?))?" if name in WITH_VARIANTS else "()"
        shard_or_whole = f"{stem}{variant}(?:-[0-9]+-of-[0-9]+)?[.]{suffix}"
        index = f"{stem}[.]{suffix}[.]index{variant}[.]json"
        if match := re.fullmatch(shard_or_whole, file) or re.fullmatch(index, file):
            return name, match[1] or None
    return None


def _suffix(name: str) -> str:
    return name[name.rindex(".") :]
