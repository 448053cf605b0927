"""What the pickles in PyTorch's files may name, and what becomes of it here.

A pickle names classes and functions to be called. Of all names only those in `ADMITTED` are known, and none of them is
looked up anywhere: a function that rebuilds a tensor checks its arguments and describes where the values lie, types of
storages stand for their dtype, and what training scripts keep beside their weights becomes `INERT`, whatever it holds.

What PyTorch writes is in torch/_utils.py, torch/_tensor.py and torch/serialization.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vit_core.checks import shown
from vit_core.stored_tensor import DTYPES, FLOAT_NAMES, is_shape, is_size


class Pairs(list[tuple[Any, Any]]):
    """A dictionary as pairs of key and value, so that nothing a file says is hashed or compared."""

    def __repr__(self) -> str:
        return "{...}"  # it may be nested without end


class OrderedPairs(Pairs):
    """An `OrderedDict`, which may have attributes, too."""


class Inert:
    """What a file holds beside tensors and plain data; of its content nothing is kept."""

    def __repr__(self) -> str:
        return "..."


INERT = Inert()


class ScriptModule:
    """A module of a TorchScript program, of whose class nothing is known but the name.

    Attributes:
        class_name: its class, such as "__torch__.torch.nn.modules.linear.Linear".
        attributes: what it holds, once the pickle has said it.
    """

    def __init__(self, class_name: str) -> None:
        self.class_name = class_name
        self.attributes: Pairs | None = None

    def __repr__(self) -> str:
        return f"<{self.class_name}>"  # it may be nested without end


@dataclass(frozen=True, slots=True)
class Storage:
    """A stretch of values in a file.

    Attributes:
        key: its name there.
        dtype: a name of `vit_core.stored_tensor.DTYPES`; "U8" if it holds bytes of no type.
        count: its number of values.
        start: its first byte under that key; not 0 only in old files, which knew views of storages.
    """

    key: str
    dtype: str
    count: int
    start: int = 0

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.count * itemsize(self.dtype)


@dataclass(frozen=True, slots=True)
class PickledTensor:
    """A tensor as a window on a storage; it has been checked to lie inside.

    Attributes:
        storage: where its values are.
        dtype: a name of `vit_core.stored_tensor.DTYPES`.
        offset: where in the storage its first value is, in values.
        shape: its shape.
        strides: for each axis the distance between neighbours in values; 0 or more.
    """

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size in bytes, which is more than its storage's if its rows overlap."""
        return math.prod(self.shape) * itemsize(self.dtype)

    @property
    def is_contiguous(self) -> bool:
        """Whether its values lie one after the other."""
        step = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != step:
                return not math.prod(self.shape)
            step *= size
        return True


@dataclass(frozen=True)
class Name:
    """Something that a pickle may name.

    Attributes:
        text: its name.
        make: what becomes of a call with these arguments; None if it is not called.
        dtype: the dtype that it is or that its storages have; empty for others.
        is_storage: whether it is a type of storages.
    """

    text: str
    make: Callable[[tuple[Any, ...]], Any] | None = None
    dtype: str = ""
    is_storage: bool = False


def admitted(module: str, name: str) -> Name:
    """What stands for a module's class or function.

    Raises:
        ValueError: it is not admitted. The text goes on from the file's name.
    """
    if found := ADMITTED.get((module, name)):
        return found
    text = shown(f"{module}.{name}")[1:-1]
    if unsupported := _UNSUPPORTED.get(name) if module.startswith("torch") else None:
        raise ValueError(f"holds {unsupported} ({text}), which have no place in a checkpoint here; save plain tensors.")
    raise refusal(text)


def admitted_in_script(module: str, name: str) -> Name:
    """What stands for a class or a function of a TorchScript program, whose classes are called `__torch__.something`.

    Raises:
        ValueError: see `admitted`.
    """
    is_own = module == SCRIPT or module.startswith(f"{SCRIPT}.")
    if is_own and len(module) + len(name) <= LONGEST_CLASS:  # names may be recalled, so that copies are dear
        text = f"{module}.{name}"
        return Name(text, lambda arguments: INERT if arguments else ScriptModule(text))
    if module == "torch.jit._pickle" and name in _SCRIPT_VALUES:
        return Name(f"{module}.{name}", _inert)
    return admitted(module, name)


