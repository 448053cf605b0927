"""What is fuzzed: each way that a stranger's bytes come in, with the files to start from and what opens them."""

from __future__ import annotations

import contextlib
import functools
import io
import time
import traceback
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path

import corpus
import mutations
import numpy as np
from mutations import Mutator

import conversion
from conversion.checkpoint import open_for_loading
from conversion.containers.hdf5_file import read_hdf5
from conversion.containers.keras_file import described_in_hdf5, described_in_keras, read_keras
from conversion.containers.msgpack_file import read_msgpack
from conversion.containers.npz_file import read_npz
from conversion.containers.torch_file import read_torch_file
from conversion.containers.weights_file import described_in
from conversion.sources import open_files
from vit_cli.info import describe, show_info
from vit_cli.licence import licence_of
from vit_core import AutoImageProcessor, ViTConfig, ViTImageProcessor, parameters
from vit_core.auto import AutoConfig
from vit_core.checkpoint import open_checkpoint
from vit_core.families import family_of
from vit_core.file_names import CONFIG_NAME, MODEL_CARD_NAME, PROCESSOR_NAME, WEIGHTS_NAME
from vit_core.hub import locate
from vit_core.loading_options import request
from vit_core.pretrained import prepare_loading
from vit_core.safetensors_file import map_safetensors
from vit_core.saving import COMMITTED, REPLACED, finish_interrupted_save
from vit_core.stored_tensor import DTYPES, StoredTensor

EXPECTED = (ValueError, TypeError, OSError)
MEBIBYTE = 2**20
MOST_MEMORY = 300 * MEBIBYTE  # beside what tensors and pixels honestly need
MOST_VALUES = 64 * MEBIBYTE  # of tensors that are read of one file, one at a time
LONGEST_MESSAGE = 2000  # letters: a sentence or two, with what the file says cut to some

#: What an opening came to, the same for two files that came to the same: it tells new ways from old ones.
Outcome = Hashable
Open = Callable[[Path], Outcome]


#: Of what was opened last, the seconds of a processor that each way of opening it took.
seconds: list[float] = []


