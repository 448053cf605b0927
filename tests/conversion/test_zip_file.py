import io
import os
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversion.containers import zip_file
from conversion.containers.zip_file import ZipWriter, open_zip

SLOW_OR_SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
property_test = settings(max_examples=60, suppress_health_check=SLOW_OR_SHARED)
names = st.text(min_size=1, max_size=12).filter(lambda name: not name.endswith("/") and "\0" not in name)
contents = st.binary(max_size=300) | st.integers(0, 5000).map(bytes)

ENTRY, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


def archive(files, compression=zipfile.ZIP_STORED, comment=b""):
    """The bytes of an archive that Python writes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.comment = comment
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def changed(whole, sign, offset, value, number=0):
    """An archive with a field changed: `value` at `offset` in the record that starts with the sign, the number-th."""
    start = -1
    for _ in range(number + 1):
        start = whole.index(sign, start + 1)
    return whole[: start + offset] + value + whole[start + offset + len(value) :]


def refusal(path, content=None):
    """What is said of a file that is refused when it is opened: one sentence that names it."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="is no npz file that can be read here") as caught:
        open_zip(path, "npz file")
    return sentence(caught, path)


def late_refusal(path, name, content=None):
    """What is said of an entry that is refused when it is read."""
    if content is not None:
        path.write_bytes(content)
    entry = open_zip(path, "npz file")[name]
    with pytest.raises(ValueError, match="get the file again") as caught:
        entry.read()
    return sentence(caught, path)


def sentence(caught, path):
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 500
    return message


# Reading


@property_test
@given(
    files=st.dictionaries(names, contents, max_size=6), method=st.sampled_from([0, 8]), comment=st.binary(max_size=9)
)
def test_an_archive_is_read_as_python_reads_it(tmp_path, files, method, comment):
    (tmp_path / "file").write_bytes(archive(files, method, comment))
    entries = open_zip(tmp_path / "file", "npz file")
    assert list(entries) == list(files)
    for name, entry in entries.items():
        assert (entry.name, entry.size, entry.is_stored) == (name, len(files[name]), method == 0)
        assert entry.read().dtype == np.uint8
        assert entry.read().tobytes() == files[name]
        assert entry.head(7) == files[name][:7]


def test_archive_with_sizes_behind_the_data_is_read(tmp_path):
    class Pipe(io.RawIOBase):  # where nothing can be written later to an earlier place
        def __init__(self):
            self.written = b""

        def writable(self):
            return True

        def write(self, data):
            self.written += bytes(data)
            return len(data)

    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        pipe = Pipe()
        with zipfile.ZipFile(pipe, "w", method) as file:
            file.writestr("a", b"abc")
            file.writestr("b", bytes(1000))
        (tmp_path / "file").write_bytes(pipe.written)
        assert struct.unpack_from("<H", pipe.written, 6)[0] & 8  # what such an archive says of itself
        entries = open_zip(tmp_path / "file", "npz file")
        assert [entry.read().tobytes() for entry in entries.values()] == [b"abc", bytes(1000)]


def test_wide_sizes_of_numpy_archives_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "file", "w") as file, file.open("a", "w", force_zip64=True) as entry:
        entry.write(b"abc")
    assert open_zip(tmp_path / "file", "npz file")["a"].read().tobytes() == b"abc"


def test_names_of_old_archives_are_in_their_own_alphabet(tmp_path):
    (tmp_path / "file").write_bytes(archive({"a\x82"[:1] + "b": b"x"}).replace(b"ab", b"a\x82"))
    with zipfile.ZipFile(tmp_path / "file") as file:
        assert file.namelist() == ["aé"]
    assert list(open_zip(tmp_path / "file", "npz file")) == ["aé"]


def test_folders_are_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "file", "w") as file:
        file.mkdir("folder")
        file.writestr("folder/a", b"x")
    assert list(open_zip(tmp_path / "file", "npz file")) == ["folder/a"]


