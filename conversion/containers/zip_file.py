"""Zip archives of weights: a directory that is checked before anything in it is believed, and a streaming writer.

The standard library's `zipfile` takes a directory of any size into memory, the last of two entries of one name, and
archives whose records disagree; it says of no entry where its bytes are, and copies them.
Weights are mapped here where they are stored uncompressed. Tests hold reading and writing to `zipfile`. Format: .ZIP
File Format Specification 6.3.10 (PKWARE's APPNOTE.TXT), with its zip64 extension.
"""

from __future__ import annotations

import itertools
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

import numpy as np

from vit_core.array_bytes import STEP, contiguous
from vit_core.checks import shown
from vit_core.file_bytes import file_bytes

STORED, DEFLATED = 0, 8
LARGEST_COUNT = 100_000  # entries; a ViT-H with its optimizer has some thousand
LARGEST_DIRECTORY = 2**25  # bytes
LARGEST_COMMENT = 0xFFFF
#: Deflate makes at most 1032 bytes of one: of zeros. A head that starts as zeros shrinks that far, but it lies among
#: weights whose mantissas do not shrink, and random weights of which 99 in 100 are zero keep a twelfth of their size.
#: So real weights stay far below a hundred times their file; below `HARMLESS_SIZE` bytes nothing is refused for it.
DEFLATE_EXPANSION, LARGEST_EXPANSION, HARMLESS_SIZE = 1032, 100, 2**26
#: Sizes and offsets, and counts, from here on are written in zip64's wider fields.
ZIP64_FROM, ZIP64_COUNT = 0xFFFFFFFF, 0xFFFF

_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")  # in the directory, at the end of the file
_LOCAL = struct.Struct("<4sHHHHHIIIHH")  # before the data
_END = struct.Struct("<4sHHHHIIH")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR64 = struct.Struct("<4sIQI")
_ENTRY_SIGN, _LOCAL_SIGN, _END_SIGN = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"
_END64_SIGN, _LOCATOR64_SIGN = b"PK\x06\x06", b"PK\x06\x07"
_FULL = 0xFFFFFFFF  # in a field whose value is in zip64's wider one
_UNREADABLE = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 13  # flags: encrypted, a patch, strongly encrypted, masked
_UTF8 = 1 << 11
_ZIP64_EXTRA = 1
_PADDING_EXTRA = 0x4246  # "FB", with which PyTorch pads, too
_LOCAL_CHECKSUM = 14  # where it is in a local header
_MIDNIGHT, _FIRST_DAY = 0, 1 << 5 | 1  # 1 January 1980: every file written has the same time
_VERSION, _VERSION64 = 20, 45  # of the specification
_UNIX, _PERMISSIONS = 3 << 8, 0o644 << 16  # what is unpacked can be read


