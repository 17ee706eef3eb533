"""PyTorch's files (.pth, .pt, .th, .tar) without PyTorch: tensors, storages and ordered dictionaries, and nothing else.

Two containers hold one pickle of the object, whose tensors name storages of raw numbers beside it:

    zip     NAME/data.pkl, NAME/data/KEY a storage each, NAME/byteorder (PyTorch 1.6 and later)
    legacy  five pickles in a row: magic number, protocol, system, object, the storages' keys; then of each storage its
            number of elements in 8 bytes and its bytes

A name in the pickle stands for one of KNOWN or ends the reading: nothing of a stranger's is executed.
"""

import io
import math
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from classicnets.system import pickles

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# Storages' types, by the names of their classes in PyTorch.
TYPES: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
SMALL, SHARED = 2**24, 8
# Keys under which training scripts put the state among other things, the first that is there.
WRAPPERS = ("state_dict", "model_state_dict", "model", "model_ema", "net")
# What DistributedDataParallel and torch.compile put before every name.
PREFIXES = ("module.", "_orig_mod.")


class _Tensor(NamedTuple):
    """A view on a storage, as the pickle says."""

    dtype: Any
    key: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read(path: Path, check: Callable[[zipfile.ZipFile], None]) -> dict[str, np.ndarray]:
    """Return {name: array} of a state dict, in its own order, out of whatever wraps it; bfloat16 as ml_dtypes has it.

    check: raises ValueError for a zip that unpacks to too much. Raise ValueError, or an error of `pickle` or `zipfile`,
    for a file that is no such container, asks for anything but tensors, or whose tensors are not in their storages.
    """
    found, storage = _zipped(path, check) if zipfile.is_zipfile(path) else _legacy(path)
    tensors = _state(found)
    claimed = sum(math.prod(tensor.size) * np.dtype(tensor.dtype).itemsize for tensor in tensors.values())
    # Tensors may share a storage, as tied weights do, but not so often that the file grows without end.
    if claimed > SMALL + SHARED * path.stat().st_size:
        raise ValueError(f"tensors of {claimed:,} bytes in {path.stat().st_size:,}")
    return {name: _array(tensor, storage) for name, tensor in tensors.items()}


def _state(found: Any) -> dict[str, _Tensor]:
    """Return {name: tensor} of a state dict, without what wraps it and what is before every name."""
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"it holds {f'a {type(found).__name__}' if found else 'nothing'}, not tensors by name")
    wrapper = next((key for key in WRAPPERS if isinstance(found.get(key), Mapping)), None)
    if wrapper is not None:
        return _state(found[wrapper])
    odd = next(
        (name for name, tensor in found.items() if not (isinstance(name, str) and isinstance(tensor, _Tensor))), None
    )
    if odd is not None:
        raise ValueError(f"it holds something other than a tensor under {odd!r}")
    names = list(found)
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in names):
            names = [name.removeprefix(prefix) for name in names]
    if len(set(names)) < len(names):
        raise ValueError("it holds two tensors of one name")
    return dict(zip(names, found.values(), strict=True))


