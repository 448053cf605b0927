import argparse
import collections
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import tracemalloc
import types
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversion.containers import torch_pickle
from conversion.containers.torch_file import read_torch_file
from conversion.containers.torch_names import ADMITTED, INERT, Pairs
from conversion.containers.torch_pickle import read_pickle

FORMATS = ("archive", "older")
PROTOCOL = b"\x80\x02"
DICT = b"ccollections\nOrderedDict\n)R"

property_test = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


def text(value):
    encoded = value if isinstance(value, bytes) else value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value):
    return b"\x8a" + bytes([9]) + value.to_bytes(9, "little", signed=True) if value.bit_length() < 72 else long4(value)


def long4(value):
    length = value.bit_length() // 8 + 1
    return b"\x8b" + struct.pack("<I", length) + value.to_bytes(length, "little", signed=True)


def numbers(*values):
    return b"(" + b"".join(map(number, values)) + b"t"


def name(path):
    module, _, attribute = path.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def storage(kind="torch.FloatStorage", key="0", count=4, tail=b""):
    return b"(" + text("storage") + name(kind) + text(key) + text("cpu") + number(count) + tail + b"tQ"


def tensor(offset=None, shape=None, strides=None, store=None, hooks=DICT, tail=b""):
    """The instructions of a tensor, each part of which may be any other instructions."""
    parts = [store or storage(), offset or number(0), shape or numbers(4), strides or numbers(1), b"\x89", hooks, tail]
    return name("torch._utils._rebuild_tensor_v2") + b"(" + b"".join(parts) + b"tR"


def weights(*values, key="w"):
    """A dictionary: the values under `key`, `key` + "1", ..."""
    items = b"".join(text(key + (str(index) if index else "")) + value for index, value in enumerate(values))
    return b"}(" + items + b"u"