@dataclass(frozen=True)
class ZipEntry:
    """A file in an archive, read when asked for.

    Attributes:
        name: its name; never to be used as a path.
        size: its size in bytes.
        is_stored: whether it is there as it is; otherwise it is deflated.
    """

    name: str
    size: int
    is_stored: bool
    _data: np.ndarray
    _checksum: int
    _where: str

    def mapped(self) -> np.ndarray:
        """Its bytes as they are in the file: uint8 of shape `(size,)`, a view that is not compared with its checksum.

        Raises:
            ValueError: it is compressed.
        """
        if not self.is_stored:
            raise ValueError(f"{self._where} is compressed and cannot be mapped; store it uncompressed.")
        return self._data

    def read(self) -> np.ndarray:
        """Its bytes, uint8 of shape `(size,)`: mapped if it is stored, else decompressed and held to its checksum.

        Raises:
            ValueError: what is compressed is corrupt or has not the size that the directory says.
        """
        if self.is_stored:
            return self._data
        content = np.empty(self.size, np.uint8)
        position = checksum = 0
        for piece in self._inflated(STEP):
            if position + len(piece) > self.size:
                raise self._corrupt(f"holds more than the {self.size} bytes that it should")
            content[position : position + len(piece)] = np.frombuffer(piece, np.uint8)
            position += len(piece)
            checksum = zlib.crc32(piece, checksum)
        if position != self.size:
            raise self._corrupt(f"holds {position} bytes and not the {self.size} that it should")
        self._require_checksum(checksum)
        return content

    def require_intact(self) -> None:
        """Raise ValueError if it is stored and its bytes have not its checksum; `read` looks at that of others."""
        if self.is_stored:
            checksum = 0
            for start in range(0, self.size, STEP):
                checksum = zlib.crc32(self._data[start : start + STEP].data, checksum)
            self._require_checksum(checksum)

    def head(self, count: int) -> bytes:
        """Its first bytes, at most `count`.

        Raises:
            ValueError: what is compressed is corrupt.
        """
        if self.is_stored:
            return self._data[:count].tobytes()
        return next(self._inflated(count), b"")

    def _inflated(self, step: int) -> Iterator[bytes]:
        """The decompressed bytes, in pieces of at most `step`."""
        engine = zlib.decompressobj(-zlib.MAX_WBITS)  # without zlib's own header
        try:
            for start in range(0, len(self._data), STEP):
                packed = self._data[start : start + STEP].tobytes()
                while packed and not engine.eof:
                    if piece := engine.decompress(packed, step):
                        yield piece
                    packed = engine.unconsumed_tail
                if engine.eof and (engine.unused_data or start + STEP < len(self._data)):
                    raise self._corrupt("ends before its last byte")
            while piece := engine.decompress(b"", step):  # what a full piece left behind
                yield piece
        except zlib.error as error:
            raise self._corrupt(f"cannot be decompressed ({error})") from error
        if not engine.eof:
            raise self._corrupt("has no end")

    def _require_checksum(self, checksum: int) -> None:
        if checksum != self._checksum:
            raise self._corrupt(f"has the checksum {checksum:08x} and not {self._checksum:08x}")

    def _corrupt(self, reason: str) -> ValueError:
        return ValueError(f"{self._where} {reason}; it is corrupt, get the file again.")


def open_zip(path: Path, what: str, mmap: bool = True) -> dict[str, ZipEntry]:
    """Open an archive without reading what is in it.

    Every entry lies inside the file, apart from all others, and is stored or deflated; together they claim no size out
    of proportion to the file.

    Args:
        path: the file.
        what: what it should be, for messages, such as "npz file".
        mmap: whether its bytes are mapped rather than read; see `vit_core.file_bytes`. What is read is held to its
            checksums.

    Returns:
        Its entries by name, in the order of its directory, without folders.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is truncated, corrupt, hostile or no archive; the message says what is wrong.
    """
    with open(path, "rb") as file:  # once: the path may hold another file a moment later
        try:
            directory = _find_directory(file)
            records = _read_records(file, directory)
            _check_names(records)
            _check_sizes(records, os.fstat(file.fileno()).st_size)
            spans = _find_data(file, records, directory.offset)
        except ValueError as error:
            raise ValueError(f"{path} is no {what} that can be read here: {error}.") from error
        data = file_bytes(file, mmap=mmap)
    entries = {
        record.name: ZipEntry(
            name=record.name,
            size=record.size,
            is_stored=record.method == STORED,
            _data=data[start:end],
            _checksum=record.checksum,
            _where=f"{shown(record.name)} in {path}",
        )
        for record, (start, end) in zip(records, spans, strict=True)
        if not record.name.endswith("/")
    }
    if not mmap:  # so all of it was read anyway
        for entry in entries.values():
            entry.require_intact()
    return entries


