"""Arrays by name from files of strangers, by a reader a format.

Nothing in a file is executed, and what it claims is checked against its size before memory is taken:

    .npy, .npz     NumPy; of pickles only tensorflow-vgg's .npy, by an unpickler that knows NumPy's arrays and nothing
                   else; what claims over SMALL bytes may be MAX_RATIO times its packed size
    .pkl           the same unpickler
    .safetensors   the library safetensors, which checks that the header's offsets tile the file
    .pt, .pth, .th, .tar
                   PyTorch's, by `formats.torch`
    .h5, .hdf5, .keras
                   Keras's, by `formats.keras`
    .caffemodel    Caffe's, by `formats.caffe`
    .index, .ckpt  TensorFlow's checkpoints, by `formats.tensorflow`: V2 by its index or its prefix, V1 by its file
"""

import hashlib
import io
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors.numpy import load_file

from classicnets.system import pickles
from classicnets.system.words import nearest
from classicnets.weights.formats import caffe, keras, tensorflow, torch

LIMIT = 2**34  # 16 GiB
SMALL = 2**24
MAX_RATIO = 200
MAX_HEADER = 2**24
CHECKPOINT = re.compile(r"\.ckpt(-\d+)?$")


def read(path: Path, limit: int = LIMIT) -> dict[str, np.ndarray]:
    """{name: array} of the file at `path`; of a .npy file of one array {"array": ...}.

    Raises ValueError, in one sentence, for a file that is missing, of another kind, malformed, larger than `limit`
    bytes when unpacked, or that asks for anything but arrays.
    """
    path = located(path)
    check = partial(_check_members, limit=limit)
    readers: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
        ".npy": partial(_npy, limit=limit),
        ".npz": partial(_npz, limit=limit),
        ".safetensors": load_file,
        **dict.fromkeys((".pt", ".pth", ".th", ".tar"), partial(torch.read, check=check)),
        **dict.fromkeys((".h5", ".hdf5", ".keras"), partial(keras.read, check=check)),
        **dict.fromkeys((".pkl", ".pickle"), _pickle),
        ".caffemodel": caffe.read,
        **dict.fromkeys((".index", ".ckpt"), tensorflow.read),
    }
    suffix = ".ckpt" if CHECKPOINT.search(path.name) else path.suffix
    if suffix not in readers:
        raise ValueError(f"{path} must end in one of {', '.join(sorted(readers))}{nearest(suffix, readers)}")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.stat().st_size > limit:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than {limit:,}")
    try:
        return readers[suffix](path)
    except (MemoryError, RecursionError) as error:
        raise ValueError(f"{path} was refused: {type(error).__name__}") from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"{path} was refused: {reason}") from None


def located(path: Path) -> Path:
    """Return the file that is read for `path`: of a TensorFlow V2 checkpoint, by its prefix or a shard, its index."""
    prefix = path.with_name(re.sub(r"\.data-\d{5}-of-\d{5}$", "", path.name))
    index = prefix.with_name(f"{prefix.name}.index")
    return index if index.is_file() and (prefix != path or not path.is_file()) else path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file; of a TensorFlow V2 checkpoint that of its index followed by its shards."""
    path = located(path)
    digest = hashlib.sha256()
    for part in [path, *(tensorflow.shards(path) if path.suffix == ".index" else [])]:
        with part.open("rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    return digest.hexdigest()


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return (shape, whether the order is Fortran's, type) of an array in NumPy's format."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of NumPy's format is not known")
    width = 2 if version == (1, 0) else 4
    length = int.from_bytes(file.read(width), "little")
    if length > MAX_HEADER:
        raise ValueError(f"a header of {length:,} bytes")
    header = io.BytesIO(length.to_bytes(width, "little") + file.read(length))
    parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return parse(header)


def _array(file: IO[bytes], packed: int, limit: int) -> np.ndarray:
    """One array in NumPy's format; its header is read, and judged, before its data."""
    shape, fortran, dtype = _header(file)
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
        shape, _, dtype = _header(file)
        if shape == () and dtype.hasobject:  # a dictionary, as tensorflow-vgg saves its layers
            return _layers(pickles.load(file.read()))
        file.seek(0)
        return {"array": _array(file, path.stat().st_size, limit)}


def _layers(found: Any) -> dict[str, np.ndarray]:
    """Return {"LAYER/NUMBER": array} of {layer: arrays, in a list or by number}, and arrays by name as they are."""
    if isinstance(found, np.ndarray) and found.shape == () and found.dtype == object:
        found = found.item()
    arrays: dict[str, np.ndarray] = {}
    for layer, held in found.items() if isinstance(found, Mapping) else [("", None)]:
        parts = dict(enumerate(held)) if isinstance(held, list | tuple) else held
        named = {f"{layer}/{i}": part for i, part in parts.items()} if isinstance(parts, Mapping) else {layer: held}
        for name, array in named.items():
            if not isinstance(name, str) or not isinstance(array, np.ndarray) or array.dtype.hasobject:
                raise ValueError("it holds something other than arrays by name")
            if name in arrays:
                raise ValueError(f"two arrays are called {name!r}")
            arrays[name] = array
    return arrays


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


def _pickle(path: Path) -> dict[str, np.ndarray]:
    return _layers(pickles.load(path.read_bytes()))
