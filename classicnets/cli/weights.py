"""The commands on weights: weights import, weights export, weights show; and eval of weights."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tyro.conf import Positional

from classicnets.cli.options import action_of, early, network, parse, with_groups
from classicnets.report.text import table
from classicnets.weights.convert import KEPT

SourceName = Literal["torchvision", "timm", "keras", "slim", "tensorflow-vgg", "caffe", "akamaster", "lasagne"]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is known of a file of weights, where its names and shapes do not tell."""

    source: SourceName | None = None
    """Library whose weights these are; none for what the file tells."""
    model: str | None = None
    """Name of the network here, one of those that `classicnets models` lists, whose options may follow; none for what
    the file tells."""
    json: bool = False
    """Print the answer as JSON."""


@dataclass(frozen=True, kw_only=True)
class Import(Told):
    """Read another library's weights, check each array, and store them with all that belongs to them."""

    file: Positional[Path]
    """File of weights: .pth, .pt, .th, .tar, .safetensors, .npz, .npy, .h5, .keras, .caffemodel, .ckpt or .index."""
    out: Path
    """File that is written, .safetensors."""
    pixel_mean_of: str | None = None
    """Data set whose training images give the mean of each pixel, for weights that take one off; none for none."""


@dataclass(frozen=True, kw_only=True)
class Export(Told):
    """Write weights in the form of a library."""

    file: Positional[Path]
    """File of weights, one that `weights import` wrote or a library's own."""
    to: SourceName | None = None
    """Library in whose names and layout they are written; none for that which they came from."""
    out: Path
    """File that is written: .safetensors, .npz, or .npy for tensorflow-vgg."""


@dataclass(frozen=True, kw_only=True)
class ShowWeights(Told):
    """Say what is in a file of weights: source, network, and each array with shape, type and norm."""

    file: Positional[Path]
    """File of weights."""


@dataclass(frozen=True, kw_only=True)
class EvalWeights(Told):
    """Give the errors of anyone's weights on a data set; nothing is written."""

    weights: Path
    """File of weights, one that `weights import` wrote or a library's own."""
    dataset: str
    """Data set, one of those that `classicnets data list` shows as prepared."""
    split: Literal["train", "validation", "test"] = "test"
    """Part of the data set."""


def weights(arguments: list[str]) -> int:
    """Import, export or show weights."""
    return action_of("weights", arguments, {"import": _import, "export": _export, "show": _show})


def told(cls: type, arguments: list[str], prog: str) -> tuple[Any, dict[str, Any]]:
    """Return (options of `cls`, fields of the network that --model names, as given)."""
    model = early("model", arguments)
    if model is None:
        return parse(cls, arguments, prog), {}
    own = [field.name for field in fields(cls)]  # "features" of predict is no ResNet's
    options = parse(with_groups(cls, network=network(model, without=own)), arguments, prog)
    words = {word.partition("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_") for word in arguments}
    return options, {field: value for field, value in vars(options.network).items() if field in words}


def opened(path: Path, options: Any, known: dict[str, Any]) -> Any:
    """Return the network of a file of weights."""
    from classicnets.inference.net import load_weights

    return load_weights(path, options.source, options.model, **known)


def line_of(facts: dict[str, Any]) -> str:
    """Return the network and its source in words, and what its images go through."""
    from classicnets.weights.preprocessing import Preprocessing

    settings = " ".join(f"{key}={value}" for key, value in facts["fields"].items())
    before = Preprocessing.of_facts(facts["preprocessing"]).sentence()
    return f"{facts['model']} {settings}\nweights of {facts['source']}, SHA-256 {facts['sha256']}\nimages: {before}"


def evaluate(arguments: list[str]) -> int:
    """Print the errors of weights on a data set."""
    from classicnets.inference.scoring import score, with_means
    from classicnets.report.progress import Count
    from classicnets.system import caches

    options, known = told(EvalWeights, arguments, "classicnets eval")
    net = with_means(opened(options.weights, options, known), options.dataset)
    caches.use_cache()
    with Count(f"evaluating {options.weights.name}") as count:
        errors = score(net, options.dataset, options.split, count)
    facts = net.facts()
    if options.json:
        print(json.dumps({**facts, "dataset": options.dataset, "split": options.split, **errors}))
        return 0
    print(line_of(facts))
    print(f"{options.dataset}, {options.split}: {errors['images']:,} images")
    print(*(f"{key}: {value}" for key, value in errors.items() if key != "images"), sep="\n")
    return 0


