"""TensorFlow 1's checkpoints without TensorFlow: V2 (PREFIX.index and PREFIX.data-*) and V1 (one file).

Both are a table of sorted strings (LevelDB's: blocks of prefix-compressed keys, each with a masked CRC-32C, an index of
blocks, a footer of 48 bytes that ends in MAGIC). In V2 it tells of each tensor its type, shape, place in a shard and
CRC-32C (BundleEntryProto in tensor_bundle.proto); in V1 it holds the tensors themselves, each as one slice that is the
whole, under a key in the ordered code (SavedTensorSlices in saved_tensor_slice.proto).
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from classicnets.weights.formats.crc32c import masked
from classicnets.weights.formats.protobuf import Message, integer, message, messages, numbers, text, varint

MAGIC = 0xDB4775248B80FB57
FOOTER = 48
# DataType of types.proto: the type, and the field of a TensorProto that holds its values.
TYPES: dict[int, tuple[Any, int]] = {
    1: (np.float32, 5),
    2: (np.float64, 6),
    3: (np.int32, 7),
    4: (np.uint8, 7),
    5: (np.int16, 7),
    6: (np.int8, 7),
    9: (np.int64, 10),
    10: (np.bool_, 11),
    14: (ml_dtypes.bfloat16, 13),
    19: (np.float16, 13),
}
CONTENT = 4
MAX_RANK = 8


def is_table(path: Path) -> bool:
    """Return whether a file ends as a table of sorted strings does."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8))
        return file.read() == MAGIC.to_bytes(8, "little")


def shards(index: Path) -> list[Path]:
    """Return the data files of a V2 checkpoint, in order, by the header of its index."""
    header = next((value for key, value in _entries(index.read_bytes()) if not key), None)
    if header is None:
        raise ValueError("an index without a header")
    fields = message(header)
    count = integer(fields[1])
    if not 1 <= count < 100_000 or integer(fields[2]):
        raise ValueError(f"{count} shards" if not integer(fields[2]) else "numbers in big-endian order")
    return [index.with_name(f"{index.name.removesuffix('.index')}.data-{i:05d}-of-{count:05d}") for i in range(count)]


def read(path: Path) -> dict[str, np.ndarray]:
    """Return {name: array} of a checkpoint, V2 by the path of its .index, V1 by its own, in the order of names.

    Raise ValueError for a file of another kind, a checksum that does not match, compressed blocks, tensors in slices.
    """
    return _bundle(path) if path.suffix == ".index" else _slices(path)


def _bundle(path: Path) -> dict[str, np.ndarray]:
    places = shards(path)
    for place in places:
        if not place.is_file():
            raise ValueError(f"it lacks {place.name}")
    contents = [place.read_bytes() for place in places]
    arrays = {}
    for key, value in _entries(path.read_bytes()):
        if not key:
            continue
        name, entry = _name(key), message(value)
        if entry[7]:
            raise ValueError(f"{name!r} is in slices, as a partitioned variable is")
        dtype, shape = _dtype(integer(entry[1]), name), _shape(entry[2], name)
        shard, offset, size = (integer(entry[field]) for field in (3, 4, 5))
        if not 0 <= shard < len(contents) or min(offset, size) < 0 or offset + size > len(contents[shard]):
            raise ValueError(f"{name!r} does not lie in its shard")
        if size != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name!r} has {size:,} bytes for {dtype} {list(shape)}")
        data = memoryview(contents[shard])[offset : offset + size]
        if not entry[6] or int(numbers(entry[6], np.uint32)[-1]) != masked(data):
            raise ValueError(f"the checksum of {name!r} does not match")
        arrays[name] = np.frombuffer(data, dtype).reshape(shape).copy()
    return arrays


def _slices(path: Path) -> dict[str, np.ndarray]:
    entries = list(_entries(path.read_bytes()))
    if not entries or entries[0][0]:
        raise ValueError("a table without a list of its tensors")
    (meta,) = messages(message(entries[0][1])[1]) or [None]
    if meta is None:
        raise ValueError("a table without a list of its tensors")
    kinds: dict[str, tuple[int, np.dtype, tuple[int, ...]]] = {}
    for tensor in messages(meta[1]):
        name, slices = text(tensor[1]), messages(tensor[4])
        dtype, shape = _dtype(integer(tensor[3]), name), _shape(tensor[2], name)
        if name in kinds:
            raise ValueError(f"two tensors are called {name!r}")
        if len(slices) != 1 or any(2 in extent or integer(extent[1]) for extent in messages(slices[0][1])):
            raise ValueError(f"{name!r} is in slices, as a partitioned variable is")
        kinds[name] = (integer(tensor[3]), dtype, shape)
    arrays = {}
    for key, value in entries[1:]:
        for part in messages(message(value)[2]):
            name = text(part[1])
            if name not in kinds or name in arrays or key != _key(name, len(kinds[name][2])):
                raise ValueError(f"{name!r} stands under a key that is not its own")
            (tensor,) = messages(part[3]) or [None]
            if tensor is None:
                raise ValueError(f"{name!r} has no values")
            arrays[name] = _tensor(tensor, kinds[name], name)
    missing = sorted(kinds.keys() - arrays.keys())
    if missing:
        raise ValueError(f"it lacks the values of {missing[0]!r}")
    return arrays