def test_an_archive_of_nothing_is_read(tmp_path):
    (tmp_path / "file").write_bytes(archive({}))
    assert open_zip(tmp_path / "file", "npz file") == {}


def test_stored_entries_are_mapped_and_never_written_to(tmp_path):
    whole = archive({"a": bytes(2**23)})
    (tmp_path / "file").write_bytes(whole)
    tracemalloc.start()
    content = open_zip(tmp_path / "file", "npz file")["a"].mapped()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21
    content[:] = 1
    assert (tmp_path / "file").read_bytes() == whole


def test_compressed_entries_cannot_be_mapped(tmp_path):
    (tmp_path / "file").write_bytes(archive({"a": bytes(100)}, zipfile.ZIP_DEFLATED))
    with pytest.raises(ValueError, match="'a' in .* is compressed and cannot be mapped"):
        open_zip(tmp_path / "file", "npz file")["a"].mapped()


def test_entries_stay_when_the_file_is_replaced_or_removed(tmp_path):
    (tmp_path / "file").write_bytes(archive({"a": b"old" * 5000}))
    (tmp_path / "new").write_bytes(archive({"a": b"new"}))
    entry = open_zip(tmp_path / "file", "npz file")["a"]
    os.replace(tmp_path / "new", tmp_path / "file")
    assert entry.read().tobytes() == b"old" * 5000
    os.unlink(tmp_path / "file")
    assert entry.read().tobytes() == b"old" * 5000


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20 + 7])
@pytest.mark.parametrize("kind", ["zeros", "noise"])
def test_compressed_entries_of_many_pieces_are_whole(tmp_path, size, kind):
    content = bytes(size) if kind == "zeros" else np.random.default_rng(0).bytes(size)
    (tmp_path / "file").write_bytes(archive({"a": content}, zipfile.ZIP_DEFLATED))
    entry = open_zip(tmp_path / "file", "npz file")["a"]
    assert entry.read().tobytes() == content
    assert entry.head(1000) == content[:1000]


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 64, 257, 1024])
def test_compressed_entries_are_whole_whatever_fits_in_a_piece(tmp_path, monkeypatch, step):
    monkeypatch.setattr(zip_file, "STEP", step)
    noise = np.random.default_rng(0).bytes(300)
    files = {
        f"{kind} {size}": (content * 3)[:size]
        for kind, content in {"zeros": bytes(300), "noise": noise, "mixed": noise[:40] * 8}.items()
        for size in (*range(40), 257, 258, 259, 300, 515, 516, 517, 700)
    }
    (tmp_path / "file").write_bytes(archive(files, zipfile.ZIP_DEFLATED))
    for name, entry in open_zip(tmp_path / "file", "npz file").items():
        assert entry.read().tobytes() == files[name]


def test_wide_sizes_stand_behind_other_extras(tmp_path):
    with ZipWriter(tmp_path / "file") as writer:
        writer.write("a", b"abc")
    whole = (tmp_path / "file").read_bytes()
    start = whole.index(ENTRY)
    extra = struct.pack("<HHI", 0x7875, 4, 7) + struct.pack("<HHQ", 1, 8, 3)
    entry = bytearray(whole[start : whole.index(END)] + extra)
    struct.pack_into("<I", entry, 24, 0xFFFFFFFF)
    struct.pack_into("<H", entry, 30, len(extra))
    end = struct.pack("<4sHHHHIIH", END, 0, 0, 1, 1, len(entry), start, 0)
    (tmp_path / "file").write_bytes(whole[:start] + entry + end)
    assert open_zip(tmp_path / "file", "npz file")["a"].size == 3
    struct.pack_into("<H", entry, 49, 0x7875)  # the other one's kind for both
    entry[55:57] = struct.pack("<H", 0x7875)
    assert "lacks its zip64 sizes" in refusal(tmp_path / "file", whole[:start] + entry + end)


# Writing


