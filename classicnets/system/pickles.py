"""Pickles of strangers, of which nothing is executed: containers, words, numbers and NumPy's arrays."""

import io
import pickle
import pickletools
from collections import OrderedDict
from typing import Any, ClassVar

import numpy as np


def load(data: bytes) -> Any:
    """Return what a pickle of NumPy 1 or 2 and of Python 2 or 3 holds; bytes of Python 2 become words in latin1.

    Raise ValueError if it asks for anything but arrays and containers, or another error of `pickle` where it is no
    pickle. Lengths that the data do not have end it before memory is taken.
    """
    for opcode, _, _ in pickletools.genops(data):
        if opcode.name in ("EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"):
            raise ValueError(f"it uses {opcode.name}")
    return _Arrays(io.BytesIO(data), encoding="latin1").load()


def _reconstruct(kind: str, shape: tuple[int, ...], _: Any) -> np.ndarray:
    """NumPy's own makes an array of any shape; what it pickles is an empty one, which is then filled."""
    if kind != "ndarray" or shape != (0,):
        raise ValueError(f"an array that is made with shape {shape}")
    return np.ndarray((0,), np.int8)


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _from_buffer(data: bytes, dtype: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C").copy()


class _Arrays(pickle.Unpickler):
    """What a pickle of NumPy arrays refers to, in NumPy 1 and 2, has a stand-in that makes nothing else."""

    known: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): "ndarray",
        ("numpy", "dtype"): np.dtype,
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): _encode,
        **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
        **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.known:
            raise ValueError(f"it asks for {module}.{name}")
        return self.known[module, name]
