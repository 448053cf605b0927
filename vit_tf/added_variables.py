"""What a subclass or a script adds to a model: variables that the table of parameters does not know, by attribute."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from functools import cache
from typing import Any

import keras

Path = tuple[str, ...]


def added_variables(model: keras.Model, known: Set[Path]) -> dict[str, Any]:
    """The variables of layers that are not known, by the attributes that lead to them: "head.kernel".

    Keras' own names of layers and variables count what a process has made, so they differ from run to run.

    Args:
        model: the model.
        known: the paths of layers whose variables the table of parameters names.
    """
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for path, layer in _layers(model, (), seen):
        if path in known:
            continue
        inner = {id(variable) for child in _children(layer).values() for variable in _weights(child)}
        for variable in layer.weights:
            if id(variable) not in inner and id(variable) not in seen:
                seen.add(id(variable))
                found[".".join((*path, _name(layer, variable)))] = variable
    return found


def _name(layer: keras.layers.Layer, variable: Any) -> str:
    """A variable's name or, where Keras has counted one, the attribute that holds it."""
    if not re.fullmatch(r"variable(_\d+)?", variable.name):
        return str(variable.name)
    for name, held in vars(layer).items():
        if held is variable:
            return name
        if isinstance(held, list | tuple) and not name.startswith("_"):
            for index, each in enumerate(held):
                if each is variable:
                    return f"{name}.{index}"
    return f"variable_{[each is variable for each in layer.weights].index(True)}"


def _layers(value: Any, path: Path, seen: set[int]) -> Iterator[tuple[Path, keras.layers.Layer]]:
    """A layer or the layers of a container, with those that they hold, each once."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, keras.layers.Layer):
        yield path, value
    for name, child in _children(value).items():
        yield from _layers(child, (*path, name), seen)


def _children(value: Any) -> dict[str, Any]:
    """What a layer or a container holds, by attribute, index or key."""
    if isinstance(value, keras.Sequential):
        return {str(index): layer for index, layer in enumerate(value.layers)}
    if isinstance(value, keras.Model) and not _is_subclassed(value):
        return {layer.name: layer for layer in value.layers}
    if isinstance(value, keras.layers.Layer):
        held = {name: each for name, each in vars(value).items() if name not in _internal_attributes()}
    elif isinstance(value, dict):
        held = {str(key): each for key, each in value.items()}
    elif isinstance(value, list | tuple):
        held = {str(index): each for index, each in enumerate(value)}
    else:
        return {}
    return {name: each for name, each in held.items() if isinstance(each, keras.layers.Layer | dict | list | tuple)}


def _weights(value: Any) -> list[Any]:
    if isinstance(value, keras.layers.Layer):
        return list(value.weights)
    return [variable for child in _children(value).values() for variable in _weights(child)]


def _is_subclassed(model: keras.Model) -> bool:
    return not isinstance(model, keras.src.models.functional.Functional)


@cache
def _internal_attributes() -> frozenset[str]:
    """The attributes that Keras itself gives to layers and models."""
    holder = keras.Model()
    holder.part = keras.layers.Layer()  # some come with the first part
    return frozenset({*vars(holder), *vars(keras.layers.Layer())} - {"part"})
