"""What scripts for transformers 4 do with an image processor and nothing else here needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Self

from vit_core.image_file import opened_picture
from vit_core.image_settings_file import find_settings, read_settings
from vit_core.json_file import read_json_file
from vit_core.saving import write_file

#: Bytes of an image file from the network, above which it is refused.
LARGEST_DOWNLOAD = 2**28
TIMEOUT = 60  # seconds without an answer


class ScriptMethods:
    """The methods of transformers' image processors that Trivit itself has no use for."""

    _auto_class: ClassVar[str | None] = None

    def to_json_file(self, json_file_path: str | os.PathLike[str]) -> None:
        """Write the settings to a JSON file of any name.

        Raises:
            OSError: it cannot be written; what was there before is untouched.
        """
        write_file(Path(json_file_path), self.to_json_string().encode())  # type: ignore[attr-defined]

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Self:
        """The processor with the settings of a JSON file.

        Raises:
            OSError: there is no such file.
            ValueError: it is no JSON object, or a setting is impossible.
        """
        return cls.from_dict(read_json_file(Path(json_file)))  # type: ignore[attr-defined]

    @classmethod
    def get_image_processor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a checkpoint's `preprocessor_config.json` says, and the options that do not say where it is.

        Args:
            pretrained_model_name_or_path: as in `from_pretrained`.
            **options: those of `from_pretrained`.

        Raises:
            OSError: the file is not there or cannot be downloaded.
            ValueError: it is no JSON object.
        """
        source, rest = find_settings(pretrained_model_name_or_path, options)
        return read_settings(source), rest

    def fetch_images(self, image_url_or_urls: str | list[str]) -> Any:
        """Download images.

        Args:
            image_url_or_urls: an address that starts with http:// or https://, or a list of those, which may hold
                further lists.

        Returns:
            A PIL image for each address, turned upright as its EXIF data say, in lists as they were given.

        Raises:
            OSError: an image cannot be downloaded, or is none.
            TypeError: this is neither an address nor a list.
            ValueError: an address is of another kind, or an image is too large.
        """
        if isinstance(image_url_or_urls, list):
            return [self.fetch_images(each) for each in image_url_or_urls]
        if not isinstance(image_url_or_urls, str):
            raise TypeError(f"{image_url_or_urls!r} is neither an address nor a list of addresses.")
        with opened_picture(_download(image_url_or_urls), image_url_or_urls) as picture:
            return picture

    @classmethod
    def register_for_auto_class(cls, auto_class: str | type = "AutoImageProcessor") -> None:
        """Accepted and without effect: Trivit never loads code from a checkpoint; see `AutoImageProcessor.register`."""
        cls._auto_class = auto_class if isinstance(auto_class, str) else auto_class.__name__

    def _set_processor_class(self, processor_class: str) -> None:
        self.processor_class = processor_class


def _download(url: str) -> bytes:
    from http.client import HTTPException
    from urllib.request import Request, urlopen

    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is no address that starts with http:// or https://; pass files to the processor.")
    try:
        with urlopen(Request(url, headers={"User-Agent": "trivit"}), timeout=TIMEOUT) as response:
            content: bytes = response.read(LARGEST_DOWNLOAD + 1)
    except (OSError, HTTPException) as error:
        raise OSError(f"{url} cannot be downloaded ({error}); check the address and the network.") from error
    if len(content) > LARGEST_DOWNLOAD:
        raise ValueError(f"{url} has more than {LARGEST_DOWNLOAD} bytes, too many for an image; download it yourself.")
    return content
