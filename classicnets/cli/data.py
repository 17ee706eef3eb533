"""The commands on data sets: data list, data prepare."""

import json
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from classicnets import data as datasets
from classicnets.cli.options import parse
from classicnets.data.prepare.tfds import prepare
from classicnets.report.text import table

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class List:
    """List the data sets, and which are here."""

    json: bool = False
    """Print a JSON list of objects."""


@dataclass(frozen=True)
class Prepare:
    """Fetch a data set, and store it for training."""

    name: Positional[str]
    """The data set, one of those that `classicnets data list` shows."""
    source: Path | None = None
    """Directory with the four IDX files of mnist or fashion_mnist; none to download the set."""
    json: bool = False
    """Print a JSON object."""


def data(arguments: list[str]) -> int:
    """List the data sets or prepare one."""
    action, *rest = arguments or [""]
    if action not in ("list", "prepare"):
        raise ValueError(f"unknown action {action!r} of data; choose list or prepare")
    return _list(rest) if action == "list" else _prepare(rest)


def _list(arguments: list[str]) -> int:
    options, rows = parse(List, arguments, "classicnets data list"), datasets.listing()
    cells = []
    for row in rows:
        shape, sizes = "x".join(map(str, row["shape"])), [f"{row[split]:,}" for split in SPLITS]
        cells.append((row["name"], row["state"], shape, *sizes, row["command"] or row["source"]))
    lines = table(("data set", "state", "shape", *SPLITS, "source"), cells)
    print(json.dumps(rows) if options.json else "\n".join(lines))
    return 0


def _prepare(arguments: list[str]) -> int:
    options = parse(Prepare, arguments, "classicnets data prepare")
    prepared = {"name": options.name, "directory": str(prepare(options.name, options.source))}
    print(json.dumps(prepared) if options.json else "\n".join(f"{key}: {value}" for key, value in prepared.items()))
    return 0
