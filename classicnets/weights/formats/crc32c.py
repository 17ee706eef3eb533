"""CRC-32C (Castagnoli), the checksum of TensorFlow's checkpoints, in NumPy.

The data lie in lanes of equal length that advance side by side, four bytes at a time, and are then joined in pairs: the
checksum of A followed by B is that of A moved over len(B) zeros, xor that of B. Moving is linear over GF(2), a matrix.
"""

from functools import cache
from typing import Any

import numpy as np

POLYNOMIAL = 0x82F63B78  # reflected
LANE = 1024


def crc32c(data: Any) -> int:
    """Return the checksum of bytes."""
    view = np.frombuffer(data, np.uint8)
    if len(view) < 4:
        return _small(bytes(view))
    lanes = 1 << max(0, (len(view) // LANE).bit_length() - 1)
    length = -(-len(view) // (4 * lanes)) * 4
    # Zeros in front change nothing in a register of zeros; the register that begins with ones is its first four bytes
    # inverted.
    padded = np.zeros(lanes * length, np.uint8)
    start = len(padded) - len(view)
    padded[start:] = view
    padded[start : start + 4] ^= 255
    words = np.ascontiguousarray(padded.view("<u4").reshape(lanes, length // 4).T)
    tables, state = _tables(), np.zeros(lanes, np.uint32)
    for word in words:
        state ^= word
        state = (
            tables[3, state & 255] ^ tables[2, state >> 8 & 255] ^ tables[1, state >> 16 & 255] ^ tables[0, state >> 24]
        )
    while len(state) > 1:
        state = _applied(_zeros(length), state[::2]) ^ state[1::2]
        length *= 2
    return int(state[0]) ^ 0xFFFFFFFF


def masked(data: Any) -> int:
    """Return the checksum as TensorFlow stores it, turned and moved, so that data may hold checksums themselves."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _small(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state = int(_tables()[0, (state ^ byte) & 255]) ^ state >> 8
    return state ^ 0xFFFFFFFF


@cache
def _tables() -> np.ndarray:
    """Return [4, 256]: the register after a byte and 0, 1, 2, 3 zeros."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(POLYNOMIAL), table >> 1).astype(np.uint32)
    tables: list[np.ndarray] = [table]
    for _ in range(3):
        tables.append(tables[-1] >> 8 ^ table[tables[-1] & 255])
    return np.stack(tables)


@cache
def _zeros(count: int) -> np.ndarray:
    """Return the columns [32] of the matrix that moves a register over `count` bytes of zero."""
    if count == 1:
        unit = np.array([1 << bit for bit in range(32)], np.uint32)
        return unit >> 8 ^ _tables()[0, unit & 255]
    half = _zeros(count // 2)
    twice = _applied(half, half)
    return _applied(_zeros(1), twice) if count % 2 else twice


def _applied(matrix: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return matrix times each of the vectors over GF(2), bits being coordinates."""
    bits = vectors[:, None] >> np.arange(32, dtype=np.uint32) & 1
    return np.bitwise_xor.reduce(np.where(bits == 1, matrix, np.uint32(0)), axis=1)