@property_test
@given(files=st.dictionaries(names, contents, max_size=6))
def test_python_reads_what_is_written(tmp_path, files):
    with ZipWriter(tmp_path / "file") as writer:
        for name, content in files.items():
            writer.write(name, content)
    with zipfile.ZipFile(tmp_path / "file") as file:
        assert file.testzip() is None  # which reads all and compares checksums
        assert {info.orig_filename: file.read(info) for info in file.infolist()} == files
    assert {name: entry.read().tobytes() for name, entry in open_zip(tmp_path / "file", "x").items()} == files


@pytest.mark.parametrize(("first_wide", "first_count"), [(0, 0), (2000, 0xFFFF), (0xFFFFFFFF, 2)])
def test_wide_fields_are_written_where_the_narrow_ones_end(tmp_path, monkeypatch, first_wide, first_count):
    monkeypatch.setattr(zip_file, "ZIP64_FROM", first_wide)
    monkeypatch.setattr(zip_file, "ZIP64_COUNT", first_count)
    files = {"small": b"abc", "large": bytes(range(250)) * 9, "last": b""}
    with ZipWriter(tmp_path / "file") as writer:
        for name, content in files.items():
            writer.write(name, content)
    written = (tmp_path / "file").read_bytes()
    assert b"PK\x06\x06" in written
    assert struct.unpack_from("<HHII", written, len(written) - 14) == (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    with zipfile.ZipFile(tmp_path / "file") as file:
        assert file.testzip() is None
        assert {info.filename: file.read(info) for info in file.infolist()} == files
        assert {info.extract_version for info in file.infolist()} <= {20, 45}
        assert file.getinfo("large").extract_version == (45 if first_wide < 3000 else 20)
    assert {name: entry.read().tobytes() for name, entry in open_zip(tmp_path / "file", "x").items()} == files


def test_no_wide_fields_are_written_where_none_are_needed(tmp_path):
    with ZipWriter(tmp_path / "file") as writer:
        writer.write("a", b"abc")
    written = (tmp_path / "file").read_bytes()
    assert b"PK\x06\x06" not in written
    assert struct.unpack_from("<HH", written, 26) == (1, 33)  # lengths of the name and of what pads to 64
    assert struct.unpack_from("<HHHI", written, len(written) - 14)[1] == 1


@pytest.mark.parametrize("alignment", [1, 64, 4096])
def test_data_is_aligned_and_in_the_order_it_was_written(tmp_path, alignment):
    with ZipWriter(tmp_path / "file", alignment) as writer:
        for length in range(1, 80):
            writer.write("n" * length, b"x" * (200 - length))
    whole = (tmp_path / "file").read_bytes()
    position = 0
    for length in range(1, 80):
        position = whole.index(b"x" * (200 - length), position)
        assert position % alignment == 0
        position += 200 - length


def test_arrays_are_written_row_by_row_piece_after_piece(tmp_path):
    array = np.arange(12, dtype="<i4").reshape(3, 4)
    with ZipWriter(tmp_path / "file") as writer:
        writer.write("a", b"head", array.T, array[::-1, ::2], np.float64(1.5).reshape(()))
    expected = b"head" + array.T.tobytes() + array[::-1, ::2].tobytes() + struct.pack("<d", 1.5)
    with zipfile.ZipFile(tmp_path / "file") as file:
        assert file.read("a") == expected


def test_an_entry_is_written_from_pieces_that_are_made_one_by_one_and_has_the_size_that_was_said(tmp_path):
    with ZipWriter(tmp_path / "file") as writer:
        writer.stream("a", 300, (bytes([number]) * 100 for number in range(3)))
        with pytest.raises(OSError, match="gets 300 bytes of 'b' and not 299"):
            writer.stream("b", 299, (bytes(100) for _ in range(3)))
    assert open_zip(tmp_path / "file", "x")["a"].read().tobytes() == bytes(100) + b"\1" * 100 + b"\2" * 100


def test_the_same_content_is_the_same_file_at_any_time(tmp_path):
    for name, time in (("one", 0), ("two", 2_000_000_000)):
        with ZipWriter(tmp_path / name) as writer:
            writer.write("a", b"abc")
        os.utime(tmp_path / name, (time, time))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with zipfile.ZipFile(tmp_path / "one") as file:
        assert file.getinfo("a").date_time == (1980, 1, 1, 0, 0, 0)


def test_a_written_file_is_flushed_to_the_disk_when_it_is_whole(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_size))
    with ZipWriter(tmp_path / "file") as writer:
        writer.write("a", b"abc")
    assert flushed == [(tmp_path / "file").stat().st_size]


