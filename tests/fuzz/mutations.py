"""Changes to files: to any bytes, and to parts of formats, so that what a check would refuse at once is left whole.

A mutator takes the bytes of a file and a `Draw`, and returns other bytes. Those of a format take its files apart,
change one part and put them together again, with lengths and checksums that fit; what cannot be taken apart, since it
was changed before, is changed as bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickletools
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgpack

LARGEST = 1_000_000  # bytes of a file; more than the promises are about
LONGEST_LIST = 100_000  # members of a list that is made long
DEEPEST = 1000  # lists in lists that are made
MOST_STEPS = 6  # changes to one file

EXTREMES = (
    0,
    1,
    2,
    7,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
#: Values that a field of a file may have instead of its own.
VALUES: tuple[Any, ...] = (
    *(None, True, False, "", [], {}, [[]], {"": {}}, 0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf")),
    *(0, 1, -1, 3, 2**16, 2**31, -(2**31), 2**53 + 1, 2**63, -(2**63), 2**64, 10**39, 10**400),
    *("\0", "\x1b[31m", "\n", "\u202e", "\ud800", "a" * 300, "9" * 5000, "1", "1e5", "NaN", "true", "[1]", "../x", "/"),
    *("/dev/zero", "https://example.invalid/x", "__class__", "__init__", "self", "a.b", "gelu", "*", "(a+)+$"),
    *([0, 0], [1, -1], [2**31, 2**31], ["a"], {"height": 2**20, "width": 1}, {"shortest_edge": 2**31}, {"0": "a"}),
)


class Draw(random.Random):
    """Random choices, with the files that there are to take parts from.

    Attributes:
        others: other files of the same kind.
        words: texts that mean something in such files.
    """

    others: list[bytes]
    words: list[bytes]

    def part(self, data: bytes, longest: int = 4096) -> bytes:
        """Some bytes of a file."""
        start = self.randrange(len(data) + 1)
        return data[start : start + self.size(longest)]

    def size(self, largest: int) -> int:
        """A number up to the largest, small ones more often."""
        return int(largest ** self.random())

    def one_in(self, count: int) -> bool:
        """Whether what happens so often happens now."""
        return self.randrange(count) == 0


Mutator = Callable[[bytes, Draw], bytes]


# Any bytes


def _flip(data: bytes, draw: Draw, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def _set(data: bytes, draw: Draw, at: int) -> bytes:
    return data[:at] + bytes([draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))]) + data[at + 1 :]


def _truncate(data: bytes, draw: Draw, at: int) -> bytes:
    return data[:at]


def _delete(data: bytes, draw: Draw, at: int) -> bytes:
    return data[:at] + data[at + draw.size(1024) :]


def _insert(data: bytes, draw: Draw, at: int) -> bytes:
    return data[:at] + draw.randbytes(draw.size(64)) + data[at:]


def _duplicate(data: bytes, draw: Draw, at: int) -> bytes:
    piece = data[at : at + draw.size(256)]
    return data[:at] + piece * draw.size(LARGEST // (len(piece) or 1)) + data[at:]


def _move(data: bytes, draw: Draw, at: int) -> bytes:
    piece = draw.part(data, 64)
    return data[:at] + piece + data[at + len(piece) :]


def _splice(data: bytes, draw: Draw, at: int) -> bytes:
    other = draw.choice(draw.others)
    return data[:at] + other[draw.randrange(len(other) + 1) :]


def _borrow(data: bytes, draw: Draw, at: int) -> bytes:
    return data[:at] + draw.part(draw.choice(draw.others)) + data[at:]


def _word(data: bytes, draw: Draw, at: int) -> bytes:
    return data[:at] + draw.choice(draw.words or [b"\0"]) + data[at + draw.choice((0, draw.size(16))) :]


def _integer(data: bytes, draw: Draw, at: int) -> bytes:
    """A number in binary, extreme or near to what it was."""
    width, order = draw.choice((1, 2, 4, 8)), draw.choice(("little", "big"))
    at -= at % draw.choice((1, width))
    old = int.from_bytes(data[at : at + width], order)  # type: ignore[arg-type]
    near = (old + draw.choice((-1, 1, -8, 8, 64)), 2 * old, len(data), len(data) - at, at)
    new = draw.choice((*EXTREMES, *near)) % 2 ** (8 * width)
    return data[:at] + new.to_bytes(width, order) + data[at + width :]  # type: ignore[arg-type]


def _digits(data: bytes, draw: Draw, at: int) -> bytes:
    """A number in text."""
    found = list(re.finditer(rb"[0-9]+", data[at : at + 4096]))
    if not found:
        return data
    chosen = draw.choice(found)
    new = str(draw.choice((*EXTREMES, int(chosen[0][:18]) + 1, 10**40, 10**4000 if draw.one_in(8) else 3))).encode()
    return data[: at + chosen.start()] + (b"-" if draw.one_in(6) else b"") + new + data[at + chosen.end() :]


_OF_BYTES = (_flip, _set, _truncate, _delete, _insert, _duplicate, _move, _splice, _borrow, _word, _integer, _digits)
_USUAL = (_flip, _set, _integer, _integer, _integer, _digits, _word, _move)  # of which a format survives more


def of_bytes(data: bytes, draw: Draw) -> bytes:
    """Change any bytes."""
    for _ in range(1 + draw.size(MOST_STEPS)):
        if not data:
            return draw.choice(draw.others)
        change = draw.choice(_USUAL if draw.random() < 0.6 else _OF_BYTES)
        # What a format says of itself is in front, or behind.
        span = len(data) if draw.one_in(2) else min(len(data), 512)
        at = draw.randrange(span)
        data = change(data, draw, len(data) - 1 - at if draw.one_in(4) else at)[: 2 * LARGEST]
    return data


# Trees of dictionaries and lists, as JSON and msgpack have them


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a tree."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting and len(found) < 20_000:
        each = waiting.pop()
        members = each.items() if isinstance(each, dict) else enumerate(each) if isinstance(each, list) else ()
        for key, value in members:
            found.append((each, key))
            waiting.append(value)
    return found


def _deep(value: Any, draw: Draw) -> Any:
    for _ in range(draw.size(DEEPEST)):
        value = [value] if draw.one_in(2) else {"a": value}
    return value


def _near(value: Any, draw: Draw) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return draw.choice(VALUES)
    changes: tuple[Callable[[Any], Any], ...] = (
        lambda x: x + 1,
        lambda x: -x,
        lambda x: x * 1000,
        str,
        float,
        lambda x: [x, x],
    )
    with contextlib.suppress(OverflowError):
        return draw.choice(changes)(value)
    return value


def change_tree(tree: Any, draw: Draw, others: Iterable[Any] = ()) -> Any:
    """Change one to several places in a tree, in place, and return it.

    Args:
        tree: of dictionaries, lists and values.
        draw: the choices.
        others: other trees to take values and names from.
    """
    for _ in range(1 + draw.size(MOST_STEPS)):
        places = _places(tree)
        if not places:
            return draw.choice(VALUES)
        where, key = draw.choice(places)
        value = where[key]
        foreign = [each for each in (_places(draw.choice([*others])) if others else ()) if isinstance(each[0], dict)]
        match draw.randrange(10):
            case 0:
                del where[key]
            case 1 | 2 | 3:
                where[key] = draw.choice(VALUES)
            case 4:
                where[key] = _near(value, draw)
            case 5:
                there, other = draw.choice(places)
                where[key] = there[other] if not isinstance(there[other], dict | list) else draw.choice(VALUES)
            case 6:
                where[key] = _deep(value, draw)
            case 7 if isinstance(value, list) and value:
                longest = 100 if any(isinstance(each, dict | list) for each in value) else LONGEST_LIST
                where[key] = value * (1 + draw.size(longest) // len(value))
            case 8 if isinstance(where, dict):
                where[str(draw.choice([each for each in VALUES if isinstance(each, str | int)]))] = where.pop(key)
            case _ if foreign and isinstance(where, dict):
                there, other = draw.choice(foreign)
                where[other] = there[other]
    return tree


def _json_or_none(text: bytes) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    return None


def _as_json(tree: Any, draw: Draw) -> bytes:
    try:
        text = json.dumps(tree, ensure_ascii=not draw.one_in(4), separators=(",", ":") if draw.one_in(2) else None)
    except (ValueError, RecursionError):
        return b"[" * 100_000
    return text.encode("utf-8", "surrogatepass")


def of_json(data: bytes, draw: Draw) -> bytes:
    """Change values and names in JSON, or its text."""
    tree = _json_or_none(data)
    if tree is None or draw.one_in(5):
        return of_bytes(data, draw)
    others = [other for text in draw.sample(draw.others, min(2, len(draw.others))) if (other := _json_or_none(text))]
    text = _as_json(change_tree(tree, draw, others), draw)
    if draw.one_in(10):  # a name twice
        text = text.replace(b"{", b"{" + text[1:-1] + b",", 1)
    return of_bytes(text, draw) if draw.one_in(10) else text


def of_safetensors(data: bytes, draw: Draw) -> bytes:
    """Change the JSON header of a safetensors file, whose length then fits."""
    (length,) = struct.unpack("<Q", data[:8].ljust(8, b"\0"))
    header, tensors = data[8 : 8 + length], data[8 + length :]
    if not header or draw.one_in(4):
        return of_bytes(data, draw)
    other = draw.choice(draw.others)
    inner = _with_others(draw, [other[8 : 8 + struct.unpack("<Q", other[:8].ljust(8, b"\0"))[0]]])
    header = of_json(header, inner)
    return struct.pack("<Q", len(header)) + header + tensors


def of_msgpack(data: bytes, draw: Draw) -> bytes:
    """Change values and names in a msgpack file, or in the arrays that are its extensions."""
    if draw.one_in(3):
        return of_bytes(data, draw)
    try:
        tree = msgpack.unpackb(data, strict_map_key=False, ext_hook=_extension_tree, use_list=True)
        changed = change_tree(tree, draw)
        return msgpack.packb(_with_extensions(changed), use_bin_type=True, unicode_errors="surrogatepass")
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException):
        return of_bytes(data, draw)


_EXTENSION = "an extension"


def _extension_tree(code: int, content: bytes) -> Any:
    """An extension as a tree, where it holds one."""
    try:
        return {_EXTENSION: code, "content": msgpack.unpackb(content, strict_map_key=False)}
    except (ValueError, msgpack.UnpackException):
        return msgpack.ExtType(code, content)


def _with_extensions(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_with_extensions(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    members = {key: _with_extensions(value) for key, value in tree.items()}
    if isinstance(code := members.get(_EXTENSION), int) and not isinstance(code, bool) and 0 <= code < 128:
        return msgpack.ExtType(code, msgpack.packb(members.get("content"), use_bin_type=True))
    return members


def _with_others(draw: Draw, others: list[bytes]) -> Draw:
    """The same choices, with parts from other files."""
    inner = Draw(draw.getrandbits(64))
    inner.others, inner.words = [each for each in others if each] or [b"\0"], draw.words
    return inner


# Pickles


def _instructions(data: bytes) -> tuple[list[bytes], bytes]:
    """The instructions of the pickles at the start of a file, and what follows them."""
    found: list[bytes] = []
    position = 0
    while data[position : position + 1] == b"\x80":
        ends = []
        try:
            for _, _, at in pickletools.genops(io.BytesIO(data[position:])):
                ends.append(position + at)
        except ValueError:
            break
        stop = data.index(b".", ends[-1]) + 1
        found += [data[start:end] for start, end in zip(ends, [*ends[1:], stop], strict=True)]
        position = stop
    return found, data[position:]


def of_pickles(data: bytes, draw: Draw) -> bytes:
    """Change instructions of pickles, and repeat some so often that what they make could grow without end."""
    instructions, rest = _instructions(data)
    if not instructions or draw.one_in(4):
        return of_bytes(data, draw)
    others, _ = _instructions(draw.choice(draw.others))
    for _ in range(1 + draw.size(MOST_STEPS)):
        at = draw.randrange(len(instructions) or 1)
        some = instructions[at : at + draw.size(12)]
        match draw.randrange(8):
            case 0:
                del instructions[at : at + len(some)]
            case 1:
                instructions[at:at] = some * draw.size(LARGEST // (1 + sum(map(len, some))))
            case 2 if others:
                start = draw.randrange(len(others))
                instructions[at:at] = others[start : start + draw.size(12)]
            case 3:
                there = draw.randrange(len(instructions) or 1)
                instructions[there:there] = some
            case 4:  # each list holds the one before several times
                grown = b"]q\xfe" + b"]q\xff(" + b"h\xfe" * draw.size(100) + b"eh\xffq\xfe0"
                instructions[at:at] = [grown * draw.size(2000)]
            case 5:
                instructions.insert(
                    at, draw.choice((b"(", b"t", b"\x85", b"]", b"}", b"R", b"b", b"Q", b"h\0", b"0", b"s", b"a"))
                )
            case _:
                instructions[at : at + 1] = [of_bytes(b"".join(instructions[at : at + 1]) or b"N", draw)]
    return b"".join(instructions) + rest


# Archives


def of_zip(inside: Mapping[str, Mutator]) -> Mutator:
    """A mutator of zip archives.

    Args:
        inside: {end of an entry's name: what changes its content}; others are changed as bytes.
    """

    def mutate(data: bytes, draw: Draw) -> bytes:
        entries = _entries(data)
        if not entries or draw.one_in(4):
            return of_bytes(data, draw)
        others = [entry for other in draw.sample(draw.others, min(2, len(draw.others))) for entry in _entries(other)]
        for _ in range(1 + draw.size(3)):
            at = draw.randrange(len(entries))
            name, content = entries[at]
            match draw.randrange(9):
                case 0:
                    del entries[at]
                case 1:
                    entries.append((name, content))
                case 2:
                    entries[at] = (
                        draw.choice((draw.choice(entries)[0], name + "/", f"{name}{chr(draw.randrange(1, 0x300))}")),
                        content,
                    )
                case 3 if others:
                    entries.append(draw.choice(others))
                case 4:
                    entries[at] = (name, bytes(draw.size(60_000_000)) if draw.one_in(4) else content * draw.size(50))
                case _:
                    change = next((each for end, each in inside.items() if name.endswith(end)), of_bytes)
                    same = [each for there, each in others if there.rpartition("/")[2] == name.rpartition("/")[2]]
                    entries[at] = (name, change(content, _with_others(draw, [content, *same])))
            if not entries:
                break
        method = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
        packed = _packed(entries, method)
        return of_bytes(packed, draw) if draw.one_in(8) else packed

    return mutate


def _entries(data: bytes) -> list[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(each.file_size for each in archive.infolist()) > 10 * LARGEST:
                return []
            return [(each.filename, archive.read(each)) for each in archive.infolist()]
    except Exception:  # whatever the library makes of a changed one
        return []


def _packed(entries: Iterable[tuple[str, bytes]], method: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            described = zipfile.ZipInfo(name)
            large = len(content) > LARGEST  # which nothing but a bomb is
            with contextlib.suppress(ValueError, UserWarning):
                archive.writestr(described, content, zipfile.ZIP_DEFLATED if large else method)
    return packed.getvalue()


# HDF5 and PNG


def of_hdf5(data: bytes, draw: Draw) -> bytes:
    """Change addresses and sizes, which are words of eight bytes, where they are few; or bytes."""
    if len(data) < 64 or draw.one_in(3):
        return of_bytes(data, draw)
    changed = bytearray(data)
    words = [at for at in range(0, len(data) - 8, 8) if any(data[at : at + 8])] or [0]
    for _ in range(1 + draw.size(MOST_STEPS)):
        at = draw.choice(words)
        (old,) = struct.unpack_from("<Q", changed, at)
        same = struct.unpack_from("<Q", changed, draw.choice(words))[0]
        new = draw.choice(
            (same, at, old + 8, old - 8, 2 * old, 0, 2**64 - 1, len(data), draw.choice(EXTREMES), draw.choice(words))
        )
        changed[at : at + 8] = struct.pack("<Q", new % 2**64)
    return bytes(changed)


def of_png(data: bytes, draw: Draw) -> bytes:
    """Change chunks of a PNG, whose lengths and checksums then fit; other images as bytes."""
    chunks = _chunks(data)
    if not chunks or draw.one_in(4):
        return of_bytes(data, draw)
    for _ in range(1 + draw.size(3)):
        at = draw.randrange(len(chunks))
        kind, content = chunks[at]
        match draw.randrange(5):
            case 0:
                chunks[at:at] = [(kind, content)] * draw.size(1000)
            case 1:
                chunks.insert(
                    draw.randrange(len(chunks)),
                    (draw.choice(_CHUNKS), draw.choice((content, zlib.compress(bytes(draw.size(50_000_000)))))),
                )
            case 2 if kind == b"IDAT":
                with contextlib.suppress(zlib.error):
                    chunks[at] = (kind, zlib.compress(of_bytes(zlib.decompress(content), draw)))
            case _:
                chunks[at] = (kind, of_bytes(content or b"\0", draw))
    packed = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return _PNG + packed


_PNG = b"\x89PNG\r\n\x1a\n"
_CHUNKS = (
    b"IHDR",
    b"IDAT",
    b"IEND",
    b"PLTE",
    b"tRNS",
    b"zTXt",
    b"iTXt",
    b"tEXt",
    b"iCCP",
    b"acTL",
    b"fcTL",
    b"fdAT",
    b"eXIf",
    b"gAMA",
)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, position = [], 8
    if not data.startswith(_PNG):
        return []
    while position + 8 <= len(data) and len(chunks) < 5000:
        (length,) = struct.unpack_from(">I", data, position)
        chunks.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    return chunks


def of_any(data: bytes, draw: Draw) -> bytes:
    """Change a file as what its first bytes say that it is."""
    kinds = ((b"PK", _OF_ARCHIVE), (b"\x89HDF", of_hdf5), (b"\x80\x02", of_pickles), (_PNG, of_png))
    if data[6:9] == b"\0\0{":
        return of_safetensors(data, draw)
    return next((change for start, change in kinds if data.startswith(start)), of_msgpack)(data, draw)


_OF_ARCHIVE = of_zip({".pkl": of_pickles, ".json": of_json, ".h5": of_hdf5})
