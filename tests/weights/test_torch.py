"""PyTorch's two containers are read without it: what went in comes out, and nothing of a stranger's runs."""

import os
import pickle
import resource
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from helpers.torch_files import Tensor, legacy, zipped

from classicnets.weights.files import read

NUMBERS = np.arange(24, dtype=np.float32).reshape(4, 6)
FORMS = {"zip": zipped, "legacy": legacy}


def state():
    """{name: (tensor, what it is)}: views, orders, types, an empty one, and two on one storage."""
    return {
        "conv.weight": (Tensor(NUMBERS, "0"), NUMBERS),
        "conv.part": (Tensor(NUMBERS, "0", (2, 3), (6, 2), 7), NUMBERS[1:3, 1:6:2]),
        "turned": (Tensor(NUMBERS, "0", (6, 4), (1, 6)), NUMBERS.T),
        "half": (Tensor(np.array([0.5, -2], np.float16), "1"), np.array([0.5, -2], np.float16)),
        "counted": (Tensor(np.array(7, np.int64), "2", (), ()), np.array(7, np.int64)),
        "empty": (Tensor(np.zeros((0, 3), np.float64), "3"), np.zeros((0, 3), np.float64)),
    }


def wrapped(kind, tensors):
    return {
        "plain": OrderedDict(tensors),
        "state_dict": {"state_dict": OrderedDict(tensors), "epoch": 3, "best_prec1": 91.7},
        "model": {"model": tensors, "args": {"lr": 0.1, "names": ["a"]}},
        "parallel": {"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}},
        "compiled": {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()},
    }[kind]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["plain", "state_dict", "model", "parallel", "compiled"])
@pytest.mark.parametrize("suffix", [".pth", ".th", ".pt", ".tar"])
def test_tensors_are_what_went_in(form, kind, suffix, tmp_path):
    tensors = {name: tensor for name, (tensor, _) in state().items()}
    path = tmp_path / f"net{suffix}"
    path.write_bytes(FORMS[form](wrapped(kind, tensors), list(tensors.values())))
    found = read(path)
    assert list(found) == list(tensors)
    for name, (_, expected) in state().items():
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def refused(found, tensors=(), **options):
    return {form: write(found, list(tensors)) for form, write in FORMS.items()}


def hostile(tripwire):
    """{name: (file's bytes, the end of the sentence)}."""
    one = Tensor(NUMBERS, "0")
    cases = {
        "runs": ({"a": Runs(tripwire), "b": one}, [one], "it asks for "),
        "list": ([1, 2], [], "holds a list, not tensors by name"),
        "number": ({"a": 3}, [], "something other than a tensor under 'a'"),
        "mixed": ({"a": one, "b": "text"}, [one], "something other than a tensor under 'b'"),
        "nothing": ({}, [], "holds nothing, not tensors by name"),
        "beyond": ({"a": Tensor(NUMBERS, "0", (5, 6), (6, 1))}, [one], "a tensor of size"),
        "far": ({"a": Tensor(NUMBERS, "0", (2,), (24,))}, [one], "a tensor of size"),
        "negative": ({"a": Tensor(NUMBERS, "0", (2,), (-1,))}, [one], "a tensor of size"),
        "below": ({"a": Tensor(NUMBERS, "0", (2,), (1,), -3)}, [one], "a tensor of size"),
        "repeated": ({"a": Tensor(NUMBERS, "0", (2**40,), (0,))}, [one], "tensors of 4,398,046,511,104 bytes in"),
        "twice": ({"module.a": one, "module.module.a": one}, [one], ""),
        "lacking": ({"a": one}, [], "storage"),
    }
    return {
        f"{name} {form}": (FORMS[form](found, tensors), end)
        for name, (found, tensors, end) in cases.items()
        for form in FORMS
        if name != "twice"
    } | {
        "no container": (pickle.dumps({"a": 1}), ""),
        "empty": (b"", ""),
        "order": (zipped({"a": one}, [one], b"big"), "in the byte order b'big'"),
        "big": (legacy({"a": one}, [one], little=False), "storages in big-endian order"),
        "cut": (legacy({"a": one}, [one])[:-5], "does not end in the file"),
        "cut zip": (zipped({"a": one}, [one])[:-40], ""),
    }


NAMES = list(hostile(Path("/nowhere")))


@pytest.mark.parametrize("name", NAMES)
def test_hostile_files_are_refused_in_one_sentence(name, tmp_path):
    content, end = hostile(tmp_path / "tripwire")[name]
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"net\.pth was refused: ") as error:
        read(path)
    assert end in str(error.value) and len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "tripwire").exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17


@pytest.mark.parametrize("form", FORMS)
def test_a_changed_byte_is_refused_or_changes_numbers_alone(form, tmp_path):
    """Of a zip its checksums tell it; of the older container a storage's numbers may change, and nothing else."""
    tensors = {name: tensor for name, (tensor, _) in state().items()}
    content = FORMS[form](wrapped("state_dict", tensors), list(tensors.values()))
    rng, path, told = np.random.default_rng(0), tmp_path / "net.pth", 0
    expected = state()
    for _ in range(10_000 if os.environ.get("CLASSICNETS_FAULTS") == "all" else 400):
        damaged = bytearray(content)
        damaged[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            found = read(path)
        except ValueError as error:
            assert len(str(error).splitlines()) == 1
            told += 1
            continue
        if form == "zip":
            for name, (_, array) in expected.items():
                np.testing.assert_array_equal(found[name], array)
    assert told > 100


def test_of_the_older_container_a_changed_number_changes_nothing_else(tmp_path):
    tensors = {name: tensor for name, (tensor, _) in state().items()}
    content = legacy(tensors, list(tensors.values()))
    first = content.index(NUMBERS.tobytes())
    for bit in range(8 * NUMBERS.nbytes):
        damaged = bytearray(content)
        damaged[first + bit // 8] ^= 1 << bit % 8
        (tmp_path / "net.pth").write_bytes(damaged)
        found = read(tmp_path / "net.pth")
        assert {name: (array.shape, array.dtype) for name, array in found.items()} == {
            name: (array.shape, array.dtype) for name, (_, array) in state().items()
        }
        assert (found["conv.weight"].view(np.uint32) != NUMBERS.view(np.uint32)).sum() == 1