def refusal(text: str) -> ValueError:
    """What is said of a file that names what is not admitted."""
    return ValueError(
        f"asks to run {text}, which is refused, since weights need no code; get the checkpoint as safetensors or save "
        f"its state dict alone."
    )


def itemsize(dtype: str) -> int:
    """The size of one value in bytes."""
    return np.dtype(DTYPES[dtype]).itemsize


def _inert(arguments: tuple[Any, ...]) -> Any:
    return INERT


def _ordered_dict(arguments: tuple[Any, ...]) -> OrderedPairs:
    """An `OrderedDict`: empty, or from [key, value] lists, as Python 2 pickled it."""
    match arguments:
        case ():
            return OrderedPairs()
        case (list(items),) if all(type(item) in (list, tuple) and len(item) == 2 for item in items):
            return OrderedPairs((key, value) for key, value in items)
    raise ValueError("makes an OrderedDict of something else than pairs; it is corrupt.")


def _default_dict(arguments: tuple[Any, ...]) -> Pairs:
    return Pairs()  # what fills it follows


def _tensor(arguments: tuple[Any, ...]) -> PickledTensor:
    """`_rebuild_tensor` of the first versions, and `_rebuild_tensor_v2`, without and with metadata."""
    match arguments[:4] if len(arguments) in (4, 6, 7) else ():
        case (Storage() as storage, offset, tuple(shape), tuple(strides)):
            _check_metadata(arguments[6:])
            return _checked(storage, storage.dtype, offset, shape, strides)
    raise _corrupt_call("_rebuild_tensor_v2")


