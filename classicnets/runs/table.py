"""Runs as flat rows: configuration, state and results of each, and what is wrong with one that cannot be read."""

import fnmatch
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from classicnets.runs.identity import BESIDE_FIELDS, belongs
from classicnets.runs.run import ENDED, LISTED, Run
from classicnets.runs.where import condition
from classicnets.system.words import nearest

# What a row says of a run beside its configuration and results.
PLACE = ("run", "experiment", "directory", "state", "reason")


def folders(root: Path) -> list[Path]:
    """Every run's folder below `root`, <experiment>/<run>, and whatever else lies there; hidden ones are not runs.

    By name, the numbers in it by their size.
    """

    return sorted((path for path in root.glob("[!.]*/[!.]*") if path.is_dir()), key=_natural)


def _runs(experiment: Path) -> list[Path]:
    """Return the folders of one experiment, as `folders`."""
    return sorted((path for path in experiment.glob("[!.]*") if path.is_dir()), key=_natural)


def _natural(path: Path) -> list:
    words = re.split(r"(\d+)", f"{path.parent.name}\0{path.name}")
    return [int(word) if i % 2 else word for i, word in enumerate(words)]


def table(root: Path) -> list[dict]:
    """One row for each folder below `root`, in their order."""
    return [row(Run(path)) for path in folders(root)]


def tables(roots: Sequence[Path], words: Sequence[str] = ()) -> list[dict]:
    """Return the rows of several roots, and of the directories among `words`: of runs, of experiments, or more roots.

    Each folder once.
    """
    places = [*roots] + [path for word in words if (path := _directory(word))]
    rows: dict[str, dict] = {}
    for place in places:
        is_run, is_experiment = (next(place.glob(f"{above}config.json"), None) is not None for above in ("", "*/"))
        found = [row(Run(place))] if is_run else [row(Run(p)) for p in _runs(place)] if is_experiment else table(place)
        for one in found:
            rows.setdefault(os.path.realpath(one["directory"]), one)
    return list(rows.values())


def _directory(word: str) -> Path | None:
    path = None if "\0" in word else Path(word).expanduser().absolute()
    return path if path and path.is_dir() else None


def row(run: Run) -> dict:
    """{"run", "experiment", "state", "directory", each field of the configuration, the results}.

    A field of the network that bears the name of another is prefixed with "model_". A folder that is no whole run has
    the state "damaged", and "reason"; bytes of its name that are no text are written as \\xNN.
    """
    place = {"run": run.id, "experiment": run.path.parent.name, "state": "damaged", "directory": str(run.path)}
    try:
        facts = run.facts
        fields = flat(facts)
        if not belongs(facts, run.id):
            raise ValueError(f"{run.path / 'config.json'} does not belong to a run of this name")
        status = run.status
        _require_whole(run, status)
    except (ValueError, OSError) as error:
        damaged = {**place, "reason": str(error)}
        return {name: os.fsencode(text).decode(errors="backslashreplace") for name, text in damaged.items()}
    return {**place, **fields, **status, **{name: place[name] for name in PLACE[:3]}}


def flat(facts: dict) -> dict:
    """The fields of a configuration's parts, and what stands beside them, in one dict."""
    found = {"model": str(facts["model"].get("module", "")).rpartition(":")[2], "seed": facts["seed"]}
    for part in ("recipe", "data", "model"):
        for field, value in facts[part].items():
            if field not in (*BESIDE_FIELDS, "sha256"):
                found[f"model_{field}" if field in found or field in PLACE else field] = value
    return found


def plain(value) -> bool | int | float | str:
    """A field's value as other tools take it: None is "none", and a list is JSON text."""
    return value if isinstance(value, bool | int | float | str) else "none" if value is None else json.dumps(value)


def numbers(record: dict) -> dict[str, int | float]:
    """What a line of the log, or a run's results, holds of numbers beside the step."""
    return {name: value for name, value in record.items() if name != "step" and is_number(value)}


def chosen(
    rows: Sequence[dict],
    words: Sequence[str] = (),
    where: str | None = None,
    sort: str | None = None,
    descending: bool = False,
    columns: Sequence[str] = (),
) -> list[dict]:
    """The rows that `words` name (all for none) and that meet `where`, sorted; ValueError for a field that none has."""
    rows = select(rows, words) if words else list(rows)
    holds, fields = condition(where) if where is not None else (None, set())
    require_columns(rows, [*sorted(fields), *([sort] if sort else []), *columns])
    if holds:
        rows = [r for r in rows if holds(r)]
    return ordered(rows, sort, descending) if sort else rows