def stop_halfway(path):
    with ZipWriter(path) as writer:
        writer.write("a", b"abc")
        raise KeyError


def test_a_file_whose_writing_failed_cannot_be_taken_for_a_whole_one(tmp_path):
    with pytest.raises(KeyError):
        stop_halfway(tmp_path / "file")
    assert "no directory at its end" in refusal(tmp_path / "file")


@pytest.mark.parametrize("name", ["a", "n" * 70_000, "\ud800"])
def test_name_that_an_archive_cannot_hold_is_refused(tmp_path, name):
    with ZipWriter(tmp_path / "file") as writer:
        writer.write("a", b"abc")
        with pytest.raises(ValueError, match="cannot hold|surrogates"):
            writer.write(name, b"x")
    assert list(open_zip(tmp_path / "file", "x")) == ["a"]


# Files that are not what they say


WHOLE = archive({"a.npy": b"abc", "b.npy": bytes(90)})
DEFLATED = archive({"a.npy": b"abc" * 50, "b.npy": bytes(2000)}, zipfile.ZIP_DEFLATED)


def test_missing_file_and_folder_are_named(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(OSError, match=str(path)):
            open_zip(path, "npz file")


@pytest.mark.parametrize("whole", [WHOLE, DEFLATED])
def test_every_truncation_of_a_file_is_refused(tmp_path, whole):
    for length in range(len(whole)):
        assert "no directory at its end" in refusal(tmp_path / "file", whole[:length])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no directory at its end"),
        (b"PK\x03\x04 and something else", "no directory at its end"),
        (WHOLE + b"\0", "no directory at its end"),
        (b"#!/bin/sh\n" + WHOLE, "does not end at"),
        (changed(WHOLE, END, 4, b"\x01"), "one part of a divided archive"),
        (changed(WHOLE, END, 8, b"\x01"), "one part of a divided archive"),
        (changed(WHOLE, END, 8, b"\x03\0\x03\0"), "its directory claims 3 entries in"),
        (changed(WHOLE, END, 8, b"\x01\0\x01\0"), "bytes behind its last entry"),
        (changed(WHOLE, END, 12, b"\xff"), "does not end at"),
        (changed(WHOLE, END, 16, b"\xff\xff\xff\xff"), "does not end at"),
        (changed(WHOLE, ENTRY, 0, b"PK\x01\x03"), "its directory is damaged at its byte 0"),
        (changed(WHOLE, ENTRY, 28, b"\xff"), "its directory is damaged at its byte 0"),
        (changed(WHOLE, ENTRY, 8, b"\x01"), "'a.npy' in it is encrypted"),
        (changed(WHOLE, ENTRY, 8, b"\x20"), "'a.npy' in it is encrypted"),
        (changed(WHOLE, ENTRY, 8, b"\x40"), "'a.npy' in it is encrypted"),
        (changed(WHOLE, LOCAL, 6, b"\x01"), "'a.npy' in it is not at 0"),
        (changed(WHOLE, ENTRY, 10, b"\x0c"), "compressed by method 12; pack it again"),
        (changed(WHOLE, ENTRY, 10, b"\x0e"), "compressed by method 14; pack it again"),
        (changed(WHOLE, ENTRY, 10, b"\x09"), "compressed by method 9; pack it again"),
        (changed(WHOLE, ENTRY, 10, b"\x08"), "'a.npy' in it is not at 0"),
        (changed(WHOLE, ENTRY, 46, b"b"), "it holds 'b.npy' twice"),
        (changed(changed(WHOLE, ENTRY, 46, b"b"), LOCAL, 30, b"b"), "it holds 'b.npy' twice"),
        (changed(WHOLE, LOCAL, 30, b"c"), "'a.npy' in it is not at 0"),
        (changed(WHOLE, LOCAL, 0, b"PK\x03\x05"), "'a.npy' in it is not at 0"),
        (changed(WHOLE, LOCAL, 26, b"\xff\xff"), "'a.npy' in it is not at 0"),
        (changed(WHOLE, LOCAL, 28, b"\xff\xff"), "would end outside of the file"),
        (changed(WHOLE, ENTRY, 42, b"\x05"), "'a.npy' in it is not at 5"),
        (changed(WHOLE, ENTRY, 42, b"\xff\xff"), "'a.npy' in it would be at 65535, outside of the file"),
        (changed(WHOLE, ENTRY, 42, b"\xff\xff\xff\xff"), "lacks its zip64 sizes"),
        (changed(WHOLE, ENTRY, 20, b"\xff\xff\0\0\xff\xff\0\0"), "would end outside of the file"),
        (changed(WHOLE, ENTRY, 20, b"\xfe"), "claims 3 bytes, but takes 254 in the file"),
        (changed(WHOLE, ENTRY, 24, b"\xfe"), "claims 254 bytes, but takes 3 in the file"),
        (changed(DEFLATED, ENTRY, 24, b"\xff\xff\xff\xfe"), "which cannot be"),
    ],
)
def test_archive_that_lies_is_refused_with_what_is_wrong(tmp_path, content, words):
    assert words in refusal(tmp_path / "file", content)


