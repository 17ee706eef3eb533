"""A run's directory: `<runs>/<experiment>/<name>-<hash>/`.

config.json (what decides the numbers, with its version), environment.json (one entry for each start),
metrics.jsonl, status.json and checkpoints/. The lock is the operating system's: it ends with its process.
"""

import contextlib
import fcntl
import json
import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from classicnets.runs.identity import SCHEMA, digest, migrated
from classicnets.system.words import nearest
from classicnets.system.writing import WriteFailed, replace, writing

# The states of a run that is not trained on.
ENDED = ("complete", "diverged")
# What a log says of the time that something took: no two runs share it, and an evaluation that is done again lacks it.
TIMING = ("seconds", "images_per_second")
LISTED = "'classicnets runs' lists them"


class RunLocked(Exception):
    """Another process holds the run."""


class Run:
    """The record of one run; nothing is written before `acquire`."""

    def __init__(self, path: Path):
        self.path = path
        self.id = path.name
        self.checkpoints = path / "checkpoints"
        self._lock = None

    @classmethod
    def of(cls, root: Path, experiment: str, name: str, facts: dict) -> "Run":
        """The run of `facts`, whatever label it was started under; ValueError if its directory cannot be made."""
        for part in (experiment, name):
            good = part and part not in (".", "..") and all(c.isascii() and (c.isalnum() or c in "-_.+") for c in part)
            if not good or len(part) > 100:
                raise ValueError(f"a run's experiment and name are up to 100 letters, digits and -_.+, got {part!r}")
        if "\0" in str(root):
            raise ValueError(f"runs must be a directory, got {str(root)!r}")
        folder, name_digest = root / experiment, digest(facts)
        inside = folder.resolve()
        if not inside.is_relative_to(root.resolve()):
            raise ValueError(f"the experiment {experiment!r} is a link out of {str(root)!r}, to {str(inside)!r}")
        found = sorted(folder.glob(f"*-{name_digest}"))
        path = found[0] if found else folder / f"{name}-{name_digest}"
        if not path.resolve().is_relative_to(root.resolve()):
            raise ValueError(f"the run {path.name!r} is a link out of {str(root)!r}, to {str(path.resolve())!r}")
        run = cls(path)
        if run.has_ended:
            return run  # which nobody writes any more
        above = next(path for path in (folder, *folder.parents) if path.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            what = "is a file" if not above.is_dir() else "cannot be written"
            raise ValueError(f"the runs directory {str(root)!r} cannot be made: {str(above)!r} {what}")
        return run

    @property
    def has_ended(self) -> bool:
        """Whether its status says so, and there is nothing to train, however damaged the rest of the record is."""
        with contextlib.suppress(ValueError):
            return self.status["state"] in ENDED
        return False

    def acquire(self, facts: dict) -> None:
        """Become the run's only owner; raises RunLocked with the holder's process id."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise WriteFailed(f"the run's directory {str(self.path)!r} cannot be made: {error.strerror}") from None
        for _ in range(10):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.02)  # who only looks whether the run is held has the lock for an instant
        else:
            lock.close()
            raise RunLocked(f"run {self.id} is held by {self.holder}")
        self._lock = lock
        holder = f"process {os.getpid()} on {os.uname().nodename}\n{json.dumps(sys.argv[1:])}\n"
        with writing(self.path / "lock", len(holder)):
            lock.truncate(0)
            lock.write(holder)
            lock.flush()
        if not (self.path / "config.json").exists():
            self._write("config.json", {"schema": SCHEMA, **facts})

    @property
    def held(self) -> bool:
        """Whether a process, this one among them, holds the run."""
        try:
            with (self.path / "lock").open(encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    @property
    def holder(self) -> str:
        """Who took the lock last."""
        path = self.path / "lock"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return lines[0] if lines else "no process"

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def config(self) -> dict:
        """What decides the run's numbers, and "schema"; a record of an earlier version is read as what it computed."""
        config = self._read("config.json", dict, ("model", "data", "recipe", "seed"))
        for part in ("model", "data", "recipe"):
            if not isinstance(config[part], dict):
                raise ValueError(f"{self.path / 'config.json'} is damaged: {part} is of another kind")
        if type(config["seed"]) is not int:
            raise ValueError(f"{self.path / 'config.json'} is damaged: seed is {config['seed']!r}")
        parent = config.get("parent", {"run": "", "step": 0})
        if not (isinstance(parent, dict) and isinstance(parent.get("run"), str) and type(parent.get("step")) is int):
            raise ValueError(f"{self.path / 'config.json'} is damaged: parent is {parent!r}")
        try:
            return migrated(config)
        except ValueError as error:
            raise ValueError(f"{self.path / 'config.json'} {error}") from None

    @property
    def facts(self) -> dict:
        """What decides the run's numbers, and with them its name."""
        return {key: value for key, value in self.config.items() if key != "schema"}

    @property
    def status(self) -> dict:
        """{"state": "new" | "running" | "interrupted" | "failed" | "complete" | "diverged", ...}.

        It is running only while a process holds the run.
        """
        status = self._read("status.json", dict, ("state",), {"state": "new"})
        return {**status, "state": "interrupted"} if status["state"] == "running" and not self.held else status

    def set_status(self, state: str, **facts) -> None:
        self._write("status.json", {"state": state, **facts})

    @property
    def environment(self) -> list[dict]:
        """Under what each segment of the run was computed."""
        return self._read("environment.json", list, missing=[])

    def add_environment(self, facts: dict) -> None:
        self._write("environment.json", [*self.environment, facts])

    @property
    def started(self) -> float:
        """When the run was first started, in seconds since 1970; ValueError if its record does not say."""
        try:
            return datetime.fromisoformat(self.environment[0]["started"]).timestamp()
        except (LookupError, TypeError):
            raise ValueError(f"{self.path / 'environment.json'} is damaged: it lacks 'started'") from None

    @property
    def metrics(self) -> list[dict]:
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        try:
            # A line that a killed process left unfinished has no line end.
            return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is damaged: {error}") from None

    def log(self, record: dict) -> None:
        path, line = self.path / "metrics.jsonl", json.dumps(record, allow_nan=False) + "\n"
        with writing(path, len(line)), path.open("a", encoding="utf-8") as file:
            file.write(line)

    def cut_metrics(self, step: int) -> None:
        """Keep what was logged at or before `step`."""
        kept = [json.dumps(record) + "\n" for record in self.metrics if record["step"] <= step]
        replace(self.path / "metrics.jsonl", "".join(kept))

    def _read(self, name: str, kind: type, keys: tuple[str, ...] = (), missing: Any = None) -> Any:
        """What a file holds, or `missing` where there is none; ValueError if it is not what this version writes."""
        path = self.path / name
        try:
            value = json.loads(path.read_bytes().decode())
        except (OSError, ValueError, RecursionError) as error:
            if missing is not None and isinstance(error, FileNotFoundError):
                return missing
            raise ValueError(f"{path} is damaged: {error}") from None
        lacks = [key for key in keys if not isinstance(value, dict) or key not in value]
        if not isinstance(value, kind) or lacks:
            raise ValueError(f"{path} is damaged: {f'it lacks {lacks[0]!r}' if lacks else 'it is of another kind'}")
        return value

    def _write(self, name: str, value) -> None:
        replace(self.path / name, json.dumps(value, indent=1, allow_nan=False) + "\n")


def refuse_held(root: Path, command: list[str], word: str | None = None) -> None:
    """Raises RunLocked if a process holds the run `word`, or was started by the same `command`.

    It needs no network, so that a second start is refused before the heavy imports.
    """
    for path in root.glob("*/*/lock") if root.is_dir() else ():
        run = Run(path.parent)
        with contextlib.suppress(OSError):
            lines = path.read_text(encoding="utf-8").splitlines()
            if (run.id == word or lines[1:] == [json.dumps(command)]) and run.held:
                raise RunLocked(f"run {run.id} is held by {run.holder}")


def list_runs(root: Path, experiment: str = "*") -> list[Run]:
    """Return all runs below `root`, or those of one experiment, by path."""
    return [Run(path.parent) for path in sorted(root.glob(f"{experiment}/*/config.json"))]


def find_run(root: Path, word: str) -> Run:
    """The run whose directory or id is `word`; ValueError naming the nearest id below `root`."""
    path = Path(word).resolve()
    if (path / "config.json").is_file():
        return Run(path)
    found = {run.id: run for run in list_runs(root)}
    if word not in found:
        raise ValueError(f"no run {word!r} below {str(root)!r}{nearest(word, found, LISTED)}")
    return found[word]