def _import(arguments: list[str]) -> int:
    from classicnets.inference.net import save_weights
    from classicnets.inference.scoring import with_means

    options, known = told(Import, arguments, "classicnets weights import")
    if options.out.suffix != ".safetensors":
        raise ValueError(f"out must end in .safetensors, got {options.out}")
    net = opened(options.file, options, known)
    if options.pixel_mean_of:
        net = with_means(net, options.pixel_mean_of)
    save_weights(net, options.out)
    facts = {**net.facts(), "file": str(options.out), **_report(net.weights)}
    if options.json:
        print(json.dumps(facts))
    else:
        print(line_of(facts))
        print(f"{facts['used']} arrays used, {facts['kept']} kept beside them, none missing, none left over")
        print(f"stored in {options.out}")
    return 0


def _export(arguments: list[str]) -> int:
    from safetensors.numpy import save

    from classicnets.system import writing
    from classicnets.weights.tables import tensorflow_vgg

    options, known = told(Export, arguments, "classicnets weights export")
    weights = opened(options.file, options, known).weights
    to = options.to or weights.source
    forms = {".safetensors", ".npz"} | ({".npy"} if to == "tensorflow-vgg" else set())
    if options.out.suffix not in forms:
        raise ValueError(f"out must end in {' or '.join(sorted(forms))} for {to}, got {options.out}")
    arrays = {key: np.ascontiguousarray(array) for key, array in weights.arrays(to).items()}
    if options.out.suffix == ".safetensors":
        content = save(arrays, {"format": "pt"})
    else:
        content = _numpy(tensorflow_vgg.layers(arrays) if options.out.suffix == ".npy" else arrays, options.out.suffix)
    options.out.absolute().parent.mkdir(parents=True, exist_ok=True)
    writing.replace(options.out, content)
    facts = {"file": str(options.out), "model": weights.name, "to": to, "arrays": len(arrays)}
    print(json.dumps(facts) if options.json else f"{len(arrays)} arrays of {weights.name} as {to}'s in {options.out}")
    return 0


def _numpy(held: Any, suffix: str) -> bytes:
    import io

    buffer = io.BytesIO()
    if suffix == ".npz":
        np.savez(buffer, **held)
    else:
        np.save(buffer, np.array(held, dtype=object))
    return buffer.getvalue()


def _show(arguments: list[str]) -> int:
    from classicnets.weights import files

    options, known = told(ShowWeights, arguments, "classicnets weights show")
    arrays = files.read(options.file)
    facts: dict[str, Any] = {"file": str(options.file), "sha256": files.sha256(options.file)}
    try:
        net = opened(options.file, options, known)
        facts |= {**net.facts(), **_report(net.weights)}
    except ValueError as error:
        if options.model or options.source:
            raise
        facts |= {"model": None, "reason": str(error)}
    rows = [
        {"name": key, "shape": list(array.shape), "dtype": array.dtype.name, "norm": _norm(array)}
        for key, array in arrays.items()
    ]
    if options.json:
        print(json.dumps({**facts, "arrays": rows}))
        return 0
    print(line_of(facts) if facts["model"] else f"SHA-256 {facts['sha256']}\n{facts['reason']}")
    cells = [(row["name"], "x".join(map(str, row["shape"])), row["dtype"], f"{row['norm']:.6g}") for row in rows]
    print("\n".join(table(("array", "shape", "type", "norm"), cells)))
    return 0


def _report(weights: Any) -> dict[str, int]:
    kept = sum(word == KEPT for word in weights.keys.values())
    return {"arrays": len(weights.keys), "used": len(weights.keys) - kept, "kept": kept}


def _norm(array: np.ndarray) -> float:
    return float(np.linalg.norm(array.astype(np.float64).ravel()))
