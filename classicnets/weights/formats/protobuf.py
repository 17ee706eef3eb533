"""The wire format of protocol buffers, as far as files of weights use it: no schema, no package, no recursion.

(Protocol Buffers, "Encoding": a message is a row of fields, each a key, number << 3 | wire type, and a value.)
"""

from collections import defaultdict
from typing import Any

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
SIZES = {FIXED64: 8, FIXED32: 4}
# Keys of at most two bytes: a run of unpacked numbers is read as one array, not one by one.
Message = dict[int, list[Any]]


def varint(data: memoryview, place: int) -> tuple[int, int]:
    """Return (number, the place after it); raise ValueError where it does not end in the data or in 64 bits."""
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            raise ValueError("a number that does not end in its message")
        byte = data[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            if number >= 2**64:
                break
            return number, place
    raise ValueError("a number of more than 64 bits")


def message(data: Any) -> Message:
    """Return {field: values in order}: integers of varints, views of bytes, and arrays of bytes [n, size] of runs.

    Raise ValueError for what is no message.
    """
    view, place = memoryview(data), 0
    fields: Message = defaultdict(list)
    while place < len(view):
        begin = place
        key, place = varint(view, place)
        number, wire = key >> 3, key & 7
        if not number:
            raise ValueError("a message with a field of number 0")
        if wire == VARINT:
            value, place = varint(view, place)
            fields[number].append(value)
        elif wire == BYTES:
            size, place = varint(view, place)
            if size > len(view) - place:
                raise ValueError(f"field {number} claims {size:,} bytes and has {len(view) - place:,}")
            fields[number].append(view[place : place + size])
            place += size
        elif wire in SIZES:
            run = _run(view, begin, place, SIZES[wire])
            fields[number].append(run)
            place = begin + len(run) * (place - begin + SIZES[wire])
        else:
            raise ValueError(f"a message with the wire type {wire}")
    return fields


def _run(view: memoryview, begin: int, place: int, size: int) -> np.ndarray:
    """Return the values [n, size], uint8, of fields of one key in a row from `begin` on; place: of the first value."""
    width = place - begin + size
    if len(view) - begin < width:
        raise ValueError("a number that does not end in its message")
    rows = np.frombuffer(view[begin : begin + (len(view) - begin) // width * width], np.uint8).reshape(-1, width)
    count, key = 1, rows[0, : place - begin]
    while count < len(rows):  # in growing steps, so that a short run in a large message costs little
        part = (rows[count : 2 * count, : place - begin] == key).all(1)
        if not part.all():
            count += int(part.argmin())
            break
        count += len(part)
    return rows[:count, place - begin :]


def numbers(values: list[Any], dtype: Any) -> np.ndarray:
    """Return the numbers of a repeated field, packed or not: of varints in their wire's width, else as they stand.

    Raise ValueError where the bytes are no whole number of them.
    """
    dtype = np.dtype(dtype)
    parts = [_numbers(value, dtype) for value in values]
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _numbers(value: Any, dtype: np.dtype) -> np.ndarray:
    if isinstance(value, int):
        return _narrowed(np.array([value], np.uint64), dtype)
    if isinstance(value, np.ndarray):
        if value.shape[1] != dtype.itemsize:
            raise ValueError(f"numbers of {value.shape[1]} bytes where {dtype} has {dtype.itemsize}")
        return np.ascontiguousarray(value).view(dtype)[:, 0]
    if dtype.kind == "f":
        if len(value) % dtype.itemsize:
            raise ValueError(f"{len(value)} bytes are no whole number of {dtype}")
        return np.frombuffer(value, dtype)
    return _narrowed(_varints(value), dtype)


def _varints(data: memoryview) -> np.ndarray:
    """Return packed varints as uint64."""
    raw = np.frombuffer(data, np.uint8)
    if not len(raw):
        return np.zeros(0, np.uint64)
    last = raw < 128
    if not last[-1]:
        raise ValueError("a number that does not end in its message")
    ends = np.flatnonzero(last)
    starts = np.r_[0, ends[:-1] + 1]
    if (ends - starts).max() > 9:
        raise ValueError("a number of more than 64 bits")
    shifts = (np.arange(len(raw)) - np.repeat(starts, ends - starts + 1)).astype(np.uint64) * np.uint64(7)
    return np.add.reduceat((raw & 127).astype(np.uint64) << shifts, starts)


def _narrowed(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return varints as what they encode: negative numbers are written in 64 bits."""
    found = numbers.view(np.int64) if dtype.kind == "i" else numbers
    narrow = found.astype(dtype)
    if (narrow.astype(found.dtype) != found).any():
        raise ValueError(f"a number that {dtype} does not hold")
    return narrow


def text(values: list[Any]) -> str:
    """Return a string field, "" where there is none; raise ValueError for bytes that are no UTF-8, or are no bytes."""
    if not values:
        return ""
    if not isinstance(values[-1], memoryview):
        raise ValueError("a number where a string belongs")
    try:
        return bytes(values[-1]).decode()
    except UnicodeDecodeError:
        raise ValueError("a name that is no UTF-8") from None


def messages(values: list[Any]) -> list[Message]:
    """Return a repeated field of messages; raise ValueError for numbers in their place."""
    if not all(isinstance(value, memoryview) for value in values):
        raise ValueError("a number where a message belongs")
    return [message(value) for value in values]


def integer(values: list[Any], default: int = 0) -> int:
    """Return a field of one integer, signed; raise ValueError for something else in its place."""
    if not values:
        return default
    if not isinstance(values[-1], int):
        raise ValueError("bytes where a number belongs")
    return values[-1] - 2**64 if values[-1] >= 2**63 else values[-1]