def _zipped(path: Path, check: Callable[[zipfile.ZipFile], None]) -> tuple[Any, Callable[[str], bytes]]:
    with zipfile.ZipFile(path) as archive:
        check(archive)
        members = {member.filename: member for member in archive.infolist()}
        (root,) = {name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")} or {None}
        if root is None:
            raise ValueError("an archive without data.pkl")
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in members else b"little"
        if order != b"little":
            raise ValueError(f"storages in the byte order {order[:20]!r}")
        found = _unpickled(archive.read(f"{root}data.pkl"))
        contents = {name: archive.read(name) for name in members if name.startswith(f"{root}data/")}

    def storage(key: str) -> bytes:
        name = f"{root}data/{key}"
        if name not in contents:
            raise ValueError(f"it lacks the storage {key!r}")
        return contents[name]

    return found, storage


def _legacy(path: Path) -> tuple[Any, Callable[[str], bytes]]:
    content = path.read_bytes()
    file = io.BytesIO(content)
    magic, protocol, system = (_unpickled(_next(file)) for _ in range(3))
    if magic != MAGIC or protocol != PROTOCOL:
        raise ValueError("neither a zip nor a file of PyTorch")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("storages in big-endian order")
    sizes: dict[str, Any] = {}
    found, keys = _unpickled(_next(file), sizes), _unpickled(_next(file))
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in sizes for key in keys):
        raise ValueError("a list of storages that the tensors do not name")
    storages, place = {}, file.tell()
    for key in keys:
        count, itemsize = (
            int.from_bytes(content[place : place + 8], "little", signed=True),
            np.dtype(sizes[key]).itemsize,
        )
        end = place + 8 + count * itemsize
        if not count >= 0 or end > len(content):
            raise ValueError(f"the storage {key!r} does not end in the file")
        storages[key], place = content[place + 8 : end], end

    def storage(key: str) -> bytes:
        if key not in storages:
            raise ValueError(f"it lacks the storage {key!r}")
        return storages[key]

    return found, storage


def _next(file: io.BytesIO) -> bytes:
    """Return the bytes of the pickle that begins here, and go to its end; nothing is built of it."""
    begin = file.tell()
    for _ in pickletools.genops(file):
        pass
    end = file.tell()
    file.seek(begin)
    return file.read(end - begin)


def _array(tensor: _Tensor, storage: Callable[[str], bytes]) -> np.ndarray:
    """Return a tensor's own copy of its numbers; raise ValueError if they are not in its storage."""
    numbers = np.frombuffer(storage(tensor.key), tensor.dtype)
    dimensions = [*tensor.size, *tensor.stride, tensor.offset]
    if len(tensor.size) != len(tensor.stride) or not all(type(n) is int and n >= 0 for n in dimensions):
        raise ValueError(f"a tensor of size {tensor.size} and stride {tensor.stride} at {tensor.offset}")
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.size, tensor.stride, strict=True))
    count = math.prod(tensor.size)
    if count > len(numbers) or (count and last >= len(numbers)):
        raise ValueError(f"a tensor of size {tensor.size} in a storage of {len(numbers)} numbers")
    if not count:
        return np.zeros(tensor.size, tensor.dtype)
    strides = [step * numbers.itemsize for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.size, strides, writeable=False).copy()


class _Storage(NamedTuple):
    dtype: Any
    key: str


def _rebuilt(storage: Any, offset: int, size: tuple, stride: tuple, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise ValueError("a tensor without a storage")
    return _Tensor(storage.dtype, storage.key, offset, size, stride)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _size(sides: Any) -> tuple:
    return tuple(sides) if isinstance(sides, list | tuple) else ()


KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): pickles.ordered,
    ("torch._utils", "_rebuild_tensor"): _rebuilt,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): _size,
}


def _unpickled(data: bytes, sizes: dict[str, Any] | None = None) -> Any:
    """Return what a pickle holds; {key: type} of its storages goes into `sizes`."""
    storages = {} if sizes is None else sizes

    def storage(pid: Any) -> _Storage:
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], str)):
            raise ValueError("it refers to something other than a storage")
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError("it refers to a part of a storage, as PyTorch before 0.4 wrote")
        kind, key = pid[1:3]
        if kind not in TYPES or not isinstance(key, str):
            raise ValueError(f"a storage called {str(key)[:50]!r}")
        storages[key] = TYPES[kind]
        return _Storage(TYPES[kind], key)

    return pickles.run(data, _find, storage)


def _find(module: str, name: str) -> Any:
    if module in ("torch", "torch.storage") and name in TYPES:
        return name
    if (module, name) not in KNOWN:
        raise ValueError(f"it asks for {module}.{name}")
    return KNOWN[module, name]
