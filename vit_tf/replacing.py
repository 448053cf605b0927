"""Layers and variables that are replaced after a layer was built, which Keras refuses or does not notice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, SupportsIndex

import keras
from keras.src.utils.tracking import TrackedList


class Replaceable:
    """Takes another layer, a list of layers, or a variable, in the place of one that it has.

    Keras refuses that once a layer is built; scripts do it with a loaded model: `model.classifier = Dense(10)`,
    `encoder.layer[0] = MyLayer()`.
    """

    #: Names that an attribute has in scripts for transformers, and ours.
    names_in_scripts: ClassVar[dict[str, str]] = {}

    def __getattr__(self, name: str) -> Any:
        if name in self.names_in_scripts:
            return getattr(self, self.names_in_scripts[name])
        raise AttributeError(f"{type(self).__name__} has no {name!r}.")

    def __setattr__(self, name: str, value: Any) -> None:
        name = self.names_in_scripts.get(name, name)
        if not vars(self).get("_tracker"):  # Keras has not started yet
            super().__setattr__(name, value)
            return
        held = dict(vars(self))
        old = held.pop(name, None)
        if isinstance(old, keras.Variable) and not name.startswith("_"):
            value = _replaced_variable(self, name, old, value)
        _track_instead(self, old, value, held)
        super().__setattr__(name, value)
        if isinstance(value, list) and _layers(value):
            # Keras has made a list of it that does not notice when an item is replaced.
            object.__setattr__(self, name, Parts(value, self))

    # `tf.train.Checkpoint` knows layers by these two, and of Keras not those in lists and dicts.

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> dict[str, Any]:
        children: dict[str, Any] = super()._trackable_children(save_type, **kwargs)  # type: ignore[misc]
        return {**children, **self._listed()} if save_type == "checkpoint" else children

    def _lookup_dependency(self, name: str, *args: Any, **kwargs: Any) -> Any:
        found = super()._lookup_dependency(name, *args, **kwargs)  # type: ignore[misc]
        return self._listed().get(name) if found is None else found

    def _listed(self) -> dict[str, Any]:
        """The layers in lists and dicts, by name."""
        return {
            f"{name}-{index}": layer
            for name, held in vars(self).items()
            if isinstance(held, list | tuple | dict) and not name.startswith("_")
            for index, layer in enumerate(_layers(held))
        }


class Parts(TrackedList):
    """A list of the layers of a part, each of which can be replaced, taken away or added at any time.

    Args:
        layers: what is in it.
        owner: the part, whose variables are those of the layers.
    """

    def __init__(self, layers: Iterable[Any] = (), owner: Any = None) -> None:
        list.__init__(self, layers)
        self.owner = owner
        self.tracker = None if owner is None else owner._tracker  # by which Keras knows its lists

    def __setitem__(self, index: Any, value: Any) -> None:
        changed = list(self)
        changed[index] = value
        self._become(changed)

    def __delitem__(self, index: Any) -> None:
        changed = list(self)
        del changed[index]
        self._become(changed)

    def __iadd__(self, values: Iterable[Any]) -> Parts:
        self.extend(values)
        return self

    def append(self, value: Any) -> None:
        """Add a layer at the end."""
        self[len(self) :] = [value]

    def extend(self, values: Iterable[Any]) -> None:
        """Add layers at the end."""
        self[len(self) :] = list(values)

    def insert(self, index: SupportsIndex, value: Any) -> None:
        """Add a layer before another."""
        self[index:index] = [value]

    def pop(self, index: SupportsIndex = -1) -> Any:
        """Take a layer away and return it."""
        value = self[index]
        del self[index]
        return value

    def remove(self, value: Any) -> None:
        """Take a layer away."""
        del self[self.index(value)]

    def clear(self) -> None:
        """Take all layers away."""
        self._become([])

    def _become(self, changed: list[Any]) -> None:
        if self.owner is not None:
            held = {name: value for name, value in vars(self.owner).items() if value is not self}
            _track_instead(self.owner, self, changed, held)
        list.__setitem__(self, slice(None), changed)


def _track_instead(owner: Any, old: Any, new: Any, held: Mapping[str, Any]) -> None:
    """Have a layer own the variables of some layers instead of those of others, in their place.

    Args:
        owner: the layer.
        old: a layer, or a list of them.
        new: likewise.
        held: the other attributes of the owner; what is also among them stays.
    """
    before, after = _layers(old), _layers(new)
    if not (before or after):
        return
    tracker, store = owner._tracker, owner._tracker.config["layers"][1]
    # `_layers` is Keras' store, and TensorFlow has the layers in a dict of its own.
    others = [value for name, value in held.items() if not (name == "_layers" or name.startswith("_self_"))]
    elsewhere = _layers(others)
    was_locked = tracker.locked
    tracker.unlock()
    try:
        place = min((index for index, each in enumerate(store) if _holds(before, each)), default=len(store))
        for layer in before:
            if not _holds(after, layer) and not _holds(elsewhere, layer):
                tracker.untrack(layer)
        for layer in after:
            tracker.track(layer)
        moved = [each for each in _once(after) if _holds(store, each)]  # none where Keras does not track
        first = [each for each in store[:place] if not _holds(moved, each)]
        last = [each for each in store[place:] if not _holds(moved, each)]
        store[:] = [*first, *moved, *last]
    finally:
        if was_locked:
            tracker.lock()


def _replaced_variable(owner: Any, name: str, old: keras.Variable, value: Any) -> Any:
    """A variable that a layer has instead of another, in its place: one of Keras, or of a tensor or an array.

    Raises:
        TypeError: it is neither.
    """
    if value is old or value is None or isinstance(value, keras.Variable):
        new = value
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        new = keras.Variable(
            keras.ops.convert_to_tensor(value), dtype=old.dtype, trainable=old.trainable, name=old.name
        )
    else:
        raise TypeError(f"{name} is a variable; put a variable, tensor or array in its place, not {value!r}.")
    if new is old:
        return new
    tracker = owner._tracker
    was_locked = tracker.locked
    tracker.unlock()
    try:
        kind = "trainable_variables" if tracker.is_in_store("trainable_variables", old) else "non_trainable_variables"
        store = tracker.config[kind][1]
        place = next((index for index, each in enumerate(store) if each is old), len(store))
        tracker.untrack(old)
        if new is not None:
            tracker.track(new)
            if tracker.is_in_store(kind, new):
                store.insert(place, store.pop())
    finally:
        if was_locked:
            tracker.lock()
    return new


def _holds(layers: Iterable[Any], layer: Any) -> bool:
    return any(each is layer for each in layers)


def _once(layers: Iterable[Any]) -> list[Any]:
    return list({id(each): each for each in layers}.values())


def _layers(value: Any) -> list[keras.layers.Layer]:
    """A layer, or those of a list or dict."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [layer for each in value for layer in _layers(each)]
    return [value] if isinstance(value, keras.layers.Layer) else []