def test_name_that_is_no_utf8_is_refused(tmp_path):
    whole = archive({"é.npy": b"abc"})
    assert "which is no UTF-8" in refusal(tmp_path / "file", whole.replace("é".encode(), b"\xff\xff"))


def test_control_characters_of_names_are_escaped(tmp_path):
    content = changed(archive({"\x1b[31m\n": b"x"}), ENTRY, 8, b"\x01")
    assert r"'\x1b[31m\n' in it is encrypted" in refusal(tmp_path / "file", content)


def test_two_entries_with_the_same_data_are_refused(tmp_path):
    # As in D. Fifield, "A better zip bomb" (2019), 2: full overlap, one local header for several entries ...
    whole = archive({"a.npy": bytes(900), "b.npy": b"x"}, zipfile.ZIP_DEFLATED)
    first = whole[whole.index(ENTRY) : whole.index(ENTRY, whole.index(ENTRY) + 1)]
    second = first.replace(b"a.npy", b"c.npy")
    directory_start = whole.index(ENTRY)
    end = struct.pack("<4sHHHHIIH", END, 0, 0, 2, 2, len(first + second), directory_start, 0)
    assert "not at 0" in refusal(tmp_path / "file", whole[:directory_start] + first + second + end)
    # ... and, 3: quoting, where the data of each entry holds the next one.
    inner = struct.pack("<4sHHHHHIIIHH", LOCAL, 20, 0, 0, 0, 0, zlib.crc32(b"k"), 1, 1, 1, 0) + b"b" + b"k"
    outer = struct.pack("<4sHHHHHIIIHH", LOCAL, 20, 0, 0, 0, 0, zlib.crc32(inner), len(inner), len(inner), 1, 0) + b"a"
    entry = struct.Struct("<4sHHHHHHIIIHHHHHII")
    entries = b""
    for name, data, at in [(b"a", inner, 0), (b"b", b"k", len(outer))]:
        sizes = (zlib.crc32(data), len(data), len(data), 1)
        entries += entry.pack(ENTRY, 20, 20, 0, 0, 0, 0, *sizes, 0, 0, 0, 0, 0, at) + name
    whole = outer + inner + entries
    whole += struct.pack("<4sHHHHIIH", END, 0, 0, 2, 2, len(entries), len(outer + inner), 0)
    with zipfile.ZipFile(io.BytesIO(whole)) as file:
        assert [info.file_size for info in file.infolist()] == [len(inner), 1]
    assert "'b' in it shares bytes with another entry" in refusal(tmp_path / "file", whole)


