"""The commands on data sets: data list, data prepare, data show."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from classicnets import data as datasets
from classicnets.cli.options import action_of, parse
from classicnets.report.progress import Count
from classicnets.report.text import table

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class List:
    """List the data sets, and which are here."""

    json: bool = False
    """Print a JSON list of objects."""


@dataclass(frozen=True)
class Prepare:
    """Fetch a data set, or make one of your own images, and store it for training."""

    name: Positional[str]
    """The data set, one of those that `classicnets data list` shows, or a new name for class folders of images."""
    source: Path | None = None
    """Archive or folder that it is made of: cifar10's and cifar100's in any form, the IDX files of mnist and
    fashion_mnist, imagenet2012's two tars, or class folders of images; none to download the set."""
    store: Literal["arrays", "shards"] | None = None
    """How class folders are kept: arrays of pixels, or shards of the files' bytes, decoded when they are read; none
    for arrays of images of one size up to 1 GiB of pixels, else shards."""
    skip_damaged: bool = False
    """Leave out images that cannot be read, and say which."""
    json: bool = False
    """Print a JSON object."""


@dataclass(frozen=True)
class Show:
    """Say what is in a prepared data set: sizes, classes, balance, and images that stand in two splits."""

    name: Positional[str]
    """The data set, one of those that `classicnets data list` shows as prepared."""
    sheet: Path | None = None
    """File to which a contact sheet is written as PNG, a row a class; none for no sheet."""
    json: bool = False
    """Print a JSON object."""


def data(arguments: list[str]) -> int:
    """List the data sets, prepare one or show what is in it."""
    return action_of("data", arguments, {"list": _list, "prepare": _prepare, "show": _show})


def _list(arguments: list[str]) -> int:
    options, rows = parse(List, arguments, "classicnets data list"), datasets.listing()
    cells = []
    for row in rows:
        shape = "x".join("..." if side is None else str(side) for side in row["shape"] or ())
        sizes = ["" if row[split] is None else f"{row[split]:,}" for split in SPLITS]
        cells.append((row["name"], row["state"], shape, *sizes, row["command"] or row["source"]))
    lines = table(("data set", "state", "shape", *SPLITS, "source"), cells)
    print(json.dumps(rows) if options.json else "\n".join(lines))
    return 0


def _prepare(arguments: list[str]) -> int:
    from classicnets.data import prepare, store

    options = parse(Prepare, arguments, "classicnets data prepare")
    with Count(f"preparing {options.name}") as count:
        notes = prepare.prepare(options.name, options.source, count, options.store, options.skip_damaged)
    prepared = {"name": options.name, "directory": str(store.root() / options.name), "notes": notes}
    lines = [f"{key}: {prepared[key]}" for key in ("name", "directory")]
    print(json.dumps(prepared) if options.json else "\n".join([*lines, *notes]))
    return 0


def _show(arguments: list[str]) -> int:
    from classicnets.data.survey import contact_sheet, survey
    from classicnets.system.writing import replace

    options = parse(Show, arguments, "classicnets data show")
    shown = survey(options.name)
    if options.sheet:
        if not options.sheet.absolute().parent.is_dir():
            raise ValueError(f"sheet must be a file in a folder that is there, got {str(options.sheet)!r}")
        replace(options.sheet, contact_sheet(options.name))
    if options.json:
        print(json.dumps(shown))
        return 0
    sides = ", ".join(f"{side} {' / '.join(map(str, of))}" for side, of in shown["sides"].items())
    balance = "none: a class has no training images" if shown["imbalance"] is None else f"{shown['imbalance']:.3g}"
    print(
        f"{shown['name']}: {sum(shown['sizes'].values()):,} images, kept as {shown['store']}, SHA-256 {shown['sha256']}"
    )
    print(f"sides (least / median / most): {sides}")
    print(f"most over fewest training images of a class: {balance}")
    print(*(f"in both {pair}: {count:,} images" for pair, count in shown["duplicates"].items()), sep="\n")
    print(*shown["notes"], sep="\n", end="\n" if shown["notes"] else "")
    splits = [split for split in SPLITS if shown["sizes"].get(split)]
    rows = [(word, *(f"{of[split]:,}" for split in splits)) for word, of in shown["classes"].items()]
    print("\n".join(table(("class", *splits), rows)))
    return 0
