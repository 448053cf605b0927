"""The files that fuzzing starts from: small ones, written by this project's own writers, by h5py, numpy and PIL."""

from __future__ import annotations

import io
import json
import os
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from conversion.containers.hdf5_file import write_hdf5
from conversion.containers.msgpack_file import write_msgpack
from conversion.containers.npz_file import write_npz
from conversion.containers.torch_file import MAGIC_NUMBER, PROTOCOL_VERSION, write_torch_file
from conversion.containers.weights_file import CONTAINERS
from conversion.formats import FORMATS
from vit_core import AutoImageProcessor, ViTConfig, parameters
from vit_core.auto import CONFIGS
from vit_core.image_file import NESTING_FORMATS, VECTOR_FORMATS
from vit_core.safetensors_file import write_safetensors
from vit_core.stored_tensor import DTYPES, StoredTensor, from_numpy

FIXTURES = Path(__file__).parents[1] / "fixtures"
KEPT = Path(__file__).parent / "seeds"  # findings of before, and files of other writers: a folder for each target

SIZES = {"hidden_size": 4, "num_attention_heads": 2, "intermediate_size": 6, "image_size": 8, "patch_size": 4}
CONFIG = {"model_type": "vit", "num_hidden_layers": 2, **SIZES, "architectures": ["ViTForImageClassification"]}

Write = Callable[[Path], object]