def test_more_than_a_hundred_times_the_file_is_refused_and_takes_no_memory(tmp_path):
    # Each entry is possible by itself, deflate making at most 1032 bytes of one.
    content = archive({f"{i}.npy": bytes(2**24) for i in range(5)}, zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    message = refusal(tmp_path / "file", content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"claims to hold {5 * 2**24}, more than 100 times as many" in message
    assert peak < 2**21


def test_a_head_of_zeros_among_weights_is_read(tmp_path):
    # ViT-Ti/16's encoder has 5.5 million random weights; a head for ImageNet-21k starts as 192 x 21843 zeros. Here a
    # tenth of both, so that the archive is larger than what is accepted in any case only by its claims.
    weights = np.random.default_rng(0).normal(size=550_000).astype("f4").tobytes()
    content = archive({"body": weights, "head": bytes(192 * 2184 * 4)}, zipfile.ZIP_DEFLATED)
    (tmp_path / "file").write_bytes(content)
    assert sum(entry.size for entry in open_zip(tmp_path / "file", "x").values()) < 3 * len(content)
    assert not open_zip(tmp_path / "file", "x")["head"].read().any()


def test_the_bound_on_claims_is_a_hundred_times_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(zip_file, "HARMLESS_SIZE", 0)
    noise = np.random.default_rng(0).bytes(5000)
    (tmp_path / "file").write_bytes(archive({"a": noise, "b": bytes(400_000)}, zipfile.ZIP_DEFLATED))
    assert open_zip(tmp_path / "file", "x")["b"].read().size == 400_000
    assert "100 times" in refusal(tmp_path / "file", archive({"a": noise, "b": bytes(700_000)}, zipfile.ZIP_DEFLATED))


def test_too_many_entries_and_too_large_directories_are_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(zip_file, "LARGEST_COUNT", 1)
    assert "claims 2 entries" in refusal(tmp_path / "file", WHOLE)
    monkeypatch.setattr(zip_file, "LARGEST_COUNT", 2)
    assert len(open_zip(tmp_path / "file", "x")) == 2
    monkeypatch.setattr(zip_file, "LARGEST_DIRECTORY", 50)
    assert "in 102 bytes" in refusal(tmp_path / "file")


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (None, None, ""),
        (("locator", 8), 2**40, "zip64 record would be at"),
        (("locator", 8), 0, "zip64 record at 0 is damaged"),
        (("record", 4), 45, "is damaged"),
        (("record", 4), 2**64 - 1, "is damaged"),
        (("record", 24), 2**40, "part of a divided archive"),
        (("record", 32), 2**63, "part of a divided archive"),
        (("record", 40), 2**63, "does not end at"),
        (("record", 48), 2**64 - 1, "does not end at"),
    ],
)
def test_wide_directory_that_lies_is_refused(tmp_path, monkeypatch, offset, value, words):
    monkeypatch.setattr(zip_file, "ZIP64_COUNT", 0)
    with ZipWriter(tmp_path / "file") as writer:
        writer.write("a", b"abc")
    whole = (tmp_path / "file").read_bytes()
    if not words:
        assert list(open_zip(tmp_path / "file", "x")) == ["a"]
        return
    sign = {"record": b"PK\x06\x06", "locator": b"PK\x06\x07"}[offset[0]]
    assert words in refusal(tmp_path / "file", changed(whole, sign, offset[1], struct.pack("<Q", value)))