class ZipWriter:
    """Writes an archive of uncompressed entries in one pass, each aligned to be mapped; the same bytes every time.

    Use it in a `with` block: leaving that without an error writes the directory and flushes the file to disk.

    Args:
        path: the file to create.
        alignment: a power of two that the offset of every entry's data is a multiple of.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, alignment: int = 64) -> None:
        self._file = open(path, "wb")  # noqa: SIM115 - `__exit__` closes it
        self._alignment = alignment
        self._records: dict[bytes, _Record] = {}

    def write(self, name: str, *pieces: bytes | np.ndarray) -> None:
        """Add an entry.

        Args:
            name: its name.
            pieces: its content, one after the other; arrays are written row by row, however they lie in memory.

        Raises:
            OSError: it cannot be written.
            ValueError: the archive has that name already or cannot spell it.
        """
        contents = [_as_bytes(piece) for piece in pieces]
        self.stream(name, sum(map(len, contents)), contents)

    def stream(self, name: str, size: int, pieces: Iterable[bytes | np.ndarray]) -> None:
        """Add an entry whose pieces are not in memory together.

        Args:
            name: its name.
            size: the bytes of all pieces.
            pieces: see `write`.

        Raises:
            OSError: it cannot be written, or has another size.
            ValueError: the archive has that name already or cannot spell it.
        """
        spelled = name.encode()
        if len(spelled) > 0xFFFF or spelled in self._records:
            raise ValueError(f"an archive cannot hold {shown(name)}, which is too long or there already; rename it.")
        record = _Record(name, spelled, STORED, 0, size, size, self._file.tell())
        self._file.write(_local_header(record, self._alignment))
        checksum = 0
        start = self._file.tell()
        for content in map(_as_bytes, pieces):
            for at in range(0, len(content), STEP):  # steps that stay in the processor's cache for both uses
                step = content[at : at + STEP].data
                checksum = zlib.crc32(step, checksum)
                self._file.write(step)
        end = self._file.tell()
        if end - start != size:
            raise OSError(
                f"{self._file.name} gets {end - start} bytes of {shown(name)} and not {size}; write it again."
            )
        self._file.seek(record.offset + _LOCAL_CHECKSUM)
        self._file.write(struct.pack("<I", checksum))
        self._file.seek(end)
        self._records[spelled] = record._replace(checksum=checksum)

    def __enter__(self) -> ZipWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._file as file:
            if kind is None:
                start = file.tell()
                for record in self._records.values():
                    file.write(_directory_entry(record))
                file.write(_end_of_directory(len(self._records), start, file.tell()))
                file.flush()
                os.fsync(file.fileno())


class _Directory(NamedTuple):
    entries: int
    size: int
    offset: int


class _Record(NamedTuple):
    """What the directory says of an entry."""

    name: str
    spelled: bytes  # the name in the file
    method: int
    checksum: int
    packed: int  # bytes in the file
    size: int  # bytes when decompressed
    offset: int  # of its local header


def _find_directory(file: BinaryIO) -> _Directory:
    """Where the directory is, by the record at the end of the file; the directory must end where that record starts."""
    length = os.fstat(file.fileno()).st_size
    tail_start = max(0, length - _END.size - LARGEST_COMMENT)
    file.seek(tail_start)
    tail = file.read(length - tail_start)
    at = len(tail)
    while (at := tail.rfind(_END_SIGN, 0, at)) >= 0:
        if at + _END.size <= len(tail):
            _, disk, first_disk, here, count, size, offset, comment = _END.unpack_from(tail, at)
            if at + _END.size + comment == len(tail):
                break
    else:
        raise ValueError("it has no directory at its end, so it is truncated or no zip archive; get it again")
    end = tail_start + at
    if wide := _find_wide_end(file, end):
        disk, first_disk, here, count, size, offset, end = wide
    if disk or first_disk or here != count:
        raise ValueError("it is one part of a divided archive; join the parts")
    if offset + size != end:
        raise ValueError(
            f"its directory of {size} bytes at {offset} does not end at {end}, where it should; it is truncated or "
            f"corrupt, get it again"
        )
    if count > LARGEST_COUNT or size > LARGEST_DIRECTORY:
        raise ValueError(
            f"its directory claims {count} entries in {size} bytes; at most {LARGEST_COUNT} in {LARGEST_DIRECTORY} are "
            f"accepted"
        )
    if count * _ENTRY.size > size:
        raise ValueError(f"its directory claims {count} entries in {size} bytes; it is corrupt, get it again")
    return _Directory(count, size, offset)


def _find_wide_end(file: BinaryIO, end: int) -> tuple[int, ...] | None:
    """The fields of zip64's record, and where it is; None if the archive has none.

    Args:
        file: the archive.
        end: where its other, older record is.
    """
    locator_start = end - _LOCATOR64.size
    if locator_start < 0:
        return None
    file.seek(locator_start)
    sign, _, at, _ = _LOCATOR64.unpack(file.read(_LOCATOR64.size))
    if sign != _LOCATOR64_SIGN:
        return None
    if at + _END64.size > locator_start:
        raise ValueError(f"its zip64 record would be at {at}, where it cannot be; it is corrupt, get it again")
    file.seek(at)
    sign, following, _, _, *fields = _END64.unpack(file.read(_END64.size))
    if sign != _END64_SIGN or at + 12 + following != locator_start:  # what follows that field
        raise ValueError(f"its zip64 record at {at} is damaged; get it again")
    return (*fields, at)


def _read_records(file: BinaryIO, directory: _Directory) -> list[_Record]:
    file.seek(directory.offset)
    text = file.read(directory.size)
    records = []
    position = 0
    for _ in range(directory.entries):
        record, position = _parse_entry(text, position)
        records.append(record)
    if position != len(text):
        raise ValueError(f"its directory has {len(text) - position} bytes behind its last entry; get it again")
    return records


def _parse_entry(text: bytes, position: int) -> tuple[_Record, int]:
    """An entry of the directory, and where the next one starts."""
    name_start = position + _ENTRY.size
    if name_start > len(text) or text[position : position + 4] != _ENTRY_SIGN:
        raise ValueError(f"its directory is damaged at its byte {position}; get it again")
    _, _, _, flags, method, _, _, checksum, packed, size, *lengths, _, _, _, offset = _ENTRY.unpack_from(text, position)
    _, extra_start, comment_start, end = itertools.accumulate(lengths, initial=name_start)
    if end > len(text):
        raise ValueError(f"its directory is damaged at its byte {position}; get it again")
    spelled = text[name_start:extra_start]
    try:
        name = spelled.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise ValueError(f"it holds the name {shown(spelled)}, which is no UTF-8; get it again") from error
    if flags & _UNREADABLE:
        raise ValueError(f"{shown(name)} in it is encrypted; pack it again without a password")
    if method not in (STORED, DEFLATED):
        raise ValueError(f"{shown(name)} in it is compressed by method {method}; pack it again, stored or deflated")
    size, packed, offset = _wide_sizes(name, (size, packed, offset), text[extra_start:comment_start])
    return _Record(name, spelled, method, checksum, packed, size, offset), end


def _wide_sizes(name: str, narrow: tuple[int, int, int], extra: bytes) -> list[int]:
    """Size, packed size and offset, each from zip64's extra field if it did not fit in its own."""
    if _FULL not in narrow:
        return list(narrow)
    start = 0
    while start + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, start)
        field = extra[start + 4 : start + 4 + length]
        if kind == _ZIP64_EXTRA and len(field) >= 8 * narrow.count(_FULL):
            wide = iter(struct.unpack_from(f"<{len(field) // 8}Q", field))
            return [next(wide) if value == _FULL else value for value in narrow]
        start += 4 + length
    raise ValueError(f"{shown(name)} in it lacks its zip64 sizes; it is corrupt, get it again")