def write(path, kind, pickled, content=bytes(16), records=None):
    """A file in one of the formats around a pickle that refers to storage "0"."""
    if kind == "archive":
        with zipfile.ZipFile(path, "w") as archive:
            for record, data in (records or {"a/data.pkl": pickled, "a/data/0": content}).items():
                archive.writestr(zipfile.ZipInfo(record), data)
        return path
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    keys = ["0"] if b"tQ" in pickled else []
    tail = pickle.dumps(keys, 2) + b"".join(struct.pack("<q", len(content) // 4) + content for _ in keys)
    path.write_bytes(b"".join(pickle.dumps(value, 2) for value in head) + pickled + tail)
    return path


@pytest.fixture
def canary(tmp_path):
    """A path that code run by a file would make."""
    return tmp_path / "canary"


@pytest.fixture
def refusal(tmp_path, canary):
    """What is said of a pickle, in whichever format: one sentence, and nothing has happened."""
    for kind in FORMATS:  # so that what reading itself imports is there
        read_torch_file(write(tmp_path / "harmless", kind, PROTOCOL + weights(tensor()) + b"."))

    def refused(pickled, kinds=FORMATS, **options):
        for kind in kinds:
            path = write(tmp_path / "file", kind, pickled, **options)
            before = set(sys.modules)
            with pytest.raises(ValueError, match=".") as caught:
                read_torch_file(path)
            assert type(caught.value) is ValueError
            assert set(sys.modules) <= before
            assert not canary.exists()
            message = str(caught.value)
            assert message.startswith(f"{path} ")
            assert message.endswith(".")
            assert "\n" not in message
            assert len(message) < len(str(path)) + 500
        return message

    return refused


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced

    def __hash__(self):
        return 1


def touching(canary):
    return Calls(os.system, f"touch {canary}")


# Code


def test_the_payload_of_these_tests_runs_when_python_unpickles_it(canary):
    pickle.loads(pickle.dumps(touching(canary)))
    assert canary.exists()


def nested_places(evil):
    namespace = argparse.Namespace(lr=1, hidden=[{"deep": evil}])
    ordered = collections.OrderedDict(w=1)
    ordered.hook = evil
    array = np.empty(1, object)
    array[0] = evil
    return {
        "itself": evil,
        "value": {"model": {"w": evil}},
        "key": {evil: 1},
        "list": [[[evil]]],
        "tuple": (1, (evil,)),
        "namespace": {"args": namespace},
        "simple namespace": types.SimpleNamespace(x=evil),
        "attribute of an OrderedDict": ordered,
        "set": {evil},
        "frozenset": frozenset([evil]),
        "deque": collections.deque([evil]),
        "defaultdict": collections.defaultdict(list, {1: evil}),
        "factory": collections.defaultdict(os.getcwd, {}),
        "counter": collections.Counter({evil: 2}),
        "slice": slice(evil),
        "array": {"rng": array},
        "method": {"f": canary_method(evil)},
    }


def canary_method(evil):
    return evil.__reduce__


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_call_is_refused_wherever_it_hides(refusal, canary, protocol):
    for place, value in nested_places(touching(canary)).items():
        message = refusal(pickle.dumps(value, protocol))
        assert "asks to run " in message, place
        named = {"factory": "getcwd", "method": "getattr"}.get(place, "system")
        assert named in message, place
        assert "get the checkpoint as safetensors" in message, place


@pytest.mark.parametrize("part", range(5))
def test_every_pickle_of_the_older_format_is_kept_from_running(tmp_path, canary, part):
    values = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {"w": 1}, []]
    values[part] = touching(canary)
    (tmp_path / "file").write_bytes(b"".join(pickle.dumps(value, 2) for value in values))
    with pytest.raises(ValueError, match="asks to run posix.system, which is refused"):
        read_torch_file(tmp_path / "file")
    assert not canary.exists()


@pytest.mark.parametrize("place", ["hooks", "requires_grad", "offset", "shape", "storage", "location", "metadata"])
def test_a_call_among_the_arguments_of_a_tensor_is_refused(refusal, canary, place):
    evil = name("os.system") + text(f"touch {canary}") + b"\x85R"
    pickled = {
        "hooks": tensor(hooks=evil),
        "requires_grad": tensor().replace(b"\x89", evil),
        "offset": tensor(offset=evil),
        "shape": tensor(shape=evil),
        "storage": tensor(store=evil),
        "location": tensor().replace(text("cpu"), evil),
        "metadata": tensor(tail=evil),
    }[place]
    assert pickled != tensor()
    assert "asks to run os.system" in refusal(PROTOCOL + weights(pickled) + b".")


EVIL_NAMES = [
    "os.system",
    "posix.system",
    "nt.system",
    "os.popen",
    "subprocess.Popen",
    "subprocess.check_output",
    "builtins.eval",
    "builtins.exec",
    "builtins.getattr",
    "builtins.__import__",
    "builtins.open",
    "builtins.compile",
    "builtins.type",
    "builtins.object",
    "builtins.setattr",
    "__builtin__.eval",
    "__builtin__.apply",
    "__builtin__.map",
    "__main__.Model",
    "_codecs.decode",
    "codecs.open",
    "pickle.loads",
    "_pickle.loads",
    "marshal.loads",
    "types.FunctionType",
    "types.CodeType",
    "functools.partial",
    "functools.reduce",
    "operator.attrgetter",
    "operator.methodcaller",
    "itertools.starmap",
    "importlib.import_module",
    "runpy.run_path",
    "timeit.timeit",
    "webbrowser.open",
    "shutil.rmtree",
    "ctypes.CDLL",
    "socket.create_connection",
    "urllib.request.urlopen",
    "asyncio.run",
    "threading.Thread",
    "multiprocessing.Process",
    "copyreg._reconstructor",
    "copy_reg._reconstructor",
    "copyreg.__newobj__",
    "argparse.FileType",
    "pathlib.Path.write_text",
    "collections.namedtuple",
    "collections.UserDict",
    "collections.OrderedDict.fromkeys",
    "numpy.load",
    "numpy.fromfile",
    "numpy.memmap",
    "numpy.lib.npyio.NpzFile",
    "numpy.testing._private.utils.runstring",
    "numpy.f2py.crackfortran.myeval",
    "torch.load",
    "torch.hub.load",
    "torch.serialization.load",
    "torch.storage._load_from_bytes",
    "torch.storage.TypedStorage",
    "torch._utils._import_dotted_name",
    "torch._utils._rebuild_tensor_v2.__globals__",
    "torch._utils._rebuild_tensor_v2.__globals__.get",
    "torch._utils._rebuild_tensor_v9",
    "torch._C._jit_compile",
    "torch.jit.load",
    "torch.nn.Module",
    "torch.nn.modules.linear.Linear",
    "torch.FloatStorage.from_file",
    "torch.UntypedStorage.from_file",
    "torch.os.system",
    "torch._utils.traceback.sys.modules",
    "conversion.containers.torch_file.read_torch_file",
    "conversion.containers.torch_names.ADMITTED",
    "vit_core.saving.write_file",
]
OBSCURED_NAMES = [
    "OS.system",
    "os .system",
    " torch.load",
    ".",
    "a.",
    ".os",
    "torch\t.load",
    "torch.FloatStorage ",
    "\r.x",
]


@pytest.mark.parametrize("path", EVIL_NAMES + OBSCURED_NAMES)
def test_a_name_that_is_not_admitted_is_refused_and_told(refusal, path):
    module, _, attribute = path.rpartition(".")
    spellings = [name(path), text(module) + text(attribute) + b"\x93", f"(i{module}\n{attribute}\n".encode()]
    told = repr(path)[1:-1]
    for spelling in spellings:
        for pickled in (spelling, weights(tensor(), spelling), spelling + b")R", spelling + b")\x81", spelling + b"}b"):
            assert f"asks to run {told}, which is refused" in refusal(PROTOCOL + pickled + b".", kinds=["archive"])


def test_a_name_that_is_put_together_from_pieces_is_refused(refusal):
    pieces = b"(" + text("o") + text("s") + b"t" + b"0"  # there is no instruction that joins them
    assert "the instruction 0x30" in refusal(PROTOCOL + pieces + b".")
    remembered = text("os") + b"q\x00" + text("system") + b"q\x01\x86q\x02h\x00h\x01\x93."
    assert "asks to run os.system" in refusal(b"\x80\x04" + remembered)
    mixed = text("torch._utils") + text("_rebuild_tensor_v2.__globals__") + b"\x93."
    assert "asks to run torch._utils._rebuild_tensor_v2.__globals__" in refusal(b"\x80\x04" + mixed)


def test_admitted_names_are_told_apart_from_those_that_only_read_alike(refusal):
    for module, attribute in [
        ("torch", "_utils._rebuild_tensor_v2"),
        ("collections.OrderedDict", ""),
        ("", "torch.Size"),
    ]:
        assert "asks to run " in refusal(b"\x80\x04" + text(module) + text(attribute) + b"\x93.")


def test_nothing_that_a_file_names_is_imported(refusal, tmp_path, monkeypatch):
    (tmp_path / "imported_by_a_file.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    for path in ("imported_by_a_file.x", "imported_by_a_file.OrderedDict"):
        assert "asks to run imported_by_a_file." in refusal(PROTOCOL + weights(name(path)) + b".")


def test_admitted_names_are_never_looked_up(tmp_path, monkeypatch):
    """A program whose modules are all gone, or traps, reads the same."""
    trap = types.ModuleType("trap")
    trap.__getattr__ = lambda attribute: pytest.fail(f"{attribute} was looked up")
    for module in {module for module, _ in ADMITTED} - {"builtins", "collections", "types", "pathlib", "numpy"}:
        monkeypatch.setitem(sys.modules, module, trap)
    calls = b"".join(name(".".join(key)) for key in ADMITTED)
    path = write(tmp_path / "file", "archive", PROTOCOL + weights(tensor(), b"(" + calls + b"t") + b".")
    assert list(read_torch_file(path)) == ["w"]


def test_reading_in_a_fresh_process_imports_no_framework_and_no_module_that_a_file_names(tmp_path):
    namespace = name("argparse.Namespace") + b")\x81}" + text("x") + number(1) + b"sb"
    counter = name("pathlib.PosixPath") + text("/") + b"\x85R"
    path = write(tmp_path / "file", "archive", PROTOCOL + weights(tensor(), namespace, counter) + b".")
    harmless = write(tmp_path / "harmless", "archive", PROTOCOL + weights(tensor()) + b".")
    program = f"""
import sys
from pathlib import Path
from conversion.containers.torch_file import read_torch_file
read_torch_file(Path({str(harmless)!r}))
before = set(sys.modules)
print(*read_torch_file(Path({str(path)!r})), *set(sys.modules) - before, *({{"torch", "argparse"}} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["w"]


def test_objects_get_no_attributes(refusal):
    state = b"}" + text("__setstate__") + name("torch.Size") + b"s"
    for target in (b"]", b"}", b")", b"N", text("x"), number(1), tensor(), storage(), name("torch.Tensor")):
        message = refusal(PROTOCOL + weights(tensor(), target + state + b"b") + b".")
        assert "sets attributes of an object that has none" in message
    for target in (name("argparse.Namespace") + b")\x81", DICT):
        assert isinstance(read_pickle(memoryview(PROTOCOL + target + state + b"b.")).value, Pairs | type(INERT))


def test_only_admitted_functions_are_called(refusal):
    for called in (b"]", b"}", b")", b"N", text("os.system"), number(1), tensor(), storage(), DICT):
        for call in (b")R", b")\x81", b")}\x92"):
            message = refusal(PROTOCOL + weights(tensor(), called + call) + b".")
            assert "asks to run something that is neither a class nor a function" in message
    for path in ("torch.FloatStorage", "torch.float32", "torch.Tensor", "torch.storage.UntypedStorage"):
        assert f"asks to run {path}" in refusal(PROTOCOL + weights(tensor(), name(path) + b")R") + b".")
    for arguments in (b"]", b"}", b"N", text("x"), DICT):
        message = refusal(PROTOCOL + weights(tensor(), name("argparse.Namespace") + arguments + b"R") + b".")
        assert "asks to run argparse.Namespace" in message


UNKNOWN = sorted(set(range(256)) - torch_pickle.INSTRUCTIONS.keys() - {ord(".")})


def test_instructions_that_are_left_out_are_those_of_protocol_0_objects_and_buffers():
    import pickletools

    codes = {opcode.code for opcode in pickletools.opcodes}
    left_out = {opcode.name for opcode in pickletools.opcodes if ord(opcode.code) in UNKNOWN}
    assert left_out == {
        *("INT", "LONG", "STRING", "UNICODE", "FLOAT", "LIST", "DICT", "PUT", "GET", "PERSID"),
        *("OBJ", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER", "POP", "POP_MARK", "DUP"),
    }
    assert all(chr(code) in codes for code in torch_pickle.INSTRUCTIONS)


@pytest.mark.parametrize("code", UNKNOWN)
def test_an_unknown_instruction_is_refused(refusal, code):
    pickled = PROTOCOL + weights(tensor(), bytes([code]) + b"os\nsystem\n") + b"."
    assert f"has the instruction 0x{code:02x}, which PyTorch does not write" in refusal(pickled, kinds=["archive"])


@pytest.mark.parametrize(
    "identity",
    [
        text("0"),
        number(0),
        b")",
        b"N",
        b"]",
        name("torch.FloatStorage"),
        text("storage") + b"\x85",
        b"(" + text("module") + name("torch.Tensor") + text("model.py") + text("import os") + b"t",
        b"(" + text("module") + name("torch.FloatStorage") + text("0") + text("cpu") + number(4) + b"t",
        b"(" + text("storage") + text("torch.FloatStorage") + text("0") + text("cpu") + number(4) + b"t",
        b"(" + text("storage") + name("torch.float32") + text("0") + text("cpu") + number(4) + b"t",
        b"(" + text("storage") + name("torch.Tensor") + text("0") + text("cpu") + number(4) + b"t",
        b"(" + text("storage") + name("torch.FloatStorage") + number(0) + text("cpu") + number(4) + b"t",
        b"(" + text("storage") + name("torch.FloatStorage") + text("0") + b"N" + number(4) + b"t",
        b"(" + text("storage") + name("torch.FloatStorage") + text("0") + text("cpu") + text("4") + b"t",
        b"(" + text("storage") + name("torch.FloatStorage") + text("0") + text("cpu") + number(-4) + b"t",
        b"(" + text("storage") + name("torch.FloatStorage") + text("0") + text("cpu") + b"\x88t",
        b"(" + text("storage") + name("torch.FloatStorage") + text("0") + text("cpu") + number(2**63) + b"t",
        b"(" + text("storage") + name("torch.FloatStorage") + text("0") + text("cpu") + number(4) + b"NNt",
    ],
)
def test_a_reference_to_what_is_no_storage_is_refused(refusal, identity):
    assert "refers to something else than a storage" in refusal(PROTOCOL + weights(tensor(), identity + b"Q") + b".")


@pytest.mark.parametrize("key", ["../data.pkl", "../../canary", "/etc/passwd", "", "0/../0", "1", "0\0", "\N{SNOWMAN}"])
def test_a_storage_is_never_sought_outside_its_archive(refusal, key):
    message = refusal(PROTOCOL + weights(tensor(store=storage(key=key))) + b".", kinds=["archive"])
    assert "lacks the record " in message


def test_pickles_inside_of_pickles_are_not_opened(tmp_path, canary):
    inner = pickle.dumps(touching(canary))
    hidden = b"C" + bytes([len(inner)]) + inner
    load = name("torch.storage._load_from_bytes") + hidden + b"\x85R"
    path = write(tmp_path / "file", "archive", PROTOCOL + weights(tensor(), hidden) + b".")
    assert list(read_torch_file(path)) == ["w"]
    write(path, "archive", PROTOCOL + weights(tensor(), load) + b".")
    with pytest.raises(ValueError, match="asks to run torch.storage._load_from_bytes"):
        read_torch_file(path)
    assert not canary.exists()


# Memory, time and depth


@pytest.fixture
def taking_little():
    """Fail if memory beyond some megabytes was ever taken."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


BIG = 2**40


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (b"\x8b" + struct.pack("<I", 2**31 - 1), "has a number of 2147483647 bytes"),
        (b"\x8b" + struct.pack("<i", -1), "has a number of 4294967295 bytes"),
        (long4(2**80_000), "has a number of 10001 bytes"),
        (b"X" + struct.pack("<I", 2**32 - 1) + b"abc", "truncated"),
        (b"\x8d" + struct.pack("<Q", BIG) + b"abc", "truncated"),
        (b"\x8d" + struct.pack("<Q", 2**64 - 1) + b"abc", "truncated"),
        (b"\x8e" + struct.pack("<Q", BIG) + b"abc", "truncated"),
        (b"\x96" + struct.pack("<Q", BIG) + b"abc", "truncated"),
        (b"B" + struct.pack("<I", 2**32 - 1) + b"abc", "truncated"),
        (b"T" + struct.pack("<I", 2**32 - 1) + b"abc", "truncated"),
        (b"\x95" + struct.pack("<Q", BIG), "a frame that passes its end"),
        (b"\x95" + struct.pack("<Q", 2**64 - 1), "a frame that passes its end"),
        (b"\x8a\xff" + bytes(3), "truncated"),
        (b"U\xff" + b"abc", "truncated"),
        (b"c" + b"o" * 100_000 + b"\nsystem\n", "instead of a name"),
        (b"cos\n" + b"s" * 100_000 + b"\n", "instead of a name"),
        (b"cos", "instead of a name"),
        (b"c\xff\xfe\nsystem\n", "instead of a name"),
    ],
)
@pytest.mark.usefixtures("taking_little")
def test_a_length_that_lies_takes_no_memory(refusal, pickled, words):
    assert words in refusal(PROTOCOL + pickled, kinds=["archive"])


