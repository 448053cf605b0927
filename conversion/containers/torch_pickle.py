"""The pickles in PyTorch's files, interpreted without running anything.

A pickle is a program for a stack machine, and Python's own `pickle` imports and calls whatever the program names. The
machine here knows only the instructions that build plain data and the names of `torch_names`: it imports
nothing, calls nothing that a file chooses, and neither hashes nor compares what it builds. A pickle is read in one
pass, so its time and memory are bounded by the number of its instructions, and nesting costs no recursion.

The instructions are those of CPython's Lib/pickletools.py. Left out are those that no PyTorch writes: the text of
protocol 0, objects by class and arguments (INST, OBJ), numbered classes (EXT) and buffers from outside.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conversion.containers.torch_names import (
    INERT,
    Inert,
    Name,
    OrderedPairs,
    Pairs,
    ScriptModule,
    Storage,
    admitted,
    itemsize,
    refusal,
)
from vit_core.checks import shown
from vit_core.stored_tensor import is_size

LARGEST_PICKLE = 2**26  # bytes; one of a ViT-H with its optimizer takes some hundred thousand
MOST_STEPS = 2**20  # a tensor takes about forty; a step takes about a hundred bytes at most, beside text
LONGEST_NUMBER = 255  # bytes of an integer
LONGEST_LINE = 512  # bytes of a module's or a class's name
LATEST_PROTOCOL = 5

Admit = Callable[[str, str], Name]


@dataclass(frozen=True)
class Pickled:
    """What a pickle says.

    Attributes:
        value: None, bool, int, str, list, tuple, `Pairs`, `ScriptModule`, `PickledTensor`, `Storage`, `Name` or
            `INERT`. Lists, pairs and modules may contain themselves.
        end: the position behind its last byte.
        storages: every storage that it names, whole, by key.
    """

    value: Any
    end: int
    storages: dict[str, Storage]


def read_pickle(data: memoryview, start: int = 0, admit: Admit = admitted) -> Pickled:
    """Interpret a pickle.

    Args:
        data: bytes that hold it.
        start: where in them it starts.
        admit: what stands for a module's class or function.

    Raises:
        ValueError: it is corrupt, hostile or holds what cannot be read here. The text goes on from the file's name.
    """
    machine = _Machine(data[start : start + LARGEST_PICKLE], admit)
    value = machine.run()
    return Pickled(value, start + machine.position, machine.storages)


class _Machine:
    """The state of the interpreter; its methods are what instructions share."""

    def __init__(self, data: memoryview, admit: Admit) -> None:
        self.data = data
        self.admit = admit
        self.position = 0
        self.steps = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self) -> Any:
        """The one value that the pickle leaves."""
        data, find, end = self.data, INSTRUCTIONS.get, len(self.data)
        while self.steps < MOST_STEPS:
            self.steps += 1
            if self.position == end:
                self.take(1)  # which says so
            instruction = data[self.position]
            self.position += 1
            if instruction == _STOP:
                if self.marks or len(self.stack) != 1:
                    raise self.corrupt("ends with other than one value")
                return self.stack[0]
            run = find(instruction)
            if run is None:
                raise self.corrupt(f"has the instruction 0x{instruction:02x}, which PyTorch does not write,")
            run(self)
        raise ValueError(
            f"has a pickle of more than {MOST_STEPS} instructions, which no checkpoint needs; save its weights alone."
        )

    def take(self, count: int) -> memoryview:
        """The next bytes."""
        end = self.position + count
        if end > len(self.data):
            largest = f" or longer than {LARGEST_PICKLE} bytes" if len(self.data) == LARGEST_PICKLE else ""
            raise ValueError(f"has a pickle without an end; it is truncated or corrupt{largest}, get it again.")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def number(self, layout: struct.Struct) -> int:
        """A number that stands behind an instruction."""
        return layout.unpack(self.take(layout.size))[0]

    def line(self) -> str:
        """A name that stands behind an instruction."""
        nearby = bytes(self.data[self.position : self.position + LONGEST_LINE])
        name, newline, _ = nearby.partition(b"\n")
        if not newline or not name.isascii():
            raise self.corrupt(f"has {shown(name[:32])} instead of a name")
        self.position += len(name) + 1
        return name.decode()

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def top(self) -> Any:
        """The last value, which must not lie below a mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.corrupt("takes a value where there is none")
        return self.stack[-1]

    def pop(self) -> Any:
        """Take the last value."""
        self.top()
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        """Take the values since the last mark."""
        if not self.marks:
            raise self.corrupt("lacks a mark")
        height = self.marks.pop()
        values = self.stack[height:]
        del self.stack[height:]
        return values

    def corrupt(self, what: str) -> ValueError:
        """What is said of a pickle that no pickler writes."""
        return ValueError(
            f"has a pickle that {what} at its byte {self.position}; it is corrupt or hostile, get the checkpoint as "
            f"safetensors."
        )


