"""A run's record as it is read: what its directory holds, and what is wrong with it. Nothing here writes."""

import fcntl
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from classicnets.runs.identity import BESIDE_FIELDS, belongs, migrated

# The states of a run that is not trained on.
ENDED = ("complete", "diverged")
# What a log says of the time that something took: no two runs share it, and an evaluation that is done again lacks it.
TIMING = ("seconds", "images_per_second")
# What a row says of a run beside its configuration and results.
PLACE = ("run", "experiment", "directory", "state", "reason")


@dataclass(frozen=True)
class Record:
    """The record of the run in the directory `path`; each file is read once, when it is first needed.

    What a damaged file should hold raises ValueError with a sentence that names the file; `problems` gathers these.
    """

    path: Path

    @property
    def id(self) -> str:
        """Return the run's name, <label>-<hash>."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """Return the directory of the run's checkpoints."""
        return self.path / "checkpoints"

    @cached_property
    def facts(self) -> dict:
        """Return what decides the run's numbers, and with them its name, as this version writes it."""
        config = self._object("config.json", model=dict, data=dict, recipe=dict, seed=int)
        parent = config.get("parent", {"run": "", "step": 0})
        if not (isinstance(parent, dict) and isinstance(parent.get("run"), str) and type(parent.get("step")) is int):
            raise self._damaged("config.json", f"parent is {parent!r:.100}")
        if not isinstance(config.get("settings", {}), dict):
            raise self._damaged("config.json", f"settings is {config['settings']!r:.100}")
        try:
            return {key: value for key, value in migrated(config).items() if key != "schema"}
        except ValueError as error:
            raise ValueError(f"{self.path / 'config.json'} {error}") from None

    @cached_property
    def fields(self) -> dict:
        """Return the fields of the network, the data and the recipe in one dict, with "model", its class, and "seed".

        A field of the network that bears the name of another is prefixed with "model_".
        """
        fields = {"model": str(self.facts["model"].get("module", "")).rpartition(":")[2], "seed": self.facts["seed"]}
        for part in ("recipe", "data", "model"):
            for field, value in self.facts[part].items():
                if field not in (*BESIDE_FIELDS, "sha256"):
                    fields[f"model_{field}" if field in fields or field in PLACE else field] = value
        return fields

    @cached_property
    def status(self) -> dict:
        """Return {"state": "new" | "running" | "interrupted" | "failed" | "complete" | "diverged", "step", results}.

        It is running only while a process holds the run.
        """
        status = self._object("status.json", {"state": "new"}, state=str)
        for name, value in status.items():
            result = name.endswith(("_error", "_loss"))
            if (name == "step" and type(value) is not int) or (result and not (value is None or is_number(value))):
                raise self._damaged("status.json", f"{name} is {value!r:.100}")
        return {**status, "state": "interrupted"} if status["state"] == "running" and not is_held(self.path) else status

    @cached_property
    def environment(self) -> list[dict]:
        """Return under what each segment of the run was computed, as `system.environment.environment` tells it."""
        segments = self._json("environment.json", [])
        if not isinstance(segments, list):
            raise self._damaged("environment.json", "it is of another kind")
        if not all(isinstance(s, dict) and isinstance(s.get("versions", {}), dict) for s in segments):
            raise self._damaged("environment.json", "a segment is of another kind")
        return segments

    @cached_property
    def log(self) -> list[dict]:
        """Return the lines of metrics.jsonl: rising steps, with numbers, booleans and None.

        A line that a killed process left unfinished has no line end, and is left out.
        """
        try:
            lines = [json.loads(line) for line in (self._log_bytes or b"").decode().split("\n")[:-1]]
        except (ValueError, RecursionError) as error:
            raise self._damaged("metrics.jsonl", error) from None
        before = 0
        for number, line in enumerate(lines, 1):
            if not isinstance(line, dict) or type(line.get("step")) is not int or line["step"] <= before:
                raise self._damaged("metrics.jsonl", f"line {number} is not of a later step than what is before it")
            for name, value in line.items():
                if not (value is None or isinstance(value, bool) or is_number(value)):
                    raise self._damaged("metrics.jsonl", f"line {number}: {name} is {value!r:.100}")
            before = line["step"]
        return lines

    @property
    def complete(self) -> bool:
        """Return whether the run was trained to its end."""
        return self.status["state"] == "complete"

    @property
    def last_step(self) -> int:
        """Return the last step that is saved or logged, 0 if there is none."""
        return max(self.status.get("step", 0), self.log[-1]["step"] if self.log else 0)

    @property
    def started(self) -> float:
        """Return when the run was first started, in seconds since 1970."""
        try:
            return datetime.fromisoformat(self.environment[0]["started"]).timestamp()
        except (LookupError, TypeError):
            raise self._damaged("environment.json", "it lacks 'started'") from None

    @cached_property
    def problems(self) -> tuple[str, ...]:
        """Return what is wrong with the record, one sentence each, the first the reason to call it damaged.

        The log is looked at for whole lines only, so that a thousand runs are listed in a moment; `all_problems` reads
        it.
        """
        checks = (self._check_name, self._check_log, self._check_environment, self._check_checkpoint)
        return tuple(dict.fromkeys(filter(None, map(_problem, checks))))

    @property
    def all_problems(self) -> tuple[str, ...]:
        """Return `problems`, and the first of a line of the log."""
        problem = _problem(lambda: self.log)
        return (*self.problems, *([problem] if problem and problem not in self.problems else []))

    @cached_property
    def row(self) -> dict:
        """Return {"run", "experiment", "state", "directory", each of `fields`, the results}.

        Of a damaged run the state is "damaged", and "reason" stands in place of fields and results; bytes of its name
        that are no text are written as \\xNN.
        """
        place = {"run": self.id, "experiment": self.path.parent.name, "state": "damaged", "directory": str(self.path)}
        if self.problems:
            damaged = {**place, "reason": self.problems[0]}
            return {name: os.fsencode(text).decode(errors="backslashreplace") for name, text in damaged.items()}
        return {**place, **self.fields, **self.status, **{name: place[name] for name in PLACE[:3]}}

    def _check_name(self) -> None:
        if not belongs(self.facts, self.id):
            raise ValueError(f"{self.path / 'config.json'} does not belong to a run of this name")

    def _check_log(self) -> None:
        state, text, log = self.status["state"], self._log_bytes, self.path / "metrics.jsonl"
        if state == "new" and text is not None:
            raise ValueError(f"{self.path / 'status.json'} is missing")
        if state in ENDED and text is None:
            raise ValueError(f"{log} is missing")
        number = _unfinished_line(text or b"", state in ENDED)
        if number:
            raise self._damaged("metrics.jsonl", f"line {number} is not whole")
        step = self.status.get("step", 0)
        if self.complete and (last := _last_step(text or b"")) < step:
            raise self._damaged("metrics.jsonl", f"it ends at step {last}, the run at step {step}")

    def _check_environment(self) -> None:
        if not self.environment and self.status["state"] in ENDED:
            raise ValueError(f"{self.path / 'environment.json'} is missing or empty")

    def _check_checkpoint(self) -> None:
        step = self.status.get("step")
        if self.complete and not (self.checkpoints / str(step)).is_dir():
            raise ValueError(f"{self.checkpoints} lacks the final step {step}")

    @cached_property
    def _log_bytes(self) -> bytes | None:
        try:
            return (self.path / "metrics.jsonl").read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._damaged("metrics.jsonl", error) from None

    def _object(self, name: str, missing: dict | None = None, **kinds: type) -> dict:
        """Return the object in a file; raise ValueError unless it holds each of `kinds`, of that type."""
        value = self._json(name, missing)
        if not isinstance(value, dict):
            raise self._damaged(name, "it is of another kind")
        for field, kind in kinds.items():
            if field not in value:
                raise self._damaged(name, f"it lacks {field!r}")
            if type(value[field]) is not kind:
                raise self._damaged(name, f"{field} is {value[field]!r:.100}")
        return value

    def _json(self, name: str, missing: Any = None) -> Any:
        """Return what a file holds, or `missing`, if that is given, where there is none."""
        try:
            return json.loads((self.path / name).read_bytes().decode())
        except (OSError, ValueError, RecursionError) as error:
            if missing is not None and isinstance(error, FileNotFoundError):
                return missing
            raise self._damaged(name, error) from None

    def _damaged(self, name: str, reason: object) -> ValueError:
        return ValueError(f"{self.path / name} is damaged: {reason}")


