"""TensorFlow's checkpoints and Caffe's models, written without them, as their formats' descriptions say."""

import struct
from collections.abc import Mapping

import numpy as np

from classicnets.weights.formats.crc32c import masked

TYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int64": 9, "bool": 10, "bfloat16": 14, "float16": 19}
MAGIC = 0xDB4775248B80FB57


def varint(number: int) -> bytes:
    number &= 2**64 - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, value: int | bytes | str) -> bytes:
    """A field of a message: a varint, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def fixed32(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 5) + value


def block(entries: list[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    """A block of a table, keys without what they share with the one before, its type and checksum behind."""
    data, before, restarts = b"", b"", [0]
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % 16:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        elif i:
            restarts.append(len(data))
        data += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    data += b"".join(struct.pack("<I", place) for place in restarts) + struct.pack("<I", len(restarts)) + bytes([kind])
    return data + struct.pack("<I", masked(data))


def table(entries: Mapping[bytes, bytes], size: int = 3, kind: int = 0) -> bytes:
    """A table of sorted strings in blocks of `size` entries."""
    rows, data, index = sorted(entries.items()), b"", []
    for i in range(0, len(rows), size):
        part = block(rows[i : i + size], kind)
        index.append((rows[min(i + size, len(rows)) - 1][0], varint(len(data)) + varint(len(part) - 5)))
        data += part
    meta = block([])
    handles = varint(len(data)) + varint(len(meta) - 5)
    data += meta
    last = block(index)
    handles += varint(len(data)) + varint(len(last) - 5)
    return data + last + handles.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def shape_of(array: np.ndarray) -> bytes:
    return b"".join(field(2, field(1, side)) for side in array.shape)


def v2(path, arrays: Mapping[str, np.ndarray], shards: int = 1, extra: bytes = b"", kind: int = 0) -> None:
    """Write PREFIX.index and PREFIX.data-*; extra: more fields of each entry; kind: of the blocks."""
    entries = {b"": field(1, shards) + field(3, field(1, 1))}
    contents = [b""] * shards
    for i, (name, array) in enumerate(sorted(arrays.items())):
        data, shard = array.tobytes(), i % shards
        entry = field(1, TYPES[array.dtype.name]) + field(2, shape_of(array)) + field(3, shard)
        entry += field(4, len(contents[shard])) + field(5, len(data)) + fixed32(6, struct.pack("<I", masked(data)))
        entries[name.encode()] = entry + extra
        contents[shard] += data
    path.with_name(f"{path.name}.index").write_bytes(table(entries, kind=kind))
    for i, content in enumerate(contents):
        path.with_name(f"{path.name}.data-{i:05d}-of-{shards:05d}").write_bytes(content)


def v1(path, arrays: Mapping[str, np.ndarray], form: str = "packed") -> None:
    """Write one file; form: of the values, "packed", "unpacked" or "content"."""
    full = {name: b"".join(field(1, b"") for _ in array.shape) for name, array in arrays.items()}
    meta = b"".join(
        field(1, field(1, name) + field(2, shape_of(a)) + field(3, TYPES[a.dtype.name]) + field(4, full[name]))
        for name, a in arrays.items()
    )
    entries = {b"": field(1, meta)}
    for name, array in arrays.items():
        saved = field(1, name) + field(2, full[name]) + field(3, values(array, form))
        rank = bytes([1, array.ndim]) if array.ndim else b"\0"
        key = b"\0" + name.encode() + b"\0\1" + rank + b"\x80\x7f" * array.ndim
        entries[key] = field(2, saved)
    path.write_bytes(table(entries))


def values(array: np.ndarray, form: str) -> bytes:
    """The values of a TensorProto."""
    if form == "content":
        return field(4, array.tobytes())
    kind = array.dtype.name
    number = {"float32": 5, "float64": 6, "int64": 10, "bool": 11, "float16": 13, "bfloat16": 13}.get(kind, 7)
    flat = array.ravel()
    if kind in ("float32", "float64"):
        wire = 5 if kind == "float32" else 1
        if form == "packed":
            return field(number, flat.tobytes())
        return b"".join(varint(number << 3 | wire) + value.tobytes() for value in flat)
    flat = flat.view(np.uint16) if kind in ("float16", "bfloat16") else flat
    if form == "packed":
        return field(number, b"".join(varint(int(value)) for value in flat))
    return b"".join(field(number, int(value)) for value in flat)


def caffemodel(
    layers: list[tuple[str, str, list[np.ndarray]]], form: str = "v2", packed: bool = True, epsilon: float | None = None
) -> bytes:
    """A NetParameter of (name, type, blobs); form: "v2", or the older "v1" and "v0", whose blobs have four sides.

    epsilon: of the norms of "v2".
    """
    net = field(1, "net")
    for name, kind, blobs in layers:
        parts = [_blob(blob, packed, form == "v2") for blob in blobs]
        if form == "v2":
            options = field(139, fixed32(3, struct.pack("<f", epsilon))) if epsilon and kind == "BatchNorm" else b""
            net += field(100, field(1, name) + field(2, kind) + b"".join(field(7, part) for part in parts) + options)
        elif form == "v1":
            number = {"Convolution": 4, "InnerProduct": 14}[kind]
            net += field(2, field(4, name) + field(5, number) + b"".join(field(6, part) for part in parts))
        else:
            inner = field(1, name) + field(2, kind.lower()) + b"".join(field(50, part) for part in parts)
            net += field(2, field(1, inner))
    return net


def _blob(array: np.ndarray, packed: bool, shaped: bool) -> bytes:
    flat = array.astype("<f4").ravel()
    data = field(5, flat.tobytes()) if packed else b"".join(fixed32(5, value.tobytes()) for value in flat)
    if shaped:
        return field(7, field(1, b"".join(map(varint, array.shape)))) + data
    sides = (1,) * (4 - array.ndim) + array.shape
    return b"".join(field(i, side) for i, side in enumerate(sides, 1)) + data