_Instruction = Callable[[_Machine], None]

_BYTE, _SHORT, _UINT, _ULONG = (struct.Struct(layout) for layout in ("<B", "<H", "<I", "<Q"))
_INT = struct.Struct("<i")


def _protocol(machine: _Machine) -> None:
    protocol = machine.number(_BYTE)
    if protocol > LATEST_PROTOCOL:
        raise ValueError(
            f"has a pickle of protocol {protocol}, later than {LATEST_PROTOCOL}; save it again with another."
        )


def _frame(machine: _Machine) -> None:
    """A hint how much to read at once: nothing to do, but it must not lie."""
    if machine.number(_ULONG) > len(machine.data) - machine.position:
        raise machine.corrupt("has a frame that passes its end")


def _pushing(value: Any) -> _Instruction:
    return lambda machine: machine.push(value)


def _pushing_new(kind: Callable[[], Any]) -> _Instruction:
    return lambda machine: machine.push(kind())


def _integer(layout: struct.Struct) -> _Instruction:
    return lambda machine: machine.push(machine.number(layout))


def _long(layout: struct.Struct) -> _Instruction:
    def instruction(machine: _Machine) -> None:
        length = machine.number(layout)
        if length > LONGEST_NUMBER:
            raise machine.corrupt(f"has a number of {length} bytes")
        machine.push(int.from_bytes(machine.take(length), "little", signed=True))

    return instruction


def _float(machine: _Machine) -> None:
    machine.take(8)
    machine.push(INERT)


def _text(length: struct.Struct) -> _Instruction:
    def instruction(machine: _Machine) -> None:
        try:
            machine.push(str(machine.take(machine.number(length)), "utf-8"))
        except UnicodeDecodeError as error:
            raise machine.corrupt("has text that is no UTF-8") from error

    return instruction


def _python2_text(length: struct.Struct) -> _Instruction:
    """A `str` of Python 2, which is text or bytes."""

    def instruction(machine: _Machine) -> None:
        encoded = machine.take(machine.number(length))
        try:
            machine.push(str(encoded, "utf-8"))
        except UnicodeDecodeError:
            machine.push(INERT)

    return instruction


def _bytes(length: struct.Struct) -> _Instruction:
    def instruction(machine: _Machine) -> None:
        machine.take(machine.number(length))
        machine.push(INERT)

    return instruction


def _mark(machine: _Machine) -> None:
    machine.marks.append(len(machine.stack))


def _tuple(machine: _Machine) -> None:
    machine.push(tuple(machine.pop_to_mark()))


def _tuple_of(length: int) -> _Instruction:
    def instruction(machine: _Machine) -> None:
        values = [machine.pop() for _ in range(length)]
        machine.push(tuple(reversed(values)))

    return instruction


def _put(layout: struct.Struct) -> _Instruction:
    def instruction(machine: _Machine) -> None:
        machine.memo[machine.number(layout)] = machine.top()

    return instruction


def _memoize(machine: _Machine) -> None:
    machine.memo[len(machine.memo)] = machine.top()


def _get(layout: struct.Struct) -> _Instruction:
    def instruction(machine: _Machine) -> None:
        index = machine.number(layout)
        if index not in machine.memo:
            raise machine.corrupt(f"recalls value {index}, which it has not stored,")
        machine.push(machine.memo[index])

    return instruction


def _append(machine: _Machine) -> None:
    _extend(machine, [machine.pop()])


def _appends(machine: _Machine) -> None:
    _extend(machine, machine.pop_to_mark())


def _extend(machine: _Machine, values: list[Any]) -> None:
    target = machine.top()
    if type(target) is list:
        target.extend(values)
    elif type(target) is not Inert:
        raise machine.corrupt("appends to something else than a list")


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    _update(machine, [key, value])


def _set_items(machine: _Machine) -> None:
    _update(machine, machine.pop_to_mark())


def _update(machine: _Machine, values: list[Any]) -> None:
    target = machine.top()
    if len(values) % 2 or not isinstance(target, Pairs | Inert):
        raise machine.corrupt("sets items of something else than a dictionary")
    if isinstance(target, Pairs):
        target.extend(zip(values[::2], values[1::2], strict=True))


def _add_items(machine: _Machine) -> None:
    machine.pop_to_mark()
    if type(machine.top()) is not Inert:
        raise machine.corrupt("adds to something else than a set")


def _frozen_set(machine: _Machine) -> None:
    machine.pop_to_mark()
    machine.push(INERT)