def written(write: Write, name: str = "file") -> bytes:
    """What a function writes to a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


def tensors() -> dict[str, StoredTensor]:
    """A tensor of each dtype, some in groups, one empty and one without axes."""
    arrays = {f"of/{code}": np.arange(6).astype(dtype).reshape(2, 3) for code, dtype in DTYPES.items()}
    arrays |= {"empty": np.zeros((0, 2), "f4"), "single": np.float32(1).reshape(())}
    return {name: from_numpy(array) for name, array in arrays.items()}


def vit_tensors() -> dict[str, StoredTensor]:
    """A whole model."""
    rows = parameters(
        ViTConfig(**{name: value for name, value in CONFIG.items() if name != "model_type"}), "image-classification"
    )
    return {row.name: from_numpy(np.zeros(row.shape, "f4")) for row in rows}


def safetensors() -> Iterator[bytes]:
    for some in (tensors(), vit_tensors(), {}):
        yield written(lambda path, some=some: write_safetensors(path, some))


def torch_archives() -> Iterator[bytes]:
    for some, inside in ((tensors(), ""), (vit_tensors(), "model")):
        yield written(lambda path, some=some, inside=inside: write_torch_file(path, some, inside))


def torch_streams() -> Iterator[bytes]:
    """Files in the layout before PyTorch 1.6, from the pickle and the storages of an archive."""
    for archive in torch_archives():
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            pickled = opened.read("archive/data.pkl")
            count = sum("/data/" in name for name in opened.namelist())
            storages = [opened.read(f"archive/data/{key}") for key in range(count)]
        some = tensors() if count == len(tensors()) else vit_tensors()
        counts = [int(np.prod(tensor.shape)) for tensor in some.values()]
        machine = {"protocol_version": PROTOCOL_VERSION, "little_endian": True, "type_sizes": {"int": 4}}
        head = b"".join(pickle.dumps(each, 2) for each in (MAGIC_NUMBER, PROTOCOL_VERSION, machine))
        keys = pickle.dumps([str(key) for key in range(count)], 2)
        pairs = zip(counts, storages, strict=True)
        yield head + pickled + keys + b"".join(each.to_bytes(8, "little") + values for each, values in pairs)
    yield b"a".ljust(257, b"\0") + b"ustar\x0000" + bytes(248)


def npz() -> Iterator[bytes]:
    for some in (tensors(), vit_tensors()):
        yield written(lambda path, some=some: write_npz(path, some))
    for save in (np.savez, np.savez_compressed):
        packed = io.BytesIO()
        save(packed, a=np.arange(6.0).reshape(2, 3), b=np.asfortranarray(np.ones((3, 2), ">f4")), c=np.zeros(1000, "?"))
        yield packed.getvalue()


def hdf5() -> Iterator[bytes]:
    import h5py

    described = {"": {"model_config": json.dumps({"config": CONFIG}), "layer_names": ["a", "b"]}}
    for some, attributes in ((tensors(), None), (vit_tensors(), described)):
        yield written(lambda path, some=some, attributes=attributes: write_hdf5(path, some, attributes))

    def of_chunks(path: Path) -> None:
        with h5py.File(path, "w") as file:
            values = np.arange(60, dtype="f4").reshape(6, 10)
            file.create_dataset("plain", data=values, chunks=(4, 4))
            file.create_dataset("gzip", data=values, chunks=(2, 10), compression="gzip")
            file.create_dataset("shuffled", data=values, chunks=(3, 5), shuffle=True)
            file.create_dataset(
                "zeros", data=np.zeros((100, 1000), ">f8"), chunks=(50, 1000), compression="gzip", shuffle=True
            )
            file["group/bool"] = np.ones(3, "?")
            file.attrs["model_config"] = json.dumps(CONFIG)  # of variable length

    yield written(of_chunks)


def hdf5_of_library() -> Iterator[bytes]:
    """Files in layouts that the HDF5 library reads for us."""
    import h5py

    def newest(path: Path) -> None:
        values = np.arange(60, dtype="f4").reshape(6, 10)
        with h5py.File(path, "w", libver="latest", track_order=True) as file:
            file["group/plain"] = values
            file.create_dataset("scaled", data=values, chunks=(3, 5), fletcher32=True)

    def of_lzf(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("lzf", data=np.zeros((20, 30), "f4"), chunks=(3, 5), compression="lzf", shuffle=True)

    yield from map(written, (newest, of_lzf))


def msgpack() -> Iterator[bytes]:
    for some in (tensors(), vit_tensors()):
        yield written(lambda path, some=some: write_msgpack(path, some))
    import msgpack as library

    piece = library.packb([[3], "float32", bytes(12)])
    split = {
        "__msgpack_chunked_array__": True,
        "shape": {"0": 6},
        "chunks": {str(i): library.ExtType(1, piece) for i in range(2)},
    }
    yield library.packb(
        {"x": split, "list": [library.ExtType(1, piece), 1, -1, 0.5, None, "text", b"bytes"], "step": 7}
    )


def keras() -> Iterator[bytes]:
    described = {"class_name": "Functional", "config": {"layers": [{"config": CONFIG}]}, "registered_name": None}
    for weights in list(hdf5())[1:]:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
            archive.writestr("config.json", json.dumps(described))
            archive.writestr("model.weights.h5", weights)
        yield packed.getvalue()


def checkpoints() -> Iterator[bytes]:
    """Files of models in every format that is written, and in some that others have published."""
    yield from (next(each) for each in (torch_archives(), torch_streams()))
    for container in CONTAINERS.values():
        if container.write is not None:
            yield written(lambda path, write=container.write: write(path, vit_tensors()))
    for name in ("google_jax/published.npz", "timm_vit/model.safetensors", "keras_functional/classifier.keras"):
        yield (FIXTURES / name).read_bytes()
    for form in FORMATS.values():  # names alone, which is what a format is known by
        names = dict.fromkeys(form.signature, from_numpy(np.zeros((2, 2), "f4")))
        yield written(lambda path, names=names: write_safetensors(path, names))


def configs() -> Iterator[bytes]:
    yield json.dumps(CONFIG).encode()
    for config_class in CONFIGS.values():
        yield config_class().to_json_string(use_diff=False).encode()
    yield json.dumps(
        {
            "architecture": "vit_base_patch16_224",
            "num_classes": 3,
            "model_args": {"depth": 2},
            "pretrained_cfg": {"input_size": [3, 8, 8], "mean": [0.5] * 3, "license": "mit"},
        }
    ).encode()
    for path in sorted(FIXTURES.glob("keras_hub/*/config.json")) + sorted(FIXTURES.glob("timm_[aer]*/config.json")):
        yield path.read_bytes()


def preprocessors() -> Iterator[bytes]:
    for path in sorted(FIXTURES.glob("*/preprocessor_config.json")):
        yield path.read_bytes()
    for name in ("ViT", "DeiT", "Beit", "CLIP", "Bit", "Siglip"):
        settings = {"image_processor_type": f"{name}ImageProcessor", "size": {"height": 8, "width": 8}, "crop_size": 4}
        yield json.dumps(
            {**settings, "do_center_crop": True, "resample": 3, "image_mean": [0.5] * 3, "image_std": 0.5}
        ).encode()
    yield AutoImageProcessor.from_pretrained("bundled/vit-digits").to_json_string().encode()


def whole_model() -> dict[str, bytes]:
    return {"model.safetensors": written(lambda path: write_safetensors(path, vit_tensors()))}


#: The shards that an index names.
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def shards() -> dict[str, bytes]:
    some = [*vit_tensors().items()]
    halves = (dict(some[:5]), dict(some[5:]))
    return {
        name: written(lambda path, half=half: write_safetensors(path, half))
        for name, half in zip(SHARDS, halves, strict=True)
    }


def indexes() -> Iterator[bytes]:
    names = [*vit_tensors()]
    weight_map = {name: SHARDS[number >= 5] for number, name in enumerate(names)}
    yield json.dumps({"metadata": {"total_size": 1000}, "weight_map": weight_map}, indent=2).encode()
    yield json.dumps({"weight_map": {f"model/{name}": shard for name, shard in weight_map.items()}}).encode()


def cards() -> Iterator[bytes]:
    yield b"---\nlicense: apache-2.0\ntags:\n- vision\n---\n\n# A model\n"
    yield b"---\nlicense: other\nlicense_name: own\nlicense_link: x\nmodel-index:\n- results: [{a: &a 1}, *a]\n---\n"
    yield b"# No fields\n"


def tasks() -> Iterator[bytes]:
    backbone = {"class_name": "ViTBackbone", "registered_name": "keras_hub>ViTBackbone", "config": {"num_layers": 2}}
    yield json.dumps(
        {"class_name": "ViTImageClassifier", "config": {"backbone": backbone, "num_classes": 3, "pooling": "token"}}
    ).encode()


def keras_hub_preset() -> dict[str, bytes]:
    """A backbone, and a file of what a task adds to it."""
    folder = FIXTURES / "keras_hub/dinov2"
    head = {"_layer_checkpoint_dependencies/predictions/vars/0": from_numpy(np.zeros((32, 3), "f4"))}
    return {
        **{name: (folder / name).read_bytes() for name in ("config.json", "model.weights.h5")},
        "task.weights.h5": written(lambda path: write_hdf5(path, head)),
    }


def adapters() -> Iterator[bytes]:
    yield json.dumps({"base_model_name_or_path": "google/vit", "peft_type": "LORA", "r": 4}).encode()


def adapter_weights() -> dict[str, bytes]:
    some = {f"base_model.model.query.lora_{part}.weight": from_numpy(np.zeros((2, 2), "f4")) for part in "AB"}
    return {"adapter_model.safetensors": written(lambda path: write_safetensors(path, some))}


def staged() -> Iterator[bytes]:
    yield json.dumps(["model.safetensors", "model-00001-of-00002.safetensors"]).encode()


def images() -> Iterator[bytes]:
    """A small picture in each format that PIL writes, in the modes that it takes, with what can be chosen in it."""
    Image.init()
    gradient = np.add.outer(np.arange(0, 96, 8), np.arange(0, 128, 8))
    pixels = np.stack([gradient, gradient[::-1], 255 - gradient], -1).astype(np.uint8)
    options = [
        {},
        {"compression": "tiff_lzw"},
        {"compression": "tiff_deflate"},
        {"compression": "packbits"},
        {"progressive": True},
    ]
    for form in sorted(Image.SAVE.keys() - VECTOR_FORMATS - NESTING_FORMATS - {"PDF", "BUFR", "GRIB", "HDF5"}):
        seen = set()
        for mode in ("RGB", "L", "1", "P", "RGBA", "CMYK", "I;16", "F"):
            for chosen in options if form in ("TIFF", "JPEG") else options[:1]:
                packed = io.BytesIO()
                try:
                    with warnings.catch_warnings(action="ignore"):  # of formats that PIL will drop
                        Image.fromarray(pixels).convert(mode).save(packed, form, **chosen)
                except (OSError, ValueError, KeyError, TypeError):  # which this format has not
                    continue
                if packed.getvalue() not in seen:
                    seen.add(packed.getvalue())
                    yield packed.getvalue()
    for path in sorted((FIXTURES / "image_processing").glob("*.[pj][np]g")):
        yield path.read_bytes()


def kept(target: str) -> dict[str, bytes]:
    """The files that are kept for a target, by name."""
    folder = KEPT / target
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.is_dir() else {}


def put(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        os.makedirs(path.parent, exist_ok=True)
        path.write_bytes(content)