def test_huge_wide_counts_take_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(zip_file, "ZIP64_COUNT", 0)
    with ZipWriter(tmp_path / "file") as writer:
        writer.write("a", b"abc")
    whole = (tmp_path / "file").read_bytes()
    tracemalloc.start()
    message = refusal(tmp_path / "file", changed(whole, b"PK\x06\x06", 24, struct.pack("<QQ", 2**62, 2**62)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"claims {2**62} entries" in message
    assert peak < 2**21


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (16, b"\0\0\0\0", "has the checksum"),
        (24, b"\x01\0", "holds more than the 1 bytes"),
        (24, b"\xff\x0f", "and not the 4095 that it should"),
        (20, b"\x07", "has no end"),
    ],
)
def test_compressed_entry_that_lies_is_refused_when_it_is_read(tmp_path, number, field, value, words):
    name = ["a.npy", "b.npy"][number]
    content = changed(DEFLATED, ENTRY, field, value, number)
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        open_zip(tmp_path / "file", "npz file")[name].read()
    sentence(caught, tmp_path / "file")


def test_stored_bytes_that_were_changed_are_refused_when_they_are_read_into_memory(tmp_path):
    content = archive({"a.npy": b"abc" * 10**6, "b.npy": b"xyz"})
    (tmp_path / "file").write_bytes(content)
    assert open_zip(tmp_path / "file", "npz file", mmap=False)["b.npy"].read().tobytes() == b"xyz"
    (tmp_path / "file").write_bytes(content.replace(b"xyz", b"xyy"))
    assert open_zip(tmp_path / "file", "npz file")["b.npy"].read().tobytes() == b"xyy"  # which reads nothing else
    with pytest.raises(ValueError, match=r"'b.npy' in .* has the checksum .* get the file again") as caught:
        open_zip(tmp_path / "file", "npz file", mmap=False)
    sentence(caught, tmp_path / "file")


def test_compressed_data_that_is_none_is_refused(tmp_path):
    content = archive({"a": b"\xff" * 50})
    content = changed(changed(content, LOCAL, 8, b"\x08"), ENTRY, 10, b"\x08")
    assert "cannot be decompressed (Error -3" in late_refusal(tmp_path / "file", "a", content)
    with pytest.raises(ValueError, match="cannot be decompressed"):
        open_zip(tmp_path / "file", "npz file")["a"].head(8)


def test_bytes_behind_the_end_of_compressed_data_are_refused(tmp_path):
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packed.compress(b"abc" * 50) + packed.flush()
    for surplus in (b"x", b"x" * 2**21):
        content = archive({"a": data + surplus})
        size = struct.pack("<I", 150)
        for sign, method, sizes in ((LOCAL, 8, 22), (ENTRY, 10, 24)):
            content = changed(changed(content, sign, method, b"\x08"), sign, sizes, size)
        assert "ends before its last byte" in late_refusal(tmp_path / "file", "a", content)


def test_compressed_data_larger_than_it_says_takes_only_what_it_says(tmp_path):
    content = archive({"a": bytes(2**25), "noise": np.random.default_rng(0).bytes(2**19)}, zipfile.ZIP_DEFLATED)
    content = changed(content, ENTRY, 24, struct.pack("<I", 2**10))
    tracemalloc.start()
    message = late_refusal(tmp_path / "file", "a", content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "holds more than the 1024 bytes" in message
    assert peak < 2**23


def open_or_refuse(path, content):
    """Whatever the file says, its entries are as described or it is refused in one sentence."""
    path.write_bytes(content)
    message = ""
    try:
        for entry in open_zip(path, "npz file").values():
            entry.head(8)
            assert entry.read().size == entry.size
    except ValueError as error:
        message = str(error)
    assert "\n" not in message


edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4)


@settings(property_test, max_examples=300)
@given(whole=st.sampled_from([WHOLE, DEFLATED]), changes=edits, cut=st.floats(0, 1) | st.just(1.0))
def test_changed_bytes_are_refused_or_harmless(tmp_path, whole, changes, cut):
    content = bytearray(whole)
    for position, byte in changes:
        content[int(position * len(content))] = byte
    open_or_refuse(tmp_path / "file", content[: int(cut * len(content))] if cut < 0.9 else content)
