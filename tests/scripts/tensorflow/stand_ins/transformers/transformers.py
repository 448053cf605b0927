"""What the scripts still take from transformers 5: a parser that fills dataclasses from a command line."""

from __future__ import annotations

import argparse
import dataclasses
import typing


def _boolean(text):
    return {"true": True, "false": False}[text.lower()]


class HfArgumentParser:
    """Fills dataclasses from a command line, one option a field."""

    def __init__(self, dataclass_types):
        self.types = dataclass_types

    def parse_args_into_dataclasses(self):
        parser = argparse.ArgumentParser()
        for each in self.types:
            kinds = typing.get_type_hints(each)
            for field in dataclasses.fields(each):
                kind = next((part for part in typing.get_args(kinds[field.name]) if part is not type(None)), None)
                kind = kind or kinds[field.name]
                options = {"nargs": "?", "const": True, "type": _boolean} if kind is bool else {"type": kind}
                required = field.default is dataclasses.MISSING
                parser.add_argument(f"--{field.name}", required=required, default=field.default, **options)
        values = vars(parser.parse_args())
        return tuple(
            each(**{field.name: values[field.name] for field in dataclasses.fields(each)}) for each in self.types
        )