@pytest.mark.usefixtures("taking_little")
def test_a_place_in_memory_far_away_takes_no_memory(tmp_path):
    far = b"r" + struct.pack("<I", 2**32 - 1)
    path = write(tmp_path / "file", "archive", PROTOCOL + weights(tensor() + far, b"j" + far[1:]) + b".")
    assert list(read_torch_file(path)) == ["w", "w1"]


FILLINGS = {
    "lists": b"]",
    "dictionaries": b"}",
    "marks": b"(",
    "values": b"N",
    "recalled values": b"]q\x00" + b"h\x00" * 9,
    "tuples": b")\x85",
    "numbers": b"K\x01",
    "remembered values": b"N" + b"".join(b"r" + struct.pack("<I", place) for place in range(1000)),
    "names": name("torch.Size"),
    "texts": text("a\N{SNOWMAN}"),
    "storages": storage(),
    "tensors": tensor(),
}


@pytest.mark.parametrize("filling", FILLINGS.values(), ids=FILLINGS)
def test_the_number_of_instructions_is_bounded_and_each_takes_little_memory(refusal, monkeypatch, filling):
    most = 20_000
    monkeypatch.setattr(torch_pickle, "MOST_STEPS", most)
    pickled = PROTOCOL + filling * most
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"more than {most} instructions"):
            read_pickle(memoryview(pickled))
        assert tracemalloc.get_traced_memory()[1] < 120 * most
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("taking_little")
def test_a_list_that_is_made_a_dictionary_again_and_again_counts_each_time(monkeypatch):
    monkeypatch.setattr(torch_pickle, "MOST_STEPS", 20_000)
    pairs = name("collections.OrderedDict") + b"q\x00](" + b"NN\x86" * 2000 + b"e\x85q\x01"
    with pytest.raises(ValueError, match="more than 20000 instructions"):
        read_pickle(memoryview(PROTOCOL + pairs + b"h\x00h\x01R" * 1000))


