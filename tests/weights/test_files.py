"""Weights of strangers: good files are read, hostile ones refused with nothing executed and memory bounded."""

import ast
import io
import json
import os
import pickle
import resource
import struct
import tempfile
import zipfile
from collections import OrderedDict
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from classicnets.weights.files import read

ROOT = Path(__file__).parents[2]
ARRAYS = {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.zeros(5, np.int64)}


class Runs:
    """Unpickled carelessly, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def npy(shape, data=b"", descr="<f4", **extra):
    header = repr({"descr": descr, "fortran_order": False, "shape": shape, **extra}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def zipped(members, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape, start, stop, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@cache
def hostile(tripwire: Path):
    """{name of a file: its bytes}."""
    run = Runs(tripwire)
    objects = io.BytesIO()
    np.save(objects, np.array([run], object), allow_pickle=True)
    return {
        "object.npy": objects.getvalue(),
        "object.npz": zipped([("a.npy", objects.getvalue())]),
        "claim.npy": npy((2**40,)),
        "negative.npy": npy((-1,)),
        "short.npy": npy((4,), b"\0" * 8),
        "long.npy": npy((1,), b"\0" * 8),
        "code.npy": npy(f"__import__('pathlib').Path({str(tripwire)!r}).touch()"),
        "header.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b" " * 64,
        "bomb.npz": zipped([("a.npy", npy((2**24,), b"\0" * 2**26))]),
        "many.npz": zipped([(f"{i}.npy", npy((2**20,), b"\0" * 2**22)) for i in range(20)]),
        "twice.npz": zipped([("a.npy", npy((1,), b"\0" * 4)), ("a", npy((1,), b"\0" * 4))]),
        "other.npz": zipped([("../../outside.txt", b"hello")]),
        "not.npz": b"PK\x03\x04 but no archive",
        "length.safetensors": safetensors(b"{}", length=2**62),
        "empty.safetensors": b"",
        "list.safetensors": safetensors([1, 2]),
        "deep.safetensors": safetensors(b'{"a":' + b"[" * 200_000),
        "overlap.safetensors": safetensors({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, b"\0" * 12),
        "beyond.safetensors": safetensors({"a": entry([2**40], 0, 2**42)}, b"\0" * 8),
        "negative.safetensors": safetensors({"a": entry([-1, -2], 0, 8)}, b"\0" * 8),
        "type.safetensors": safetensors({"a": entry([1], 0, 4, "O")}, b"\0" * 4),
        "rest.safetensors": safetensors({"a": entry([1], 0, 4)}, b"\0" * 99),
        "run.pkl": pickle.dumps({"a": run}),
        "global.pkl": b"cos\nsystem\n(S'touch " + str(tripwire).encode() + b"'\ntR.",
        "nested.pkl": pickle.dumps({"a": np.array([run], object)}),
        "objects.pkl": pickle.dumps({"a": np.array([None, 1], object)}),
        "make.pkl": b"cnumpy\nndarray\n((I1099511627776\ntI0\ntR.",
        "bytes.pkl": b"\x80\x05\x8e" + struct.pack("<Q", 2**42) + b"x.",
        "list.pkl": pickle.dumps([1, 2, 3]),
        "eval.pkl": b"cbuiltins\neval\n(S'1'\ntR.",
        "weights.docx": b"PK",
    }


tripwire = Path(tempfile.gettempdir()) / f"tripwire-{os.getpid()}"
NAMES = list(hostile(tripwire))


@pytest.mark.parametrize("name", NAMES)
def test_hostile_files_are_refused(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(hostile(tripwire)[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=name) as refused:
        read(path)
    assert len(str(refused.value).splitlines()) == 1
    assert not tripwire.exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # in KiB: less than 128 MiB more
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]


def test_a_file_larger_than_the_limit_is_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    with pytest.raises(ValueError, match=r"a.npz has [\d,]+ bytes, more than 100"):
        read(tmp_path / "a.npz", limit=100)
    with pytest.raises(ValueError, match="there is no file"):
        read(tmp_path / "b.npz")


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_arrays_are_read(protocol, tmp_path):
    fortran = {"f": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(OrderedDict(ARRAYS | fortran), protocol))
    assert same(read(tmp_path / "a.pkl"), ARRAYS | fortran)


def same(found, expected):
    return set(found) == set(expected) and all(
        found[name].dtype == array.dtype and np.array_equal(found[name], array) for name, array in expected.items()
    )


def test_arrays_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    assert same(read(tmp_path / "a.npz"), ARRAYS)
    np.savez_compressed(tmp_path / "b.npz", zeros=np.zeros(2**18, np.float32))  # packed to a thousandth
    assert same(read(tmp_path / "b.npz"), {"zeros": np.zeros(2**18, np.float32)})
    np.save(tmp_path / "a.npy", np.asfortranarray(ARRAYS["a.weight"]))
    assert same(read(tmp_path / "a.npy"), {"array": ARRAYS["a.weight"]})
    data = ARRAYS["a.weight"].tobytes() + ARRAYS["b"].tobytes()
    header = {"a.weight": entry([3, 4], 0, 48), "b": entry([5], 48, 88, "I64"), "__metadata__": {"format": "np"}}
    (tmp_path / "a.safetensors").write_bytes(safetensors(header, data))
    assert same(read(tmp_path / "a.safetensors"), ARRAYS)


def forbidden(tree):
    """Calls that execute or write what a file says."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
        bare = called.rpartition(".")[2]
        if called in ("eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "marshal.loads", "joblib.load"):
            yield called
        if keywords.get("allow_pickle") == "True" or keywords.get("weights_only") == "False":
            yield called
        if bare in ("extractall", "extract", "unpack_archive") and keywords.get("filter") not in ("'data'", '"data"'):
            yield called
        if called == "torch.load" and keywords.get("weights_only") != "True":
            yield called


@pytest.mark.parametrize("path", sorted((ROOT / "classicnets").rglob("*.py")), ids=lambda p: p.name)
def test_no_source_executes_what_it_reads(path):
    assert not list(forbidden(ast.parse(path.read_text())))


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(f)",
        "np.load(f, allow_pickle=True)",
        "torch.load(f, weights_only=False)",
        "torch.load(f)",
        "tar.extractall(x)",
        "yaml.load(f)",
        "eval('1')",
        "exec(code)",
    ],
)
def test_the_search_finds_what_it_is_for(line):
    assert list(forbidden(ast.parse(line)))
