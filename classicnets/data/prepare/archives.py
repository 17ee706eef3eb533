"""Archives of strangers, unpacked below one folder and nowhere else."""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")


def is_archive(path: Path) -> bool:
    """Return whether a path is called like an archive that `unpack` reads."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(path: Path, folder: Path) -> None:
    """Write the files of the archive `path` below `folder`, by their names in it.

    Raise ValueError, in one sentence, for one that is truncated or damaged, and for a member that is a link or a
    device, or whose name leads out of the folder. What is written until then stays: give a folder that is removed.
    """
    folder = folder.resolve()
    try:
        for name, content in _members(path):
            if name.startswith("/") or "\\" in name or ".." in PurePosixPath(name).parts or "\0" in name:
                raise ValueError(f"{path} holds {name!r}, which leads out of its folder")
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with content, place.open("xb") as file:
                shutil.copyfileobj(content, file, 2**20)
    except FileExistsError:
        raise ValueError(f"{path} holds {name!r} twice") from None  # pyright: ignore[reportPossiblyUnboundVariable]
    except (NotADirectoryError, IsADirectoryError):
        raise ValueError(f"{path} holds a file where {name!r} needs a folder") from None  # pyright: ignore[reportPossiblyUnboundVariable]
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, NotImplementedError) as error:
        raise ValueError(f"{path} is truncated or damaged: {error}") from error


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield (name, content) of each regular file."""
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if stat.S_ISLNK(entry.external_attr >> 16):
                    raise ValueError(f"{path} holds {entry.filename!r}, which is a link")
                if not entry.is_dir():
                    yield entry.filename, archive.open(entry)
        return
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if not (member.isreg() or member.isdir()):
                kind = "a link" if member.issym() or member.islnk() else "no regular file"
                raise ValueError(f"{path} holds {member.name!r}, which is {kind}")
            content = archive.extractfile(member)
            if content is not None:
                yield member.name, content
