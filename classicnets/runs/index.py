"""Runs listed, found and selected: by directory, experiment, id or glob, and by the fields of their rows."""

import contextlib
import fnmatch
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from classicnets.runs.record import Record
from classicnets.runs.run import Run, RunLocked
from classicnets.runs.where import condition
from classicnets.system.words import nearest

LISTED = "'classicnets runs' lists them"


def list_runs(root: Path, experiment: str = "[!.]*") -> list[Run]:
    """Return every run below `root`, <experiment>/<run>, and whatever else lies there; hidden folders are no runs.

    They are in the order of their names, the numbers in these by size.
    """
    return [Run(path) for path in _folders(root, f"{experiment}/[!.]*")]


def list_records(roots: Sequence[Path], words: Sequence[str] = ()) -> list[Record]:
    """Return the record of each run of several roots, and of the directories among `words`, each once.

    Such a directory is of a run, of an experiment, or one more root.
    """
    records: dict[str, Record] = {}
    for place in (*roots, *filter(None, map(_directory, words))):
        is_run, is_experiment = (any(place.glob(f"{above}config.json")) for above in ("", "*/"))
        paths = [place] if is_run else _folders(place, "[!.]*" if is_experiment else "[!.]*/[!.]*")
        for path in paths:
            records.setdefault(os.path.realpath(path), Record(path))
    return list(records.values())


def find_run(root: Path, word: str) -> Run:
    """Return the run whose directory is `word`, or the one below `root` that `word` names as for `select`.

    Raise ValueError if it names none, or several.
    """
    place = _directory(word)
    if place and (place / "config.json").is_file():
        return Run(place.resolve())
    records = _named([run.record for run in list_runs(root)], [word], f" below {str(root)!r}")
    if len(records) > 1:
        raise ValueError(f"{word!r} names {len(records)} runs, such as {' and '.join(names(records)[:2])}: name one")
    return Run(records[0].path)


def select(
    records: Sequence[Record],
    words: Sequence[str] = (),
    where: str | None = None,
    sort: str | None = None,
    descending: bool = False,
    columns: Sequence[str] = (),
) -> list[Record]:
    """Return the records that `words` name, all for none, whose rows meet `where`: sorted, or in the order of `words`.

    A word is an id, a directory, an experiment, or a glob of ids; with a slash the ids are led by their experiments.
    Raise ValueError for a word that names no run, or a field, such as one of `columns`, that no row has.
    """
    records = _named(records, words) if words else list(records)
    holds, fields = condition(where) if where is not None else (None, set())
    known = sorted({field for record in records for field in record.row})
    for field in (*sorted(fields), *([sort] if sort else []), *columns):
        if records and field not in known:
            raise ValueError(f"no run has the field {field!r}{nearest(field, known)}")
    if holds:
        records = [record for record in records if holds(record.row)]
    return ordered(records, sort, descending) if sort else records


def ordered(records: Sequence[Record], field: str, descending: bool) -> list[Record]:
    """Return `records` by a field of their rows, numbers before words, and those that lack it last."""

    def key(record: Record) -> tuple:
        value = record.row[field]
        number = isinstance(value, int | float)
        return (not number, value if number else 0.0, "" if number else str(value))

    having = [record for record in records if record.row.get(field) is not None]
    return sorted(having, key=key, reverse=descending) + [r for r in records if r.row.get(field) is None]


def names(records: Sequence[Record]) -> list[str]:
    """Return the id of each run, led by its experiment where several have it, or its path where that is not enough."""
    ids, led = ([str(Path(*record.path.parts[-count:])) for record in records] for count in (1, 2))
    times, led_times = Counter(ids), Counter(led)
    return [
        short if times[short] == 1 else long if led_times[long] == 1 else str(record.path)
        for short, long, record in zip(ids, led, records, strict=True)
    ]


def refuse_held(root: Path, command: list[str], word: str | None = None) -> None:
    """Raise RunLocked if a process holds the run `word`, or was started by the same `command`.

    It needs no network, so that a second start is refused before the heavy imports.
    """
    for run in list_runs(root):
        if (run.id == word or run.was_started_by(command)) and run.held:
            raise RunLocked(f"run {run.id} is held by {run.holder}")


def _named(records: Sequence[Record], words: Sequence[str], place: str = "") -> list[Record]:
    """Return the records that `words` name, each once, in their order; place: where the records lie, for a refusal."""
    reals = [os.path.realpath(record.path) for record in records]
    named: dict[str, Record] = {}
    for word in words:
        directory = None if "\0" in word else os.path.realpath(Path(word).expanduser())
        ids = [f"{r.path.parent.name}/{r.id}" if "/" in word else r.id for r in records]
        matching = {
            real: record
            for record, real, name in zip(records, reals, ids, strict=True)
            if word in (record.path.parent.name, name)
            or fnmatch.fnmatchcase(name, word)
            or directory in (real, *map(str, Path(real).parents[:2]))
        }
        if not matching:
            known = [name for record in records for name in (record.id, record.path.parent.name)]
            raise ValueError(f"no run {word!r}{place}{nearest(word, known, LISTED if records else 'there are none')}")
        named |= {real: record for real, record in matching.items() if real not in named}
    return list(named.values())


def _directory(word: str) -> Path | None:
    with contextlib.suppress(OSError, ValueError):  # too long for a name, or no name at all
        path = Path(word).expanduser().absolute()
        return path if path.is_dir() else None
    return None


def _folders(place: Path, pattern: str) -> list[Path]:
    def natural(path: Path) -> list:
        words = re.split(r"(\d+)", f"{path.parent.name}\0{path.name}")
        return [int(word) if i % 2 else word for i, word in enumerate(words)]

    return sorted((path for path in place.glob(pattern) if path.is_dir()), key=natural)