def select(rows: Sequence[dict], words: Sequence[str]) -> list[dict]:
    """The rows that `words` name: each once, in the order of `words`.

    A word is an id, a directory, an experiment, or a glob of ids; with a slash the ids are led by their experiments.

    Raises ValueError for a word that names none.
    """
    places = {os.path.realpath(r["directory"]): r for r in rows}
    chosen: dict[str, dict] = {}
    for word in words:
        real = os.path.realpath(Path(word).expanduser()) if "\0" not in word else None
        at = places.get(real) if real else None
        called = [f"{r['experiment']}/{r['run']}" if "/" in word else r["run"] for r in rows]
        named = [
            r
            for r, name in zip(rows, called, strict=True)
            if r is at or _lies_in(r, real) or word in (r["experiment"], name) or fnmatch.fnmatchcase(name, word)
        ]
        if not named:
            names = [name for r in rows for name in (r["run"], r["experiment"])]
            raise ValueError(f"no run {word!r}{nearest(word, names, LISTED if rows else 'there are none')}")
        chosen |= {r["directory"]: r for r in named if r["directory"] not in chosen}
    return list(chosen.values())


def _lies_in(row: dict, directory: str | None) -> bool:
    """Return whether a run is one of the experiment, or of the root, that is `directory`."""
    above = Path(os.path.realpath(row["directory"])).parents
    return directory in (str(above[0]), str(above[1])) if directory and len(above) > 1 else False


def ordered(rows: Sequence[dict], column: str, descending: bool = False) -> list[dict]:
    """`rows` by a column, numbers before words, and those that lack it last."""

    def key(row: dict):
        value = row[column]
        number = isinstance(value, int | float)
        return (not number, value if number else 0.0, "" if number else str(value))

    there = [r for r in rows if r.get(column) is not None]
    return sorted(there, key=key, reverse=descending) + [r for r in rows if r.get(column) is None]


def require_columns(rows: Sequence[dict], names: Sequence[str]) -> None:
    """ValueError, with the nearest, for a name that no row has."""
    known = sorted({column for r in rows for column in r})
    for name in names:
        if rows and name not in known:
            raise ValueError(f"no run has the field {name!r}{nearest(name, known)}")


def _require_whole(run: Run, status: dict) -> None:
    """ValueError naming the file that a run in this state must have and has not, or that is of another form."""
    for name, value in status.items():
        if name.endswith(("_error", "_loss")) and not (value is None or is_number(value)):
            raise ValueError(f"{run.path / 'status.json'} is damaged: {name} is {value!r}")
    for name, kind in (("state", str), ("step", int)):
        if not isinstance(status.get(name, kind()), kind):
            raise ValueError(f"{run.path / 'status.json'} is damaged: {name} is {status[name]!r}")
    log = run.path / "metrics.jsonl"
    try:
        text = log.read_bytes()
    except OSError:
        text = None
    if status["state"] == "new" and text is not None:
        raise ValueError(f"{run.path / 'status.json'} is missing")
    ended, complete = status["state"] in ENDED, status["state"] == "complete"
    if ended and text is None:
        raise ValueError(f"{log} is missing")
    if text:
        _require_lines(log, text, ended)
    if ended and not run.environment:
        raise ValueError(f"{run.path / 'environment.json'} is missing or empty")
    if complete and not (run.checkpoints / str(status.get("step"))).is_dir():
        raise ValueError(f"{run.checkpoints} lacks the final step {status.get('step')}")
    if complete and text is not None and (last := _last_step(text)) < status["step"]:
        raise ValueError(f"{log} is damaged: it ends at step {last}, the run at step {status['step']}")


def _require_lines(log: Path, text: bytes, ended: bool) -> None:
    """ValueError for a line that is not whole; in a run that has not ended, a killed process may have left the last."""
    ends = text.count(b"\n")
    braced = text.startswith(b"{") and text.endswith(b"}\n") and text.count(b"}\n{") == ends - 1
    if braced and text.count(b"{") == text.count(b"}") == ends:
        return  # a thousand logs are looked at like this in the time of a few that are read line by line
    for number, line in enumerate(text.split(b"\n"), 1):
        unfinished = number == ends + 1
        whole = not (line and ended) if unfinished else _is_object(line)
        if not whole:
            raise ValueError(f"{log} is damaged: line {number} is not whole")


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _last_step(text: bytes) -> int:
    """The step of the last line of a log, 0 if it has none."""
    try:
        step = json.loads(text.rstrip(b"\n").rpartition(b"\n")[2]).get("step")
    except (ValueError, AttributeError, RecursionError):
        return 0
    return step if type(step) is int else 0


def is_number(value) -> bool:
    """Whether it is a finite number, and one that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
