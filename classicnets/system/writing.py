"""Writes that fail say where, and how many bytes there were to write."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class WriteFailed(Exception):
    """A file could not be written: no space, a quota, a disk that fails."""


@contextmanager
def writing(path: Path, size: int, unfinished: Path | None = None) -> Iterator[None]:
    """What goes wrong within it is raised as WriteFailed, naming `path`, its `size` in bytes, and the bytes free.

    What there is of it, a file or a folder at `unfinished`, is removed.
    """
    try:
        yield
    except Exception as error:
        space = free(path)
        if unfinished and unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        elif unfinished:
            unfinished.unlink(missing_ok=True)
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise WriteFailed(f"{path} could not be written: {size:,} bytes, {space:,} bytes are free; {reason}") from error


def require_space(path: Path, size: int) -> None:
    """Raises WriteFailed if fewer than `size` bytes are free where `path` is, or will be."""
    if free(path) < size:
        raise WriteFailed(f"{path} could not be written: {size:,} bytes, {free(path):,} bytes are free")


def free(path: Path) -> int:
    """Bytes that a process without privileges can write where `path` is, or will be."""
    return shutil.disk_usage(next(above for above in (path, *path.absolute().parents) if above.exists())).free


def replace(path: Path, content: str | bytes) -> None:
    """`path` holds `content`, or what it held before."""
    content = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path, len(content), temporary):
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
