"""A run as its owner holds it: `<runs>/<experiment>/<name>-<hash>/`, one process at a time.

config.json (what decides the numbers, with its version), environment.json (one entry for each start),
metrics.jsonl, status.json and checkpoints/. The lock is the operating system's: it ends with its process.
"""

import contextlib
import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import TextIO

from classicnets.runs.identity import SCHEMA, digest
from classicnets.runs.record import ENDED, Record, is_held
from classicnets.system.writing import WriteFailed, replace, writing


class RunLocked(Exception):
    """Another process holds the run."""


class Run:
    """One run: what is written of it, and what `Record` reads; nothing is written before `acquire`."""

    def __init__(self, path: Path):
        self.path = path
        self.id = path.name
        self.checkpoints = path / "checkpoints"
        self._lock: TextIO | None = None

    @classmethod
    def of(cls, root: Path, experiment: str, name: str, facts: dict) -> "Run":
        """Return the run of `facts`, whatever label it was started under.

        Raise ValueError if its directory cannot be made.
        """
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
        path = min(folder.glob(f"*-{name_digest}"), default=folder / f"{name}-{name_digest}")
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
        """Return whether there is nothing to train, as the status says, however damaged the rest of the record is."""
        with contextlib.suppress(ValueError):
            return self.status["state"] in ENDED
        return False

    def acquire(self, facts: dict) -> None:
        """Become the run's only owner; raise RunLocked with the holder's process id if another process is."""
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
        """Return whether a process, this one among them, holds the run."""
        return is_held(self.path)

    @property
    def holder(self) -> str:
        """Return who took the lock last."""
        return (self._lock_lines() or ["no process"])[0]

    def was_started_by(self, command: list[str]) -> bool:
        """Return whether who took the lock last was started by this command line."""
        return self._lock_lines()[1:] == [json.dumps(command)]

    def release(self) -> None:
        """Let the run go."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def record(self) -> Record:
        """Return what the directory holds now."""
        return Record(self.path)

    @property
    def facts(self) -> dict:
        """Return what decides the run's numbers, as `Record.facts`."""
        return self.record.facts

    @property
    def status(self) -> dict:
        """Return the state and the results, as `Record.status`."""
        return self.record.status

    def set_status(self, state: str, **facts: object) -> None:
        """Write the state, and what is to be told of it."""
        self._write("status.json", {"state": state, **facts})

    @property
    def environment(self) -> list[dict]:
        """Return under what each segment was computed, as `Record.environment`."""
        return self.record.environment

    def add_environment(self, segment: dict) -> None:
        """Write under what a new segment is computed."""
        self._write("environment.json", [*self.environment, segment])

    @property
    def metrics(self) -> list[dict]:
        """Return what was logged, as `Record.log`."""
        return self.record.log

    def log(self, line: dict) -> None:
        """Add a line to the log."""
        path, text = self.path / "metrics.jsonl", json.dumps(line, allow_nan=False) + "\n"
        with writing(path, len(text)), path.open("a", encoding="utf-8") as file:
            file.write(text)

    def cut_metrics(self, step: int) -> None:
        """Keep what was logged at or before `step`."""
        kept = [json.dumps(line) + "\n" for line in self.metrics if line["step"] <= step]
        replace(self.path / "metrics.jsonl", "".join(kept))

    def _lock_lines(self) -> list[str]:
        try:
            return (self.path / "lock").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []

    def _write(self, name: str, value: object) -> None:
        replace(self.path / name, json.dumps(value, indent=1, allow_nan=False) + "\n")
