"""Arrays by name from files of strangers: .npz, .npy, .safetensors, .pt and .pth, .pkl.

Nothing in a file is executed, and what it claims is checked against its size before memory is taken:

    .npy, .npz     NumPy without pickles; what claims over SMALL bytes may be MAX_RATIO times its packed size
    .safetensors   the library safetensors, which checks that the header's offsets tile the file
    .pt, .pth, .th, .tar
                   PyTorch's, by `weights.torch`, which knows tensors and nothing else
    .pkl           an unpickler that knows NumPy's arrays and types, and nothing else
"""

import io
import math
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from classicnets.system import pickles
from classicnets.weights import torch

LIMIT = 2**34  # 16 GiB
SMALL = 2**24
MAX_RATIO = 200
MAX_HEADER = 2**24


def read(path: Path, limit: int = LIMIT) -> dict[str, np.ndarray]:
    """{name: array} of the file at `path`; of a .npy file {"array": ...}.

    Raises ValueError, in one sentence, for a file that is missing, of another kind, malformed, larger than `limit`
    bytes when unpacked, or that asks for anything but arrays.
    """
    readers: dict[str, Callable[[Path, int], dict[str, np.ndarray]]] = {
        ".npy": _npy,
        ".npz": _npz,
        ".safetensors": lambda path, _: load_file(path),
        **dict.fromkeys(
            (".pt", ".pth", ".th", ".tar"), lambda path, limit: torch.read(path, partial(_check_members, limit=limit))
        ),
        ".pkl": _pickle,
        ".pickle": _pickle,
    }
    if path.suffix not in readers:
        raise ValueError(f"{path} must end in one of {', '.join(sorted(readers))}")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.stat().st_size > limit:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than {limit:,}")
    try:
        return readers[path.suffix](path, limit)
    except (MemoryError, RecursionError) as error:
        raise ValueError(f"{path} was refused: {type(error).__name__}") from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"{path} was refused: {reason}") from None


def _array(file, packed: int, limit: int) -> np.ndarray:
    """One array in NumPy's format; its header is read, and judged, before its data."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of NumPy's format is not known")
    length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
    if length > MAX_HEADER:
        raise ValueError(f"a header of {length:,} bytes")
    header = io.BytesIO(length.to_bytes(2 if version == (1, 0) else 4, "little") + file.read(length))
    parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = parse(header)
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    if any(side < 0 for side in shape):
        raise ValueError(f"a negative size in {shape}")
    size = math.prod(shape) * dtype.itemsize
    if size > min(limit, max(SMALL, packed * MAX_RATIO)):
        raise ValueError(f"an array that claims {size:,} bytes in {packed:,}")
    data = file.read(size + 1)
    if len(data) != size:
        raise ValueError(f"an array that claims {size:,} bytes holds another number")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C").copy()


def _npy(path: Path, limit: int) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        return {"array": _array(file, path.stat().st_size, limit)}


def _npz(path: Path, limit: int) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        _check_members(archive, limit)
        found = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename or name in found:
                raise ValueError(f"{member.filename!r} is no array of its own name")
            with archive.open(member) as file:
                found[name] = _array(file, max(member.compress_size, 1), limit)
        return found


def _check_members(archive: zipfile.ZipFile, limit: int) -> None:
    members = archive.infolist()
    if len(members) > 100_000:
        raise ValueError(f"an archive of {len(members):,} files")
    total = sum(member.file_size for member in members)
    packed = sum(member.compress_size for member in members)
    if total > min(limit, max(SMALL, packed * MAX_RATIO)):
        raise ValueError(f"an archive that unpacks {packed:,} bytes to {total:,}")


def _pickle(path: Path, limit: int) -> dict[str, np.ndarray]:
    found = pickles.load(path.read_bytes())
    if not isinstance(found, dict) or not all(isinstance(v, np.ndarray) and v.dtype != object for v in found.values()):
        raise ValueError("it holds something other than arrays by name")
    return {str(name): array for name, array in found.items()}
