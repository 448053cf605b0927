"""Small files that claim, or unpack to, a thousand times what they hold; each is opened in a process of its own.

The kinds: zip and JSON bombs (CWE-409, CVE-2019-9674), decompression bombs of images (CVE-2014-9601, CVE-2023-44271),
work that grows with the square of what a name repeats (CWE-407), and sizes in a config (CVE-2024-8768's kind).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import shutil
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import conversion
from conversion.checkpoint import open_for_loading
from vit_cli import main
from vit_cli.info import describe
from vit_cli.licence import licence_of
from vit_core import AutoImageProcessor, ViTConfig, parameters
from vit_core.hub import locate
from vit_core.loading_options import request
from vit_core.loading_plan import require_memory
from vit_core.pretrained import prepare_loading

# What the child runs needs no thread of the libraries that other tests have started.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning")

MOST_MEMORY, MOST_SECONDS = 300 * 2**20, 6  # of processor time; each has taken less than two, and before, seventeen
MIB = 2**20
FILES = Path(__file__).with_name("files")
EXPECTED = (ValueError, TypeError, OSError)
SIZES = {"hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 20, "image_size": 16, "patch_size": 8}
CONFIG = {"model_type": "vit", "num_hidden_layers": 3, **SIZES, "architectures": ["ViTModel"]}


def safetensors(entries: dict[str, list[int]], data: bytes = b"") -> bytes:
    """Tensors of no bytes, but for the first one, which has them all."""
    header = {name: {"dtype": "F16", "shape": shape, "data_offsets": [0, 0]} for name, shape in entries.items()}
    for each in list(header.values())[:1]:
        each["data_offsets"] = [0, len(data)]
    for each in list(header.values())[1:]:
        each["data_offsets"] = [len(data), len(data)]
    return framed(json.dumps(header, separators=(",", ":")).encode()) + data


def framed(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def zeros(count: int) -> bytes:
    """So many zeros, deflated (RFC 1950) in no time: what a mebibyte becomes, again and again."""
    whole, rest = divmod(count, MIB)
    packer = zlib.compressobj(9, wbits=-15)
    mebibyte = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = packer.compress(bytes(rest)) + packer.flush()
    return b"\x78\xda" + mebibyte * whole + end + struct.pack(">I", (count % 65521) << 16 | 1)


def png(width: int, height: int, bits: int, color: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zeros(height * (1 + width * bits // 8 * (4 if color == 6 else 1)))
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def opened(path: Path) -> None:
    """Whatever opens a checkpoint without reading its values."""
    for open_it in (conversion.load, lambda source: open_for_loading(locate(source), {}), describe):
        with contextlib.suppress(*EXPECTED):
            open_it(str(path))


def loaded(path: Path) -> None:
    opened(path)
    prepare_loading(
        path, request({}), config=None, config_class=ViTConfig, ignore_mismatched_sizes=False, opener=open_for_loading
    )


def file(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def sparse_directory(folder: Path) -> Path:
    """Eight kilobytes on the disk, and a directory of six gigabytes by what its end says."""
    size = 6 * 2**30
    with open(folder / "vit.npz", "wb") as out:
        out.write(b"PK\x03\x04" + bytes(4092))
        out.seek(4096 + size)
        out.write(b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, size, 4096))
        out.write(b"PK\x06\x07" + struct.pack("<IQI", 0, 4096 + size, 1))
        out.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
    return folder / "vit.npz"


def with_config(config: dict, weights: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").write_bytes(weights)
        return folder

    return write


def vit(layers: int) -> bytes:
    config = ViTConfig(**{**SIZES, "num_hidden_layers": layers})
    rows = parameters(config, "model", add_pooling_layer=False)
    at, header = 0, {}
    for row in rows:
        header[row.name] = {"dtype": "F32", "shape": row.shape, "data_offsets": [at, at + 4 * row.size]}
        at += 4 * row.size
    return framed(json.dumps(header).encode()) + bytes(at)


PATCHES = "embeddings.patch_embeddings.projection.weight"
SCANNED = "Transformer/encoderblock/"
GOOGLE = {"cls": [1, 1, 8], "embedding/kernel": [4, 4, 3, 8], "Transformer/encoder_norm/scale": [8]}
GOOGLE |= {"Transformer/posembed_input/pos_embedding": [1, 5, 8]}
#: Names that each format looks for, so that all of them look.
SIGNED = sorted({name for form in conversion.formats.FORMATS.values() for name in form.signature})

#: {what it is: (what writes it, what opens it)}
ATTACKS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], None]]] = {
    "zip directory of 6 GB": (sparse_directory, opened),
    "scanned layers without values": (
        file(
            "vit.safetensors",
            safetensors({f"{SCANNED}{i}": [9999, 0] for i in range(100)} | {name: [0] for name in GOOGLE}),
        ),
        opened,
    ),
    "scanned layers of one value": (
        file(
            "vit.safetensors",
            framed(
                json.dumps(
                    {
                        name: {"dtype": "U8", "shape": shape, "data_offsets": [start, start + 1000]}
                        for i in range(900)
                        for name, shape, start in [(f"{SCANNED}{i}", [1000, 1], 1000 * i)]
                    }
                    | {name: {"dtype": "U8", "shape": [0], "data_offsets": [900_000, 900_000]} for name in GOOGLE}
                ).encode()
            )
            + bytes(900_000),
        ),
        opened,
    ),
    "8000 wrappers": (
        file("vit.safetensors", safetensors({f"w{i}.{name}": [0] for i in range(8000) for name in [PATCHES]})),
        opened,
    ),
    "64 wrappers in one another": (
        file(
            "vit.safetensors",
            safetensors(
                {"a." * depth + name: [0] for depth in range(1, 64) for name in SIGNED}
                | {"a." * 63 + f"x{i}": [0] for i in range(3000)}
            ),
        ),
        opened,
    ),
    "a name of dots": (file("vit.safetensors", safetensors({"." * 500_000 + PATCHES: [0], PATCHES: [0]})), opened),
    "config of 2**24 heads": (
        with_config({**CONFIG, "hidden_size": 2**24, "num_attention_heads": 2**24, "pruned_heads": {"0": [1]}}, vit(3)),
        loaded,
    ),
    "config of 10000 layers": (with_config({**CONFIG, "num_hidden_layers": 10_000}, vit(3)), loaded),
    "config of 1000 layers": (with_config({**CONFIG, "num_hidden_layers": 1000}, vit(3)), loaded),
    "config of nothing but lists": (
        file("config.json", b'{"a":[' + b"[]," * 5_000_000 + b"[]]}"),
        ViTConfig.from_pretrained,
    ),
    "header of nothing but lists": (file("vit.safetensors", framed(b'{"a":[' + b"[]," * 30_000_000 + b"[]]}")), opened),
    "model card of 200000 lines of YAML": (
        file("README.md", b"---\nlicense: mit\nx:\n" + b"- a\n" * 200_000 + b"---\n"),
        lambda path: licence_of(locate(path.parent), {}),
    ),
    "settings of 8192 x 8192": (
        file(
            "preprocessor_config.json", json.dumps({"image_processor_type": "ViTImageProcessor", "size": 8192}).encode()
        ),
        lambda path: AutoImageProcessor.from_pretrained(path)([np.zeros((8, 8, 3), np.uint8)] * 8),
    ),
    "settings of 2896 x 2896": (
        file(
            "preprocessor_config.json", json.dumps({"image_processor_type": "ViTImageProcessor", "size": 2896}).encode()
        ),
        lambda path: AutoImageProcessor.from_pretrained(path)(np.zeros((8, 8, 3), np.uint8)),
    ),
}


def processed(path: Path) -> None:
    AutoImageProcessor.from_pretrained("bundled/vit-digits")(path, return_tensors="np")


def webp(size: int) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        Image.new("RGB", (size, size)).save(folder / "image.webp", quality=0, method=0)
        return folder / "image.webp"

    return write


def icon(inner: bytes) -> bytes:
    """An icon of 16 x 16 pixels, by its header, which PIL believes until it decodes what is inside."""
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + inner


def iptc(inner: bytes) -> bytes:
    """A record of 10 x 10 pixels, by its header, in which PIL opens a file of any format."""

    def part(record: int, kind: int, data: bytes) -> bytes:
        return struct.pack(">BBBBBI", 0x1C, record, kind, 132, 4, len(data)) + data

    sizes = part(3, 20, struct.pack(">H", 10)) + part(3, 30, struct.pack(">H", 10))
    return part(3, 60, b"\1\0") + sizes + part(3, 120, b"\5") + part(8, 10, inner) + part(9, 0, b"")


def jpeg_of_scans(count: int) -> bytes:
    """A JPEG of 16 million pixels whose first color is decoded so often, from nothing."""
    packed = BytesIO()
    Image.new("RGB", (4096, 4096), 128).save(packed, "JPEG", quality=1)
    head, _, _ = packed.getvalue().partition(b"\xff\xda")
    return head + bytes.fromhex("ffda0008 0101 00003f00") * count + b"\xff\xd9"


def tiff_of_one_tile(size: int) -> bytes:
    """A TIFF of 10 x 10 pixels in a tile of another size."""
    tile = zeros(size * size)
    tags = {256: 10, 257: 10, 258: 8, 259: 8, 262: 1, 322: size, 323: size, 324: 1000, 325: len(tile)}
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + fields + bytes(4)
    return head.ljust(1000, b"\0") + tile


IMAGES = {
    "AVIF of 268 million pixels that says 256": file("image.avif", (FILES / "268_million_pixels.avif").read_bytes()),
    "IPTC with 169 million pixels inside": file("image.iptc", iptc(png(13000, 13000, 8, 6))),
    "JPEG of 3000 passes": file("image.jpg", jpeg_of_scans(3000)),
    "TIFF of 100 pixels in a tile of 441 million": file("image.tiff", tiff_of_one_tile(21_000)),
    "icon with 169 million pixels inside": file("icon.ico", icon(png(13000, 13000, 8, 6))),
    "PNG of 89 million gray pixels": file("image.png", png(9400, 9400, 16, 0)),
    "PNG of 16 million gray pixels": file("image.png", png(4000, 4000, 16, 0)),
    "PNG of 16 million colors": file("image.png", png(4000, 4000, 8, 6)),
    "WebP of 89 million pixels": webp(9400),
    "WebP of 16 million pixels": webp(4000),
}


def peak(action: Callable[[], object]) -> tuple[int, float]:
    """The memory that an action takes beyond what there is, and its seconds of processor time."""
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
        status = 1
        try:
            warnings.simplefilter("ignore")
            action()
            status = 0
        except EXPECTED:
            status = 0
        except BaseException as error:
            print(repr(error)[:2000], file=sys.stderr)
        finally:
            os._exit(status)
    _, status, used = os.wait4(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return 1024 * used.ru_maxrss - before, used.ru_utime + used.ru_stime


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_small_file_takes_little_memory_and_time(kind: str, tmp_path: Path) -> None:
    write, open_it = ATTACKS[kind]
    path = write(tmp_path)
    memory, seconds = peak(lambda: open_it(path))
    print(f"\n{kind}: {memory / MIB:.0f} MiB, {seconds:.2f} s")
    assert memory < MOST_MEMORY
    assert seconds < MOST_SECONDS


@pytest.mark.parametrize("kind", IMAGES)
def test_a_small_image_file_takes_little_memory_beside_its_pixels(kind: str, tmp_path: Path) -> None:
    path = IMAGES[kind](tmp_path)
    memory, seconds = peak(lambda: processed(path))
    print(f"\n{kind}: {path.stat().st_size} bytes, {memory / MIB:.0f} MiB, {seconds:.2f} s")
    assert memory < MOST_MEMORY + 4 * 2**24
    assert seconds < MOST_SECONDS


def test_settings_are_compared_with_the_model_before_images_are_made(
    tmp_path: Path, fixture_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(fixture_folder / "hf_vit_classifier", tmp_path / "vit")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "size": {"height": 2896, "width": 2896}}))
    image = fixture_folder / "image_processing/photo.jpg"
    assert main(["classify", *[str(image)] * 32, "--model", str(folder)]) == 1
    assert "preprocessor_config.json makes them 2896 x 2896" in capsys.readouterr().err


def test_new_weights_are_weighed_against_what_the_process_may_have() -> None:
    config = ViTConfig(hidden_size=2**14, num_attention_heads=1, intermediate_size=2**14)  # some 70 GiB
    row = parameters(config)[-1]

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
        with pytest.raises(ValueError, match=r"of new weights, but this process may have \d"):
            require_memory([dataclasses.replace(row, shape=(2**16, 2**15))], config)  # 8 GiB

    peak(limited)