@pytest.mark.usefixtures("taking_little")
def test_one_tensor_in_more_places_than_a_checkpoint_has_tensors_is_refused(refusal, monkeypatch):
    monkeypatch.setattr("conversion.containers.torch_file.MOST_TENSORS", 100)
    many = b"(" + tensor() + b"q\x05" + b"h\x05" * 100 + b"t"
    assert "more than 100 tensors" in refusal(PROTOCOL + weights(many) + b".", kinds=["archive"])


def test_real_limits_are_as_large_as_promised():
    """Ten times as many tensors as the largest training checkpoint of a ViT has."""
    many = b"(" + (text("student.blocks.39.attn.proj.weight") + tensor()) * 20_000 + b"t."
    assert len(read_pickle(memoryview(PROTOCOL + many)).value) == 40_000


def test_a_pickle_of_more_bytes_than_any_checkpoint_has_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("conversion.containers.torch_file.LARGEST_PICKLE", 1000)
    monkeypatch.setattr(torch_pickle, "LARGEST_PICKLE", 1000)
    for kind, words in [
        ("archive", "has a data.pkl of 1"),
        ("older", "truncated or corrupt or longer than 1000 bytes"),
    ]:
        path = write(tmp_path / "file", kind, PROTOCOL + weights(tensor(), text("x" * 1000)) + b".")
        with pytest.raises(ValueError, match=words):
            read_torch_file(path)