def is_held(path: Path) -> bool:
    """Return whether a process, this one among them, holds the run in the directory `path`."""
    try:
        with (path / "lock").open(encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def is_number(value: object) -> bool:
    """Return whether a value is a finite number, and one that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _problem(check: Callable[[], object]) -> str | None:
    """Return the sentence with which `check` fails, None if it does not."""
    try:
        check()
    except (ValueError, OSError) as error:
        return str(error)
    return None


def _unfinished_line(text: bytes, ended: bool) -> int | None:
    """Return the number of a log's first line that is not whole.

    Of a run that has not ended, a killed process may have left the last.
    """
    ends = text.count(b"\n")
    braced = text.startswith(b"{") and text.endswith(b"}\n") and text.count(b"}\n{") == ends - 1
    if not text or (braced and text.count(b"{") == text.count(b"}") == ends):
        return None  # a thousand logs are looked at like this in the time of a few that are read line by line
    for number, line in enumerate(text.split(b"\n"), 1):
        last = number == ends + 1
        if (line and ended) if last else not _is_object(line):
            return number
    return None


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _last_step(text: bytes) -> int:
    """Return the step of the last line of a log, 0 if it has none."""
    try:
        step = json.loads(text.rstrip(b"\n").rpartition(b"\n")[2]).get("step")
    except (ValueError, AttributeError, RecursionError):
        return 0
    return step if type(step) is int else 0