def _global(machine: _Machine) -> None:
    module, name = machine.line(), machine.line()
    machine.push(machine.admit(module, name))


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise machine.corrupt("names a class by something else than text")
    machine.push(machine.admit(module, name))


def _instance(machine: _Machine) -> None:
    """INST, which names a class and calls it at once: nobody has written it since Python 2's protocol 0."""
    raise refusal(shown(f"{machine.line()}.{machine.line()}")[1:-1])


def _call(machine: _Machine) -> None:
    """REDUCE and NEWOBJ: call a function, or a class to make an object of it."""
    arguments, called = machine.pop(), machine.pop()
    if not isinstance(called, Name) or called.make is None or type(arguments) is not tuple:
        what = called.text if isinstance(called, Name) else "something that is neither a class nor a function"
        raise refusal(what)
    made = called.make(arguments)
    if isinstance(made, Pairs):
        machine.steps += len(made)  # a list can be made a dictionary many times
    machine.push(made)


def _call_with_names(machine: _Machine) -> None:
    """NEWOBJ_EX: make an object with named arguments, too."""
    if type(machine.pop()) is not Pairs:
        raise machine.corrupt("names arguments by something else than a dictionary")
    _call(machine)


def _build(machine: _Machine) -> None:
    """BUILD: give an object its attributes, which are dropped unless it is a module of a TorchScript program."""
    state = machine.pop()
    target = machine.top()
    if isinstance(target, ScriptModule) and target.attributes is None:
        target.attributes = state if isinstance(state, Pairs) else Pairs()  # a state of its own is no attributes
    elif not isinstance(target, OrderedPairs | Inert):
        raise machine.corrupt("sets attributes of an object that has none")


def _storage(machine: _Machine) -> None:
    """BINPERSID: something that lies beside the pickle, which for PyTorch is always a storage."""
    identity = machine.pop()
    match identity if type(identity) is tuple else ():
        case ("storage", Name(is_storage=True, dtype=dtype), str(key), str(), count) if is_size(count):
            view = None
        case ("storage", Name(is_storage=True, dtype=dtype), str(key), str(), count, view) if is_size(count):
            pass
        case _:
            raise machine.corrupt("refers to something else than a storage")
    whole = Storage(key, dtype, count)
    if machine.storages.setdefault(key, whole) != whole:
        raise machine.corrupt(f"describes storage {shown(key)} in two ways")
    machine.push(whole if view is None else _view(machine, whole, view))


def _view(machine: _Machine, whole: Storage, view: Any) -> Storage:
    """A part of a storage, which only old files have."""
    match view if type(view) is tuple else ():
        case (str(), first, count) if is_size(first) and is_size(count) and first + count <= whole.count:
            return Storage(whole.key, whole.dtype, count, first * itemsize(whole.dtype))
    raise machine.corrupt(f"takes a part of storage {shown(whole.key)} that it does not have")


_STOP = ord(".")
#: All that a pickle may do, by the byte that asks for it.
INSTRUCTIONS: dict[int, _Instruction] = {
    0x80: _protocol,
    0x95: _frame,
    ord("N"): _pushing(None),
    0x88: _pushing(True),
    0x89: _pushing(False),
    ord("J"): _integer(_INT),
    ord("K"): _integer(_BYTE),
    ord("M"): _integer(_SHORT),
    0x8A: _long(_BYTE),
    0x8B: _long(_UINT),
    ord("G"): _float,
    ord("X"): _text(_UINT),
    0x8C: _text(_BYTE),
    0x8D: _text(_ULONG),
    ord("T"): _python2_text(_UINT),
    ord("U"): _python2_text(_BYTE),
    ord("B"): _bytes(_UINT),
    ord("C"): _bytes(_BYTE),
    0x8E: _bytes(_ULONG),
    0x96: _bytes(_ULONG),  # a bytearray
    ord("("): _mark,
    ord(")"): _pushing(()),
    ord("t"): _tuple,
    0x85: _tuple_of(1),
    0x86: _tuple_of(2),
    0x87: _tuple_of(3),
    ord("]"): _pushing_new(list),
    ord("a"): _append,
    ord("e"): _appends,
    ord("}"): _pushing_new(Pairs),
    ord("s"): _set_item,
    ord("u"): _set_items,
    0x8F: _pushing(INERT),  # an empty set
    0x90: _add_items,
    0x91: _frozen_set,
    ord("q"): _put(_BYTE),
    ord("r"): _put(_UINT),
    0x94: _memoize,
    ord("h"): _get(_BYTE),
    ord("j"): _get(_UINT),
    ord("c"): _global,
    0x93: _stack_global,
    ord("i"): _instance,
    ord("R"): _call,
    0x81: _call,  # NEWOBJ
    0x92: _call_with_names,
    ord("b"): _build,
    ord("Q"): _storage,
}