def _check_names(records: list[_Record]) -> None:
    names = sorted(record.name for record in records)
    for name, following in itertools.pairwise(names):
        if name == following:
            raise ValueError(f"it holds {shown(name)} twice, and nothing says which one counts; get it again")


def _check_sizes(records: list[_Record], length: int) -> None:
    """Check that what the entries claim to hold can be in a file of that length."""
    for record in records:
        largest = record.packed if record.method == STORED else DEFLATE_EXPANSION * record.packed
        if record.size > largest or (record.method == STORED and record.size < largest):
            raise ValueError(
                f"{shown(record.name)} in it claims {record.size} bytes, but takes {record.packed} in the file, which "
                f"cannot be; it is corrupt"
            )
    claimed = sum(record.size for record in records)
    if claimed > max(HARMLESS_SIZE, LARGEST_EXPANSION * length):
        raise ValueError(
            f"it has {length} bytes and claims to hold {claimed}, more than {LARGEST_EXPANSION} times as many, as no "
            f"weights do; if they are yours, store them uncompressed"
        )


def _find_data(file: BinaryIO, records: list[_Record], limit: int) -> list[tuple[int, int]]:
    """Where the data of each entry starts and ends; no two entries share a byte, and none lies behind `limit`."""
    spans = [_span(file, record, limit) for record in records]
    position = 0
    for record, (_, end) in sorted(zip(records, spans, strict=True), key=lambda item: item[0].offset):
        if record.offset < position:
            raise ValueError(f"{shown(record.name)} in it shares bytes with another entry; it is made to deceive")
        position = end
    return spans