DEEP = 100_000


@pytest.mark.parametrize(
    "nested",
    [
        b"]" * DEEP + tensor() + b"a" * DEEP,
        b")" + b"\x85" * DEEP,
        tensor() + b"\x85" * DEEP,
        (b"}" + text("k")) * DEEP + tensor() + b"s" * DEEP,
        b"(" * DEEP + tensor() + b"t" * DEEP,
        b"]" * 65 + tensor() + b"a" * 65,
    ],
)
def test_nesting_without_end_is_refused_and_costs_no_recursion(refusal, nested):
    message = refusal(PROTOCOL + weights(tensor(), nested) + b".", kinds=["archive"])
    assert "lie more than 64 deep" in message


def test_nesting_in_what_is_dropped_does_no_harm(tmp_path):
    nested = b"}" + text("x") + b"]" * DEEP + b"a" * (DEEP - 1) + b"s"
    value = name("argparse.Namespace") + b")\x81" + nested + b"b"
    path = write(tmp_path / "file", "archive", PROTOCOL + weights(tensor(), value) + b".")
    assert list(read_torch_file(path)) == ["w"]


@pytest.mark.parametrize(
    "pickled",
    [
        b"]q\x00h\x00a",
        b"]q\x00(h\x00h\x00h\x00e",
        b"}q\x00" + text("x") + b"h\x00s",
        b"}q\x00(" + text("x") + tensor() + text("y") + b"h\x00u",
        b"]q\x00h\x00\x85\x85a",
        DICT + b"q\x00" + text("x") + b"]h\x00as",
    ],
)
def test_what_contains_itself_is_refused(refusal, pickled):
    assert "contain themselves" in refusal(PROTOCOL + weights(tensor(), pickled) + b".", kinds=["archive"])


@pytest.mark.parametrize("leaf", [b"]", tensor()])
@pytest.mark.usefixtures("taking_little")
def test_what_doubles_at_every_level_is_refused_in_time(refusal, leaf, monkeypatch):
    monkeypatch.setattr("conversion.containers.torch_file.MOST_STEPS", 20_000)
    monkeypatch.setattr("conversion.containers.torch_file.MOST_TENSORS", 20_000)
    doubled = leaf + b"q\x01h\x01\x86" * 50
    message = refusal(PROTOCOL + weights(tensor(), doubled) + b".", kinds=["archive"])
    assert "hold one another" in message or "more than 20000 tensors" in message


@pytest.mark.parametrize("levels", [1, 60])
@pytest.mark.usefixtures("taking_little")
def test_a_long_key_in_many_names_takes_no_memory(refusal, monkeypatch, levels):
    monkeypatch.setattr("conversion.containers.torch_file.LARGEST_NAMES", 3 * 10**6)
    key = text("n" * 10**6) + b"q\x01"
    pickled = b"(" + tensor() * (100 if levels == 1 else 1) + b"t"
    for _ in range(levels):  # the innermost dictionary holds the key itself, the others recall it
        pickled = b"}h\x01" + pickled + b"s"
    pickled = b"(" + key + pickled + b"t"
    assert "names of more than" in refusal(PROTOCOL + pickled + b".", kinds=["archive"])


# Stacks and containers that do not fit