def _tensor(tensor: Message, form: tuple[int, np.dtype, tuple[int, ...]], name: str) -> np.ndarray:
    kind, dtype, shape = form
    if tensor[CONTENT]:
        content = tensor[CONTENT][-1]
        if not isinstance(content, memoryview) or len(content) % dtype.itemsize:
            raise ValueError(f"{name!r} has no whole number of values")
        values = np.frombuffer(content, dtype)
    elif kind in (14, 19):  # halves stand as their bits in integers
        values = numbers(tensor[TYPES[kind][1]], np.int32).astype(np.uint16).view(dtype)
    elif kind == 10:
        values = numbers(tensor[TYPES[kind][1]], np.uint8).astype(dtype)
    else:
        values = numbers(tensor[TYPES[kind][1]], dtype)
    if len(values) != math.prod(shape):
        raise ValueError(f"{name!r} has {len(values):,} values for the shape {list(shape)}")
    return values.reshape(shape).copy()


def _dtype(kind: int, name: str) -> np.dtype:
    if kind not in TYPES:
        raise ValueError(f"{name!r} has TensorFlow's type {kind}, which is none of numbers")
    return np.dtype(TYPES[kind][0])


def _shape(values: list[Any], name: str) -> tuple[int, ...]:
    (shape,) = messages(values[-1:]) or [{}]
    sides = tuple(integer(side.get(1, [])) for side in messages(shape.get(2, [])))
    if integer(shape.get(3, [])) or len(sides) > MAX_RANK or any(not 0 <= side < 2**40 for side in sides):
        raise ValueError(f"{name!r} has the shape {list(sides)}")
    return sides


def _name(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise ValueError("a name that is no UTF-8") from None


def _key(name: str, rank: int) -> bytes:
    """Return the key of a tensor's only slice: 0, name, rank, and of each axis (0, all), in the ordered code.

    (lib/strings/ordered_code.h: a number is its length and its big-endian bytes, a signed one has its sign in the top
    bit, a string has its zeros and 255s escaped and ends in 0, 1.)
    """
    escaped = name.encode().replace(b"\x00", b"\x00\xff").replace(b"\xff", b"\xff\x00")
    return b"\x00" + escaped + b"\x00\x01" + (bytes([1, rank]) if rank else b"\x00") + b"\x80\x7f" * rank


def _entries(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (key, value) of a table in the order of keys; raise ValueError for a damaged one."""
    view = memoryview(data)
    if len(view) < FOOTER or int.from_bytes(view[-8:], "little") != MAGIC:
        raise ValueError("it does not end as TensorFlow's checkpoints do")
    footer = view[len(view) - FOOTER :]
    _, place = varint(footer, 0)  # the meta index, which is empty, then the index
    _, place = varint(footer, place)
    offset, place = varint(footer, place)
    size, place = varint(footer, place)
    before = None
    for _, handle in _block(view, offset, size):
        start, place = varint(handle, 0)
        length, _ = varint(handle, place)
        for key, value in _block(view, start, length):
            if before is not None and key <= before:
                raise ValueError("keys out of order")
            before = key
            yield key, value


def _block(view: memoryview, offset: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (key, value) of a block, whose checksum is checked first."""
    if offset + size + 5 > len(view) - FOOTER or size < 4:
        raise ValueError("a block that does not end in its table")
    block = view[offset : offset + size]
    if int.from_bytes(view[offset + size + 1 : offset + size + 5], "little") != masked(
        view[offset : offset + size + 1]
    ):
        raise ValueError("the checksum of a block does not match")
    if view[offset + size]:
        raise ValueError("a block that is compressed with Snappy, which this reader does not unpack")
    restarts = int.from_bytes(block[-4:], "little")
    end, place, key = size - 4 - 4 * restarts, 0, b""
    if end < 0:
        raise ValueError("a block that is shorter than its index")
    entries = block[:end]
    while place < end:
        shared, place = varint(entries, place)
        own, place = varint(entries, place)
        length, place = varint(entries, place)
        if shared > len(key) or own + length > end - place:
            raise ValueError("an entry that does not end in its block")
        key = key[:shared] + bytes(entries[place : place + own])
        place += own
        yield key, entries[place : place + length]
        place += length
