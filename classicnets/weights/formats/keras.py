"""Keras's files without Keras: {"LAYER/WEIGHT": array}, in the order of the layers; needs h5py, the extra `keras`.

    .h5           a whole model or its weights, as Keras 1, 2 and 3 write it: names in attributes of groups
    .weights.h5   Keras 3: a group a layer, called by class and counter; the layer's own name is the group's attribute
    .keras        Keras 3's whole model: a zip with the latter as model.weights.h5

WEIGHT is kernel, bias, gamma, beta, moving_mean or moving_variance. HDF5 can point to other files and
hold compressed or virtual data; here only what lies plainly in the file is read.
"""

import io
import math
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

INSIDE = "model.weights.h5"
ROOT = Path(__file__).parents[3]
# Bytes of address space of the process that reads, beside four times the file's.
MEMORY = 2**31
# What Keras 3 numbers, in its order, by the class of a layer.
NORM = ("gamma", "beta", "moving_mean", "moving_variance")
VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": NORM,
    "depthwise_conv2d": ("kernel", "bias"),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel", "bias"),
}


def read(path: Path, check: Callable[[zipfile.ZipFile], None]) -> dict[str, np.ndarray]:
    """Return {name: array} of a model's weights; what belongs to an optimizer is left out.

    The HDF5 library can crash on a damaged file, so that it reads in a process of its own, of bounded memory and time.
    check: raises ValueError for a zip that unpacks to too much. Raise ValueError without h5py, for a file of another
    kind, and for data that do not lie plainly in it.
    """
    if find_spec("h5py") is None:
        raise ValueError("reading Keras's files needs h5py: pip install 'classicnets[keras]'")
    with tempfile.TemporaryDirectory() as folder:
        source, made = path.absolute(), Path(folder) / "arrays.npz"
        if zipfile.is_zipfile(path):
            source = Path(folder) / INSIDE
            with zipfile.ZipFile(path) as archive:
                check(archive)
                if INSIDE not in archive.namelist():
                    raise ValueError(f"an archive without {INSIDE}")
                source.write_bytes(archive.read(INSIDE))
        size = source.stat().st_size
        code = (
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); from {__name__} import read_here; read_here(*sys.argv[1:])"
        )
        words = [sys.executable, "-c", code, str(source), str(made), str(MEMORY + 4 * size)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=60 + size / 2**22, check=False)
        except subprocess.TimeoutExpired:
            raise ValueError("the HDF5 library does not come to an end with it") from None
        if done.returncode < 0:
            raise ValueError(f"the HDF5 library ended with signal {-done.returncode}")
        if done.returncode:
            raise ValueError((done.stderr.strip().splitlines() or ["the HDF5 library ended"])[-1])
        with np.load(made) as held:
            return {str(name): held[f"arr_{i}"] for i, name in enumerate(held["names"])}


def read_here(source: str, made: str, memory: str) -> None:
    """Write the arrays of an HDF5 file to an .npz in this process, or its reason to standard error."""
    import resource

    import h5py

    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        content = Path(source).read_bytes()
        with h5py.File(io.BytesIO(content), "r") as file:
            arrays = _arrays(file, len(content))
        if not arrays:
            raise ValueError("it holds no weights of layers")
        np.savez(made, *arrays.values(), names=np.array(list(arrays)))
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        sys.exit(reason if isinstance(error, ValueError) else f"{type(error).__name__}: {reason}")


def _arrays(file: Any, size: int) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for name, dataset in _numbered(file) if "layers" in file else _named(file):
        if name in arrays:
            raise ValueError(f"two arrays are called {name!r}")
        arrays[name] = _array(dataset, name, size)
    return arrays


def _named(file: Any) -> Iterator[tuple[str, Any]]:
    """Yield (name, dataset) of a file whose attributes list layers and their weights."""
    root = _child(file, "model_weights") if "model_weights" in file else file
    for layer in _names(root, "layer_names"):
        group = _child(root, layer)
        for weight in _names(group, "weight_names"):
            dataset = group
            for part in weight.strip("/").split("/"):
                dataset = _child(dataset, part)
            yield f"{layer}/{weight.rpartition('/')[2].partition(':')[0]}", dataset


def _names(group: Any, attribute: str) -> list[str]:
    """Return a list of names, which Keras cuts into several attributes where it is long."""
    found = []
    keys = [attribute] if attribute in group.attrs else []
    keys = keys or [f"{attribute}{i}" for i in range(len(group.attrs)) if f"{attribute}{i}" in group.attrs]
    if not keys:
        raise ValueError(f"it has no {attribute}: it is no file of Keras's weights")
    for key in keys:
        found += [name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(group.attrs[key])]
    return found


def _numbered(file: Any) -> Iterator[tuple[str, Any]]:
    """Yield (name, dataset) of Keras 3's weights: layers/CLASS_COUNTER/vars/NUMBER."""
    layers = _child(file, "layers")
    for key in layers:
        group = _child(layers, key)
        if "vars" not in group:
            continue
        variables = _child(group, "vars")
        own = variables.attrs.get("name", group.attrs.get("name", key))
        kind = next((kind for kind in VARIABLES if re.fullmatch(rf"{kind}(_\d+)?", key)), None)
        count = len(variables)
        if count and kind is None:
            raise ValueError(f"the layer {key!r} is none that the networks here have")
        names = VARIABLES[kind or "dense"]
        if kind == "batch_normalization" and count == 3:  # scale=False, as in Keras's Inception v3
            names = NORM[1:]
        if count > len(names):
            raise ValueError(f"the layer {key!r} has {count} variables")
        own = own.decode() if isinstance(own, bytes) else str(own)
        for i in range(count):
            yield f"{own}/{names[i]}", _child(variables, str(i))


def _child(group: Any, name: str) -> Any:
    """Return a group or dataset that lies in the file itself; raise ValueError for a link or none."""
    import h5py

    if not isinstance(group, h5py.Group) or name not in group:
        raise ValueError(f"it lacks {name!r}")
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name!r} is a link to elsewhere")
    return group[name]


def _array(dataset: Any, name: str, size: int) -> np.ndarray:
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{name!r} is no array")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{name!r} lies in another file")
    if dataset.dtype.kind not in "fiub":
        raise ValueError(f"{name!r} holds {dataset.dtype}, no numbers")
    claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
    # Filters could unpack to any size; what Keras writes is at most as large as its file.
    if claimed > max(2**24, 8 * size):
        raise ValueError(f"{name!r} claims {claimed:,} bytes in a file of {size:,}")
    return np.asarray(dataset[()])