@pytest.mark.parametrize(
    ("pickled", "words"),
    [
        (b"", "truncated"),
        (PROTOCOL, "truncated"),
        (PROTOCOL + b"N", "truncated"),
        (PROTOCOL + b".", "ends with other than one value"),
        (PROTOCOL + b"NN.", "ends with other than one value"),
        (PROTOCOL + b"(N.", "ends with other than one value"),
        (b"\x80\x06N.", "protocol 6, later than 5"),
        (b"\x80\xffN.", "protocol 255, later than 5"),
        (PROTOCOL + b"t.", "lacks a mark"),
        (PROTOCOL + b"u.", "lacks a mark"),
        (PROTOCOL + b"e.", "lacks a mark"),
        (PROTOCOL + b"\x90.", "lacks a mark"),
        (PROTOCOL + b"\x91.", "lacks a mark"),
        (PROTOCOL + b"a.", "takes a value where there is none"),
        (PROTOCOL + b"s.", "takes a value where there is none"),
        (PROTOCOL + b"R.", "takes a value where there is none"),
        (PROTOCOL + b"b.", "takes a value where there is none"),
        (PROTOCOL + b"Q.", "takes a value where there is none"),
        (PROTOCOL + b"\x93.", "takes a value where there is none"),
        (PROTOCOL + b"N\x86.", "takes a value where there is none"),
        (PROTOCOL + b"q\x00.", "takes a value where there is none"),
        (PROTOCOL + b"\x94.", "takes a value where there is none"),
        (PROTOCOL + b"](a.", "takes a value where there is none"),
        (PROTOCOL + b"]N(\x85.", "takes a value where there is none"),
        (PROTOCOL + b"(Ne.", "takes a value where there is none"),
        (PROTOCOL + b"h\x00.", "recalls value 0"),
        (PROTOCOL + b"j\xff\xff\xff\xff.", "recalls value 4294967295"),
        (PROTOCOL + b"Nq\x01h\x02.", "recalls value 2"),
        (PROTOCOL + b")Na.", "appends to something else than a list"),
        (PROTOCOL + b"}(NNe.", "appends to something else than a list"),
        (PROTOCOL + DICT + b"(NNe.", "appends to something else than a list"),
        (PROTOCOL + b"]NNs.", "something else than a dictionary"),
        (PROTOCOL + b"](NNu.", "something else than a dictionary"),
        (PROTOCOL + b"}(NNNu.", "something else than a dictionary"),
        (PROTOCOL + b"](N\x90.", "adds to something else than a set"),
        (PROTOCOL + b"NN\x93.", "names a class by something else than text"),
        (PROTOCOL + text(b"\xff\xfe") + b".", "text that is no UTF-8"),
        (PROTOCOL + text(b"\xed\xa0\x80") + b".", "text that is no UTF-8"),  # half of a surrogate pair
        (PROTOCOL + name("collections.OrderedDict") + b"]Na\x85R.", "an OrderedDict of something else than pairs"),
        (PROTOCOL + name("collections.OrderedDict") + b"](NNe\x85R.", "an OrderedDict of something else than pairs"),
        (PROTOCOL + name("collections.OrderedDict") + b"NN\x86R.", "an OrderedDict of something else than pairs"),
        (PROTOCOL + name("argparse.Namespace") + b")N\x92.", "names arguments by something else than a dictionary"),
    ],
)
def test_a_pickle_that_no_pickler_writes_is_refused(refusal, pickled, words):
    assert words in refusal(pickled, kinds=["archive"])


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"shape": numbers(5)}, "shape (5,), strides (1,) and offset 0 in a storage of 4 values"),
        ({"shape": numbers(4), "strides": numbers(2)}, "storage of 4 values"),
        ({"shape": numbers(2, 2), "strides": numbers(3, 1)}, "storage of 4 values"),
        ({"offset": number(1)}, "offset 1 in a storage of 4 values"),
        ({"offset": number(2**62)}, "storage of 4 values"),
        ({"offset": number(-1), "shape": numbers(1)}, "offset -1"),
        ({"offset": number(-1), "shape": numbers(0)}, "offset -1"),
        ({"offset": b"\x88", "shape": numbers(1)}, "offset True"),
        ({"offset": text("0")}, "offset '0'"),
        ({"offset": b"N"}, "offset None"),
        ({"offset": number(2**63)}, "offset 9223372036854775808"),
        ({"shape": numbers(-4)}, "shape (-4,)"),
        ({"shape": numbers(-1, -4), "strides": numbers(4, 1)}, "shape (-1, -4)"),
        ({"shape": numbers(2**62, 4), "strides": numbers(4, 1)}, "storage of 4 values"),
        ({"shape": numbers(2**32, 2**32), "strides": numbers(0, 0)}, "storage of 4 values"),
        ({"shape": numbers(2**63), "strides": numbers(0)}, "storage of 4 values"),
        ({"shape": numbers(0, 2**62, 2**62), "strides": numbers(1, 1, 1)}, "storage of 4 values"),
        ({"shape": numbers(2), "strides": numbers(2**62)}, "storage of 4 values"),
        ({"shape": numbers(2), "strides": numbers(-1), "offset": number(1)}, "strides (-1,)"),
        ({"shape": numbers(1), "strides": numbers(2**63)}, "storage of 4 values"),
        ({"shape": numbers(2, 2)}, "storage of 4 values"),
        ({"shape": numbers(), "strides": numbers(1)}, "storage of 4 values"),
        ({"shape": b"(\x88t"}, "shape (True,)"),
        ({"shape": b"(Nt"}, "shape (None,)"),
        ({"shape": b"(" + text("4") + b"t"}, "shape ('4',)"),
        ({"shape": numbers(*[1] * 33), "strides": numbers(*[1] * 33)}, "storage of 4 values"),
        ({"shape": numbers(10**600)}, "storage of 4 values"),
        ({"shape": number(4)}, "with other arguments than PyTorch writes"),
        ({"shape": b"](" + number(4) + b"e"}, "with other arguments than PyTorch writes"),
        ({"store": b"N"}, "with other arguments than PyTorch writes"),
        ({"store": name("torch.FloatStorage")}, "with other arguments than PyTorch writes"),
        ({"store": tensor()}, "with other arguments than PyTorch writes"),
        ({"tail": b"N"}, "negated or conjugated"),
        ({"tail": b"NN"}, "with other arguments than PyTorch writes"),
        ({"tail": b"}" + text("neg") + b"\x88s"}, "negated or conjugated"),
        ({"shape": numbers(10**6), "strides": numbers(0)}, "claims 4000000 for 'w'"),
        ({"shape": numbers(2**20, 2**20, 2**19), "strides": numbers(0, 0, 0)}, "claims 2305843009213693952 for 'w'"),
        ({"store": storage(count=3)}, "storage of 3 values"),
        ({"store": storage("torch.DoubleStorage", count=2), "shape": numbers(3)}, "storage of 2 values"),
    ],
)
@pytest.mark.usefixtures("taking_little")
def test_a_tensor_that_does_not_fit_its_storage_is_refused(refusal, described, words):
    assert words in refusal(PROTOCOL + weights(tensor(**described)) + b".", kinds=["archive"])


def typed_tensor(kind, store, shape):
    """The instructions of a tensor on a storage of bytes."""
    parts = [store, number(0), numbers(shape), numbers(1), b"\x89", DICT, name(f"torch.{kind}")]
    return name("torch._utils._rebuild_tensor_v3") + b"(" + b"".join(parts) + b"tR"


def test_a_storage_of_bytes_is_counted_in_values_of_the_tensor(tmp_path, refusal):
    store = storage("torch.storage.UntypedStorage", count=16)
    for kind, most in [("uint16", 8), ("uint32", 4), ("uint64", 2), ("uint8", 16)]:
        path = write(tmp_path / "good", "archive", PROTOCOL + weights(typed_tensor(kind, store, most)) + b".")
        assert read_torch_file(path)["w"].read().tobytes() == bytes(16)
        message = refusal(PROTOCOL + weights(typed_tensor(kind, store, most + 1)) + b".", kinds=["archive"])
        assert f"storage of {most} values" in message