def _span(file: BinaryIO, record: _Record, limit: int) -> tuple[int, int]:
    if record.offset + _LOCAL.size > limit:
        raise ValueError(f"{shown(record.name)} in it would be at {record.offset}, outside of the file; get it again")
    file.seek(record.offset)
    sign, _, flags, method, *_, name_length, extra_length = _LOCAL.unpack(file.read(_LOCAL.size))
    same = sign == _LOCAL_SIGN and method == record.method and not flags & _UNREADABLE
    if not same or file.read(name_length) != record.spelled:
        raise ValueError(f"{shown(record.name)} in it is not at {record.offset}, where it should be; get it again")
    start = record.offset + _LOCAL.size + name_length + extra_length
    if start + record.packed > limit:
        raise ValueError(f"{shown(record.name)} in it would end outside of the file; it is corrupt, get it again")
    return start, start + record.packed


def _as_bytes(piece: bytes | np.ndarray) -> np.ndarray:
    if isinstance(piece, bytes):
        return np.frombuffer(piece, np.uint8)
    return contiguous(piece).reshape(-1).view(np.uint8)


def _local_header(record: _Record, alignment: int) -> bytes:
    """What stands before an entry's data, padded so that the data is aligned."""
    narrow, wide = _narrow_and_wide(record.size, record.packed)
    start = record.offset + _LOCAL.size + len(record.spelled) + len(wide)
    if start % alignment:
        padding = -(start + 4) % alignment
        wide += struct.pack("<HH", _PADDING_EXTRA, padding) + bytes(padding)
    fields = (_version(wide), _flags(record), STORED, _MIDNIGHT, _FIRST_DAY, 0, narrow[1], narrow[0])
    return _LOCAL.pack(_LOCAL_SIGN, *fields, len(record.spelled), len(wide)) + record.spelled + wide


def _directory_entry(record: _Record) -> bytes:
    (size, packed, offset), wide = _narrow_and_wide(record.size, record.packed, record.offset)
    version = _version(wide)
    fields = (_UNIX | version, version, _flags(record), STORED, _MIDNIGHT, _FIRST_DAY, record.checksum, packed, size)
    lengths = (len(record.spelled), len(wide), 0)
    return _ENTRY.pack(_ENTRY_SIGN, *fields, *lengths, 0, 0, _PERMISSIONS, offset) + record.spelled + wide


def _end_of_directory(count: int, start: int, end: int) -> bytes:
    size = end - start
    if count < ZIP64_COUNT and max(start, size) < ZIP64_FROM:
        return _END.pack(_END_SIGN, 0, 0, count, count, size, start, 0)
    following = _END64.size - 12  # without itself and the sign
    wide = _END64.pack(_END64_SIGN, following, _VERSION64, _VERSION64, 0, 0, count, count, size, start)
    wide += _LOCATOR64.pack(_LOCATOR64_SIGN, 0, end, 1)
    return wide + _END.pack(_END_SIGN, 0, 0, 0xFFFF, 0xFFFF, _FULL, _FULL, 0)


def _narrow_and_wide(*values: int) -> tuple[list[int], bytes]:
    """Values for fields of 32 bits, and zip64's extra field with those that do not fit in them."""
    wide = [value for value in values if value >= ZIP64_FROM]
    extra = struct.pack(f"<HH{len(wide)}Q", _ZIP64_EXTRA, 8 * len(wide), *wide) if wide else b""
    return [_FULL if value >= ZIP64_FROM else value for value in values], extra


def _version(wide: bytes) -> int:
    return _VERSION64 if wide[:2] == struct.pack("<H", _ZIP64_EXTRA) else _VERSION


def _flags(record: _Record) -> int:
    return 0 if record.name.isascii() else _UTF8
