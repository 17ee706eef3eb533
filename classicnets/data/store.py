"""Prepared data sets on disk: a manifest and its files, in a folder that is there whole or not at all.

The folder is `$CLASSICNETS_DATA/NAME`, by default under `~/.cache/classicnets/data`.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from classicnets.system import caches

# What a manifest says of the order of the examples; one without is of an earlier version, in TFDS's order.
ORDER = "content"


def root() -> Path:
    """Return the folder in which prepared data sets are kept."""
    return Path(os.environ.get("CLASSICNETS_DATA") or caches.folder() / "data").absolute()


@contextmanager
def replacing(name: str, keep: bool = False) -> Iterator[Path]:
    """Give a scratch folder whose `new` becomes the data set when the block ends without an error.

    What a killed process left there is removed first, unless `keep`: then the block goes on from it. An error leaves
    nothing behind. Raise ValueError if another process prepares the same set.
    """
    scratch, lock = root() / f".{name}.partial", root() / f".{name}.lock"
    absent = [folder for folder in (root(), *root().parents) if not folder.exists()]
    root().mkdir(parents=True, exist_ok=True)
    with lock.open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is preparing {name}") from None
        try:
            if not keep:
                shutil.rmtree(scratch, ignore_errors=True)
            (scratch / "new").mkdir(parents=True, exist_ok=True)
            yield scratch
            if (root() / name).exists():
                (root() / name).rename(scratch / "old")
            (scratch / "new").rename(root() / name)
        except Exception:
            shutil.rmtree(scratch, ignore_errors=True)
            if absent:
                lock.unlink()
            with suppress(OSError):  # another set came meanwhile
                for folder in absent:
                    folder.rmdir()
            raise
        except BaseException:
            if not keep:
                shutil.rmtree(scratch, ignore_errors=True)
            raise
        shutil.rmtree(scratch, ignore_errors=True)


def write_manifest(folder: Path, files: list[str], **facts: Any) -> None:
    """Write `facts` as the manifest of the `files` in `folder`, with the size and SHA-256 of each."""
    held = {name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in files}
    text = json.dumps({"order": ORDER, **facts, "files": held}, indent=2, ensure_ascii=False)
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")


def manifest(name: str) -> dict | None:
    """Return the manifest of a prepared set, None if there is none.

    Raise ValueError if it cannot be read or if a file is absent or of another size; nothing is hashed.
    """
    path = root() / name / "manifest.json"
    if not path.exists():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        sizes = {path.with_name(file): held["bytes"] for file, held in facts["files"].items()}
        _ = facts["sizes"]["train"], facts["sizes"]["test"], facts["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise damaged(name, f"{path} is no manifest") from None
    for file, size in sizes.items():
        if not file.exists() or file.stat().st_size != size:
            raise damaged(name, f"{file} is not {size} bytes long")
    return facts


def required(name: str) -> dict:
    """Return the manifest of a set that can be trained on; raise ValueError with the command that makes one."""
    facts = manifest(name)
    if facts is None:
        raise ValueError(f"data set {name!r} is not here yet; `classicnets data prepare {name}` fetches it")
    if facts.get("order") != ORDER:
        raise ValueError(
            f"data set {name!r} stands in the order of an earlier version; `classicnets data prepare {name}` makes it "
            "anew, in the order of its content"
        )
    return facts


def verify(name: str, facts: dict, files: Sequence[str]) -> None:
    """Raise ValueError if the SHA-256 of one of these files of a prepared set is not the manifest's."""
    for file in files:
        if sha256(root() / name / file) != facts["files"].get(file, {}).get("sha256"):
            raise damaged(name, f"the SHA-256 of {root() / name / file} differs")


def prepared() -> list[str]:
    """Return the names of all sets that are here, in order."""
    return sorted(path.parent.name for path in root().glob("[!.]*/manifest.json"))


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged(name: str, what: str) -> ValueError:
    """Return the error of a prepared set whose files are not as they were written."""
    return ValueError(f"data set {name!r} is damaged: {what}; `classicnets data prepare {name}` renews it")