class Spoken(Exception):
    """A message that a file could say something with."""


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        seeds: the files to start from.
        mutate: changes them.
        open: opens a file as the package does, and reads what is in it.
        name: what such a file is called.
        beside: other files of its folder.
        words: texts that mean something in such files.
        most_memory: bytes that opening one may take.
        with_library: whether HDF5 files that our reader does not know go on to the library, which takes a second each.
    """

    seeds: Callable[[], Iterator[bytes]]
    mutate: Mutator
    open: Open
    name: str = "file"
    beside: Callable[[], dict[str, bytes]] = dict
    words: tuple[bytes, ...] = ()
    most_memory: int = MOST_MEMORY
    with_library: bool = False


def place_of(error: BaseException) -> Outcome:
    """Where an error was raised, and where those that it was made of."""
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    cause = error.__cause__
    return (type(error).__name__, *lines, place_of(cause) if cause else None)


def tried(*actions: Callable[[], Outcome]) -> Outcome:
    """What each of some actions came to, with the errors that a file may raise.

    Raises:
        Spoken: a message is no plain sentence or two.
    """
    found = []
    for action in actions:
        began = time.process_time()
        try:
            found.append(action())
        except EXPECTED as error:
            message = str(error)
            if not message.isprintable() or len(message) > LONGEST_MESSAGE:
                raise Spoken(f"{len(message)} letters: {message[:3000]!r}") from error
            found.append(place_of(error))
        finally:
            seconds.append(time.process_time() - began)
    return tuple(found)


def read_all(tensors: dict[str, StoredTensor]) -> Outcome:
    """Read tensors, as far as there is time; each must be what was said of it."""
    done = 0
    for name, tensor in tensors.items():
        done += tensor.nbytes
        if done > MOST_VALUES:
            break
        array = tensor.read()
        assert array.shape == tensor.shape, name
        assert array.dtype == np.dtype(DTYPES[tensor.dtype]), name
        array.tobytes()
    return len(tensors).bit_length(), frozenset((tensor.dtype, len(tensor.shape)) for tensor in tensors.values())


def container(read: Callable[..., dict[str, StoredTensor]], *described: Callable[[Path], object]) -> Open:
    """Open a file of weights and read it, mapped and not."""

    def open_it(path: Path) -> Outcome:
        return tried(
            lambda: read_all(read(path)),
            lambda: len(read(path, mmap=False)).bit_length(),
            *((lambda describe=describe: bool(describe(path))) for describe in described),
        )

    return open_it


def load(path: Path) -> Outcome:
    """Whatever opens a checkpoint; what a backend does before there is a model comes last."""
    return tried(
        lambda: conversion.load(path).format,
        lambda: len(open_for_loading(locate(path), {}).tensors).bit_length(),
        lambda: describe(str(path))["format"],
        lambda: bool(described_in(path)) if path.is_file() else None,
        lambda: planned(path),
    )


def planned(path: Path) -> Outcome:
    loading = prepare_loading(
        path, request({}), config=None, config_class=ViTConfig, ignore_mismatched_sizes=False, opener=open_for_loading
    )
    plan = loading.plan(parameters(loading.config))
    return len(plan.missing_names).bit_length()


def config(path: Path) -> Outcome:
    """A config beside weights: as a config, as the description of a model, and on a terminal."""

    def table() -> Outcome:
        read = AutoConfig.from_pretrained(path.parent)
        read.to_json_string()
        return [len(parameters(read, task)).bit_length() for task in family_of(read).models][-1]

    def shown() -> Outcome:
        with contextlib.redirect_stdout(io.StringIO()) as screen:
            show_info(str(path.parent))
        text = screen.getvalue()
        if not text.replace("\n", "").isprintable():
            raise Spoken(repr(text[:3000]))
        return None

    return tried(
        table,
        lambda: ViTConfig.from_pretrained(path).hidden_act,
        lambda: type(AutoImageProcessor.from_pretrained(path.parent)).__name__,
        lambda: type(conversion.AutoImageProcessor.from_pretrained(path.parent)).__name__,
        shown,
        lambda: load(path.parent),
    )


def preprocessor(path: Path) -> Outcome:
    image = np.zeros((8, 12, 3), np.uint8)

    def processed(kind: type) -> Outcome:
        processor = kind.from_pretrained(path)
        processor.to_json_string()
        return type(processor).__name__, len(processor([image], return_tensors="np")["pixel_values"])

    return tried(lambda: processed(AutoImageProcessor), lambda: processed(ViTImageProcessor))


def index(path: Path) -> Outcome:
    return tried(
        lambda: read_all(open_checkpoint(locate(path.parent)).tensors),
        lambda: len(conversion.load(path.parent).tensors).bit_length(),
    )


def card(path: Path) -> Outcome:
    return tried(lambda: bool(licence_of(locate(path.parent), {})))


def beside_weights(path: Path) -> Outcome:
    return tried(lambda: len(open_files(locate(path.parent)).tensors).bit_length(), lambda: load(path.parent))


def interrupted(path: Path) -> Outcome:
    """The list of what a save replaces, in a folder where that save was interrupted."""
    folder = path.with_name("interrupted")
    corpus.put(folder / COMMITTED, {REPLACED: path.read_bytes(), CONFIG_NAME: b"{}"})
    corpus.put(folder, {WEIGHTS_NAME: b"", "kept.txt": b""})
    outcome = tried(lambda: finish_interrupted_save(folder))
    assert (folder / "kept.txt").exists()
    assert path.exists()
    (folder / WEIGHTS_NAME).unlink(missing_ok=True)
    return outcome


@functools.cache
def bundled_processor() -> ViTImageProcessor:
    return AutoImageProcessor.from_pretrained("bundled/vit-digits")


def image(path: Path) -> Outcome:
    return tried(lambda: bundled_processor()(path, return_tensors="np")["pixel_values"].shape)


JSON_WORDS = (
    b"null",
    b"NaN",
    b"-Infinity",
    b"[[[[",
    b'"":',
    b'{"a":1}',
    b"1e999",
    b"\\ud800",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
)
PICKLE_WORDS = (
    *(
        b"\x80\x02",
        b"cos\nsystem\n",
        b"cbuiltins\nlist\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch\nFloatStorage\n",
    ),
    *(b"ccollections\nOrderedDict\n", b")R", b"(l.", b"\x8a\xff", b"\x8b\xff\xff\xff\x7f", b"X\xff\xff\xff\xff", b"Q."),
)
YAML_WORDS = (
    *(
        b"---\n",
        b"&a [*a,*a,*a]",
        b"*a",
        b"!!python/object/apply:os.system [id]",
        b"<<: *a",
        b"? ",
        b"|-\n",
        b"{{{{",
        b"[[[[",
    ),
    *(b"license: [mit]\n", b"license: 2024-01-01\n", b"license_link: 0x1\n", b"1:1:1", b"!!binary", b"\t", b"- " * 100),
)
MODEL_PICKLE = {"data.pkl": mutations.of_pickles, "constants.pkl": mutations.of_pickles}

TARGETS: dict[str, Target] = {
    "safetensors": Target(corpus.safetensors, mutations.of_safetensors, container(map_safetensors), words=JSON_WORDS),
    "torch-archive": Target(
        corpus.torch_archives, mutations.of_zip(MODEL_PICKLE), container(read_torch_file), words=PICKLE_WORDS
    ),
    "torch-stream": Target(corpus.torch_streams, mutations.of_pickles, container(read_torch_file), words=PICKLE_WORDS),
    "torch-script": Target(
        lambda: iter(()), mutations.of_zip(MODEL_PICKLE), container(read_torch_file), words=PICKLE_WORDS
    ),
    "npz": Target(
        corpus.npz,
        mutations.of_zip({".npy": mutations.of_bytes}),
        container(read_npz),
        words=(b"'descr': '<f4'", b"(1,)"),
    ),
    "hdf5": Target(
        corpus.hdf5, mutations.of_hdf5, container(read_hdf5, described_in_hdf5), words=(b"TREE", b"HEAP", b"SNOD")
    ),
    "hdf5-library": Target(corpus.hdf5_of_library, mutations.of_hdf5, container(read_hdf5), with_library=True),
    "msgpack": Target(
        corpus.msgpack, mutations.of_msgpack, container(read_msgpack), words=(b"\xdf\xff\xff\xff\xff", b"\x91")
    ),
    "keras": Target(
        corpus.keras,
        mutations.of_zip({".json": mutations.of_json, ".h5": mutations.of_hdf5}),
        container(read_keras, described_in_keras),
        words=JSON_WORDS,
    ),
    "checkpoint": Target(corpus.checkpoints, mutations.of_any, load),
    "config": Target(
        corpus.configs,
        mutations.of_json,
        config,
        CONFIG_NAME,
        corpus.whole_model,
        JSON_WORDS,
    ),
    "preprocessor": Target(corpus.preprocessors, mutations.of_json, preprocessor, PROCESSOR_NAME, words=JSON_WORDS),
    "index": Target(corpus.indexes, mutations.of_json, index, f"{WEIGHTS_NAME}.index.json", corpus.shards, JSON_WORDS),
    "card": Target(corpus.cards, mutations.of_bytes, card, MODEL_CARD_NAME, words=YAML_WORDS),
    "task": Target(corpus.tasks, mutations.of_json, beside_weights, "task.json", corpus.keras_hub_preset, JSON_WORDS),
    "adapter": Target(
        corpus.adapters, mutations.of_json, beside_weights, "adapter_config.json", corpus.adapter_weights, JSON_WORDS
    ),
    "interrupted": Target(corpus.staged, mutations.of_json, interrupted, "list.json", words=JSON_WORDS),
    "image": Target(corpus.images, mutations.of_png, image, most_memory=MOST_MEMORY + 4 * 2**24),
}
