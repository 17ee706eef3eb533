"""Files in PyTorch's two containers, written without PyTorch: its names stand for stand-ins that pickle as they do."""

import io
import pickle
import sys
import types
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

TYPES = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage", "u1": "ByteStorage"}


class Tensor:
    """A view of `size` and `stride` on the storage `key`, which holds `numbers`."""

    def __init__(self, numbers: np.ndarray, key: str, size: Any = None, stride: Any = None, offset: int = 0):
        self.numbers, self.key, self.offset = numbers, key, offset
        self.size = numbers.shape if size is None else size
        self.stride = tuple(n // numbers.itemsize for n in numbers.strides) if stride is None else stride

    def __reduce__(self):
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (Storage(self), self.offset, self.size, self.stride, False, None)


class Storage:
    """What a tensor refers to; pickled as a persistent id."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor


@contextmanager
def names() -> Iterator[None]:
    """Have modules called torch and torch._utils, whose functions and classes are pickled by those names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*arguments):
        raise AssertionError("never called")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in TYPES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))
    torch._utils = utils
    held = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules |= {"torch": torch, "torch._utils": utils}
    try:
        yield
    finally:
        for name, module in held.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _pickled(found: Any, legacy: bool) -> bytes:
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=2)

    def persistent_id(value: Any) -> Any:
        if not isinstance(value, Storage):
            return None
        numbers = value.tensor.numbers
        kind = getattr(sys.modules["torch"], TYPES[numbers.dtype.str[1:]])
        return ("storage", kind, value.tensor.key, "cpu", numbers.size, *([None] if legacy else []))

    pickler.persistent_id = persistent_id
    pickler.dump(found)
    return file.getvalue()


def zipped(found: Any, tensors: list[Tensor], order: bytes = b"little") -> bytes:
    """Return the bytes of a zip, `archive/data.pkl` and its storages."""
    file = io.BytesIO()
    with names(), zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", _pickled(found, legacy=False))
        archive.writestr("archive/byteorder", order)
        for tensor in {tensor.key: tensor for tensor in tensors}.values():
            archive.writestr(f"archive/data/{tensor.key}", tensor.numbers.tobytes())
        archive.writestr("archive/version", b"3\n")
    return file.getvalue()


def legacy(found: Any, tensors: list[Tensor], little: bool = True) -> bytes:
    """Return the bytes of five pickles and the storages."""
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, system)]
    with names():
        parts.append(_pickled(found, legacy=True))
    held = {tensor.key: tensor.numbers for tensor in tensors}
    parts.append(pickle.dumps(list(held), 2))
    for numbers in held.values():
        parts += [numbers.size.to_bytes(8, "little"), numbers.tobytes()]
    return b"".join(parts)