def test_a_part_of_a_storage_of_bytes_starts_where_it_says(tmp_path):
    view = b"(" + text("part") + number(4) + number(8) + b"t"
    store = storage("torch.storage.UntypedStorage", count=16, tail=view)
    content = np.arange(8, dtype="<u2").tobytes()
    pickled = PROTOCOL + weights(typed_tensor("uint16", store, 4)) + b"."
    path = write(tmp_path / "file", "archive", pickled, content)
    assert read_torch_file(path)["w"].read().tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("store", "words"),
    [
        (storage(count=5), "16 bytes for storage '0', but 5 values of F32 take 20"),
        (storage(count=2**60), "16 bytes for storage '0'"),
        (storage("torch.DoubleStorage", count=4), "16 bytes for storage '0', but 4 values of F64 take 32"),
        (storage("torch.HalfStorage", count=4), "16 bytes for storage '0', but 4 values of F16 take 8"),
    ],
)
def test_a_storage_of_another_size_than_its_record_is_refused(refusal, store, words):
    message = refusal(PROTOCOL + weights(tensor(store=store)) + b".", kinds=["archive"])
    assert words in message


def test_a_storage_that_is_described_in_two_ways_is_refused(refusal):
    for other in (storage(count=3), storage("torch.IntStorage")):
        pickled = weights(tensor(), tensor(store=other, shape=numbers(1)))
        assert "describes storage '0' in two ways" in refusal(PROTOCOL + pickled + b".")


@pytest.mark.parametrize(
    "view",
    [
        number(1),
        b")",
        text("v") + number(0) + b"\x86",
        b"(" + text("v") + number(1) + number(4) + b"t",
        b"(" + text("v") + number(-1) + number(4) + b"t",
        b"(" + text("v") + number(5) + number(-1) + b"t",
        b"(" + text("v") + number(2**62) + number(2**62) + b"t",
        b"(N" + number(0) + number(4) + b"t",
    ],
)
def test_a_part_of_a_storage_that_it_does_not_have_is_refused(refusal, view):
    pickled = weights(tensor(store=storage(tail=view), shape=numbers(1)))
    assert "takes a part of storage '0' that it does not have" in refusal(PROTOCOL + pickled + b".")


@pytest.mark.parametrize(
    "call",
    [
        name("torch._utils._rebuild_parameter") + b")R",
        name("torch._utils._rebuild_parameter") + b"(N\x88Nt" + b"R",
        name("torch._utils._rebuild_parameter") + b"(" + storage() + b"\x88Nt" + b"R",
        name("torch._utils._rebuild_parameter_with_state") + b"(" + tensor() + b"\x88NNNtR",
        name("torch._utils._rebuild_tensor_v3") + b"(" + storage() + number(0) + numbers(4) + numbers(1) + b"\x89NNtR",
        name("torch._utils._rebuild_tensor_v3")
        + (b"(" + storage() + number(0) + numbers(4) + numbers(1) + b"\x89N" + name("torch.Size") + b"tR"),
        name("torch._tensor._rebuild_from_type_v2") + b"(" + b"NNN" + b"NtR",
        name("torch._tensor._rebuild_from_type_v2")
        + (b"(" + name("torch.Size") + name("torch.Tensor") + b"((" + b"ttNtR"),
        name("torch._tensor._rebuild_from_type_v2")
        + b"("
        + name("torch._tensor._rebuild_from_type_v2")
        + name("torch.Tensor")
        + b")NtR",
    ],
)
def test_a_call_with_arguments_that_pytorch_does_not_write_is_refused(refusal, call):
    message = refusal(PROTOCOL + weights(tensor(), call) + b".", kinds=["archive"])
    assert "with other arguments than PyTorch writes" in message


# Archives


def records(**changed):
    """The records of a good archive, some of them changed, added or (with None) removed."""
    good = {"a/data.pkl": PROTOCOL + weights(tensor()) + b".", "a/data/0": bytes(16)} | changed
    return {record: content for record, content in good.items() if content is not None}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"a/byteorder": b"big"}, "the byte order b'big'"),
        ({"a/byteorder": b""}, "the byte order b''"),
        ({"a/byteorder": b"little" * 10**6}, "the byte order b'littlelittle"),
        ({"a/constants.pkl": b"\x80\x02)."}, "TorchScript"),
        ({"a/code/__torch__.py": b"import os"}, "TorchScript"),
        ({"b/data.pkl": b"\x80\x02)."}, "2 data.pkl instead of one"),
        ({"a/data.pkl": None}, "0 data.pkl instead of one"),
        ({"a/data.pkl": None, "data.pkl": b"\x80\x02}."}, "0 data.pkl instead of one"),
        ({"a/data.pkl": None, "a/b/data.pkl": b"\x80\x02}."}, "0 data.pkl instead of one"),
        ({"a/data.pkl": None, "array.npy": b"\x93NUMPY"}, "it is no file of torch.save"),
        ({"a/data.pkl": b""}, "truncated"),
        ({"a/data.pkl": PROTOCOL + weights(tensor()) + b".cos\nsystem\n."}, "12 bytes behind its pickle"),
        ({"a/data/0": None}, "lacks the record 'a/data/0'"),
        ({"a/data/0": None, "b/data/0": bytes(16)}, "lacks the record 'a/data/0'"),
        ({"a/data/0": bytes(15)}, "has 15 bytes for storage '0'"),
        ({"a/data/0": bytes(17)}, "has 17 bytes for storage '0'"),
        ({"a/data/0": b""}, "has 0 bytes for storage '0'"),
    ],
)
def test_an_archive_without_what_it_needs_is_refused(refusal, changed, words):
    assert words in refusal(b"", kinds=["archive"], records=records(**changed))