def _typed_tensor(arguments: tuple[Any, ...]) -> PickledTensor:
    """`_rebuild_tensor_v3`, which is for dtypes that have no type of storage."""
    match arguments[:7] if len(arguments) in (7, 8) else ():
        case (Storage() as storage, offset, tuple(shape), tuple(strides), _, _, Name(dtype=dtype)) if dtype:
            _check_metadata(arguments[7:])
            whole = Storage(storage.key, dtype, storage.nbytes // itemsize(dtype), storage.start)
            return _checked(whole, dtype, offset, shape, strides)
    raise _corrupt_call("_rebuild_tensor_v3")


def _parameter(arguments: tuple[Any, ...]) -> PickledTensor:
    """`_rebuild_parameter`, without or with attributes."""
    match arguments:
        case (PickledTensor() as tensor, _, _) | (PickledTensor() as tensor, _, _, _):
            return tensor
    raise _corrupt_call("_rebuild_parameter")


def _tensor_with_attributes(arguments: tuple[Any, ...]) -> PickledTensor:
    """`_rebuild_from_type_v2`: a tensor by one of the other functions, its class and its attributes."""
    match arguments:
        case (Name(make=make), Name(), tuple(inner), _) if make in (_tensor, _typed_tensor):
            return make(inner)
    raise _corrupt_call("_rebuild_from_type_v2")


def _corrupt_call(name: str) -> ValueError:
    return ValueError(f"calls torch's {name} with other arguments than PyTorch writes; it is corrupt.")


def _check_metadata(metadata: tuple[Any, ...]) -> None:
    """Refuse tensors whose values are not those stored: metadata, if there is any, says that they are negated."""
    if any(type(entry) is not Pairs or entry for entry in metadata):
        raise ValueError("holds a tensor that is a negated or conjugated view of another; save its values.")


def _checked(
    storage: Storage, dtype: str, offset: Any, shape: tuple[Any, ...], strides: tuple[Any, ...]
) -> PickledTensor:
    is_possible = is_size(offset) and is_shape(shape) and len(strides) == len(shape) and all(map(is_size, strides))
    if is_possible and math.prod(shape):
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        is_possible = last < storage.count
    if not is_possible:
        raise ValueError(
            f"describes a tensor of shape {shown(shape)}, strides {shown(strides)} and offset {shown(offset)} in a "
            f"storage of {storage.count} values, which it cannot be; it is corrupt."
        )
    return PickledTensor(storage, dtype, offset, shape, strides)


_STORAGE_DTYPES = {
    "BoolStorage": "BOOL",
    "ByteStorage": "U8",
    "CharStorage": "I8",
    "ShortStorage": "I16",
    "IntStorage": "I32",
    "LongStorage": "I64",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "FloatStorage": "F32",
    "DoubleStorage": "F64",
}
#: PyTorch's names of dtypes that have no type of storage, only `_rebuild_tensor_v3`.
UNTYPED_DTYPES = {"U16": "uint16", "U32": "uint32", "U64": "uint64"}
_DTYPES = {
    **UNTYPED_DTYPES,
    **FLOAT_NAMES,
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
}
#: dtype -> the type of storages that `write_torch_file` names for it.
STORAGE_TYPES = {dtype: name for name, dtype in _STORAGE_DTYPES.items()}

_CALLED: dict[tuple[str, str], Callable[[tuple[Any, ...]], Any]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _tensor_with_attributes,
    ("torch._tensor", "_rebuild_from_type"): _tensor_with_attributes,  # its older form
    ("torch.tensor", "_rebuild_from_type"): _tensor_with_attributes,  # in its older module
    ("collections", "OrderedDict"): _ordered_dict,
    ("collections", "defaultdict"): _default_dict,
}
#: module -> names whose content is dropped. The builtins are called `__builtin__` by the protocol that PyTorch uses.
_DROPPED = {
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "collections": "Counter deque",
    "_codecs": "encode",
    "__builtin__": "set frozenset bytes bytearray complex slice xrange list dict int float",
    "builtins": "set frozenset bytes bytearray complex slice range list dict int float",
    "pathlib": "PosixPath WindowsPath PurePosixPath PureWindowsPath",
    "pathlib._local": "PosixPath WindowsPath PurePosixPath PureWindowsPath",
    "numpy": "dtype ndarray",
    "numpy.core.multiarray": "scalar _reconstruct",
    "numpy._core.multiarray": "scalar _reconstruct",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
    "torch": "Size device",
}

LONGEST_CLASS = 400  # letters
SCRIPT = "__torch__"  # the package of a TorchScript program's own classes
#: Typed lists and dictionaries in a TorchScript program's attributes.
_SCRIPT_VALUES = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")

#: (module, name) -> what stands for it: all that a pickle may name.
ADMITTED: dict[tuple[str, str], Name] = {
    **{key: Name(".".join(key), make) for key, make in _CALLED.items()},
    **{
        (module, name): Name(f"{module}.{name}", _inert) for module, names in _DROPPED.items() for name in names.split()
    },
    **{
        (module, name): Name(f"{module}.{name}", dtype=dtype, is_storage=True)
        for module in ("torch", "torch.cuda")
        for name, dtype in _STORAGE_DTYPES.items()
    },
    ("torch.storage", "UntypedStorage"): Name("torch.storage.UntypedStorage", dtype="U8", is_storage=True),
    **{("torch", name): Name(f"torch.{name}", dtype=dtype) for dtype, name in _DTYPES.items()},
    ("torch", "Tensor"): Name("torch.Tensor"),  # what `_rebuild_from_type_v2` makes
    ("torch.nn.parameter", "Parameter"): Name("torch.nn.parameter.Parameter"),
}
#: What PyTorch writes and this project has no use for, by its name in a module of PyTorch.
_UNSUPPORTED = {
    name: what
    for what, names in {
        "complex numbers": "ComplexFloatStorage ComplexDoubleStorage complex32",
        "quantized tensors": "_rebuild_qtensor QInt8Storage QInt32Storage QUInt8Storage QUInt4x2Storage "
        "QUInt2x4Storage",
        "tensors of eight bits or fewer": "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu "
        "float4_e2m1fn_x2",
        "sparse tensors": "_rebuild_sparse_tensor",
        "nested tensors": "_rebuild_nested_tensor",
        "tensors without values": "_rebuild_meta_tensor_no_storage",
        "tensors of another device": "_rebuild_device_tensor_from_numpy _rebuild_device_tensor_from_cpu_tensor",
    }.items()
    for name in names.split()
}
