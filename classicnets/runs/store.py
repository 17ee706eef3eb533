"""A run's directory: `<runs>/<experiment>/<name>-<hash>/`.

config.json (what decides the numbers, with its version), environment.json (one entry for each start),
metrics.jsonl, status.json and checkpoints/. The lock is the operating system's: it ends with its process.
"""

import difflib
import fcntl
import hashlib
import json
import os
from pathlib import Path

SCHEMA = 1


def identity(facts: dict) -> str:
    """The first 12 hexadecimal digits of SHA-256 over `facts` as canonical JSON."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


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
        """The run of `facts`, whatever label it was started under."""
        for part in (experiment, name):
            if not part or part in (".", "..") or not all(c.isalnum() or c in "-_.+" for c in part):
                raise ValueError(f"a run's experiment and name are letters, digits and -_.+, got {part!r}")
        for above in (root, *root.parents):
            if above.exists():
                if not above.is_dir():
                    raise ValueError(f"the runs directory {str(root)!r} cannot be made: {str(above)!r} is a file")
                break
        folder, digest = root / experiment, identity(facts)
        found = sorted(folder.glob(f"*-{digest}"))
        return cls(found[0] if found else folder / f"{name}-{digest}")

    def acquire(self, facts: dict) -> None:
        """Become the run's only owner; raises RunLocked with the holder's process id."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = (self.path / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise RunLocked(f"run {self.id} is held by {self.holder}") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {os.uname().nodename}")
        lock.flush()
        self._lock = lock
        if not (self.path / "config.json").exists():
            self._write("config.json", {"schema": SCHEMA, **facts})

    @property
    def holder(self) -> str:
        """Who took the lock last."""
        path = self.path / "lock"
        return path.read_text() if path.exists() else "no process"

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def config(self) -> dict:
        return json.loads((self.path / "config.json").read_text())

    @property
    def status(self) -> dict:
        """{"state": "new" | "running" | "complete" | "diverged" | "interrupted", ...}."""
        path = self.path / "status.json"
        return json.loads(path.read_text()) if path.exists() else {"state": "new"}

    def set_status(self, state: str, **facts) -> None:
        self._write("status.json", {"state": state, **facts})

    @property
    def environment(self) -> list[dict]:
        """Under what each segment of the run was computed."""
        path = self.path / "environment.json"
        return json.loads(path.read_text()) if path.exists() else []

    def add_environment(self, facts: dict) -> None:
        self._write("environment.json", [*self.environment, facts])

    @property
    def metrics(self) -> list[dict]:
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        lines = path.read_text().split("\n")
        # A line that a killed process left unfinished has no line end.
        return [json.loads(line) for line in lines[:-1]]

    def log(self, record: dict) -> None:
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def cut_metrics(self, step: int) -> None:
        """Keep what was logged at or before `step`."""
        kept = [json.dumps(record) + "\n" for record in self.metrics if record["step"] <= step]
        self._replace("metrics.jsonl", "".join(kept))

    def _write(self, name: str, value) -> None:
        self._replace(name, json.dumps(value, indent=1, allow_nan=False) + "\n")

    def _replace(self, name: str, text: str) -> None:
        temporary = self.path / f".{name}.tmp"
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path / name)


def list_runs(root: Path) -> list[Run]:
    """All runs below `root`, by path."""
    return [Run(path.parent) for path in sorted(root.glob("*/*/config.json"))]


def find_run(root: Path, word: str) -> Run:
    """The run whose directory or id is `word`; ValueError naming the nearest id below `root`."""
    if (Path(word) / "config.json").is_file():
        return Run(Path(word))
    found = {run.id: run for run in list_runs(root)}
    if word not in found:
        near = difflib.get_close_matches(word, found, n=1, cutoff=0.3)
        where = f"; the nearest is {near[0]!r}" if near else f"; there is none below {str(root)!r}"
        raise ValueError(f"no run {word!r}{where}")
    return found[word]