def test_records_with_paths_as_names_are_written_nowhere(tmp_path, canary):
    extra = {"../canary": b"x", str(canary): b"x", "a/../../canary": b"x", "a/data/../../canary": b"x"}
    path = write(tmp_path / "file", "archive", b"", records=records(**extra))
    before = sorted(tmp_path.rglob("*"))
    assert list(read_torch_file(path)) == ["w"]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("record", ["a/data.pkl", "a/data/0"])
def test_compressed_records_are_refused(tmp_path, record):
    with zipfile.ZipFile(tmp_path / "file", "w") as archive:
        for name_, content in records().items():
            archive.writestr(name_, content, zipfile.ZIP_DEFLATED if name_ == record else zipfile.ZIP_STORED)
    with pytest.raises(ValueError, match=f"has the record '{record}' deflated"):
        read_torch_file(tmp_path / "file")


def test_encrypted_duplicate_and_overlapping_records_are_refused(tmp_path):
    path = write(tmp_path / "file", "archive", b"", records=records())
    whole = path.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    second = whole.index(b"PK\x01\x02", directory + 1)

    def changed(position, content):
        return whole[:position] + content + whole[position + len(content) :]

    twice = records() | {"b/data.pkl": b"x"}
    with zipfile.ZipFile(tmp_path / "twice", "w") as archive:
        for record, content in twice.items():
            archive.writestr(zipfile.ZipInfo(record), content)
    for content, words in [
        (changed(directory + 8, b"\x01\x00"), "encrypted"),
        ((tmp_path / "twice").read_bytes().replace(b"b/data.pkl", b"a/data.pkl"), "twice"),
        (changed(second + 42, struct.pack("<I", 0)), "a/data/0"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words):
            read_torch_file(path)


# Anything at all


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(2**600), 2**600) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


def plain(value):
    """The machine's values as Python's."""
    if isinstance(value, Pairs):
        return {plain(key): plain(inner) for key, inner in value}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    return value


def typed(value):
    """A value in which True and 1 are told apart."""
    if isinstance(value, dict):
        return [(typed(key), typed(inner)) for key, inner in value.items()]
    if isinstance(value, list | tuple):
        return [type(value), *map(typed, value)]
    return (type(value), value)


@property_test
@given(value=plain_values, protocol=st.integers(2, 5), before=st.binary(max_size=3))
def test_plain_data_is_what_python_unpickles(value, protocol, before):
    pickled = pickle.dumps(value, protocol)
    read = read_pickle(memoryview(before + pickled + b"behind"), len(before))
    assert typed(plain(read.value)) == typed(value)
    assert read.end == len(before + pickled)


def test_values_that_are_stored_and_recalled_are_the_same_object():
    value = [[1], {"a": (2,)}]
    value += value
    read = read_pickle(memoryview(pickle.dumps(value, 2))).value
    assert read[0] is read[2]
    assert read[1] is read[3]


pieces = st.sampled_from(
    [
        *(bytes([code]) for code in [*torch_pickle.INSTRUCTIONS, *b".0123"]),
        *(b"(", b")", b"]", b"}", b"t", b"a", b"e", b"s", b"u", b"R", b"b", b"Q", b"\x81", b"\x85", b"\x86", b"\x87"),
        *(
            b"q\x00",
            b"q\x01",
            b"h\x00",
            b"h\x01",
            b"K\x00",
            b"K\x04",
            b"M\x00\x01",
            b"J\xff\xff\xff\xff",
            b"\x8a\x01\x04",
        ),
        *(text("storage"), text("0"), text("cpu"), text("w"), text("torch"), text("FloatStorage"), b"U\x010"),
        *(
            name(path)
            for path in ("torch.FloatStorage", "torch._utils._rebuild_tensor_v2", "torch.float32", "os.system")
        ),
        *(name(path) for path in ("argparse.Namespace", "torch._utils._rebuild_parameter", "torch.Tensor")),
        *(tensor(), storage(), DICT, numbers(4), numbers(1), numbers(2, 2), weights(tensor()), number(0)),
    ]
)
programs = st.lists(pieces, max_size=30).map(b"".join) | st.binary(max_size=60)


@settings(property_test, max_examples=800)
@given(program=programs)
def test_any_program_is_refused_or_makes_plain_data(program):
    try:
        value, message = read_pickle(memoryview(PROTOCOL + program + b".")).value, ""
    except ValueError as error:
        value, message = None, f"{type(error).__name__}: {error}"
    assert not message or message.startswith("ValueError: ")
    assert "\n" not in message
    assert len(message) < 500
    assert type(value).__module__ in ("builtins", "conversion.containers.torch_names")


@settings(property_test, max_examples=400)
@given(program=programs, inside=st.booleans())
def test_any_program_in_a_file_is_refused_or_gives_tensors_that_can_be_read(tmp_path, program, inside):
    program = weights(tensor(), program) if inside else program
    path = write(tmp_path / "file", "archive", PROTOCOL + program + b".", np.arange(4, dtype="<f4").tobytes())
    try:
        tensors, message = read_torch_file(path), f"{path} "
    except ValueError as error:
        tensors, message = {}, str(error)
    assert message.startswith(f"{path} ")
    for stored in tensors.values():
        assert stored.read().shape == stored.shape
        assert set(stored.read().reshape(-1).tolist()) <= {0, 1, 2, 3}


def test_paths_that_training_scripts_keep_are_dropped(tmp_path):
    value = {"args": argparse.Namespace(out=pathlib.PurePosixPath("/x"), also=pathlib.Path("y"))}
    pickled = pickle.dumps(value, 2)[2:-1]
    path = write(tmp_path / "file", "archive", PROTOCOL + weights(tensor(), pickled) + b".")
    assert list(read_torch_file(path)) == ["w"]
