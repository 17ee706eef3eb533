"""What brings a data set here: of each name and source the one module that can."""

import shutil
from collections.abc import Callable
from pathlib import Path

from classicnets.data import store
from classicnets.data.prepare import archives, building, cifar, folder, idx, imagenet, tfds
from classicnets.data.sources import DATASETS, require_known
from classicnets.system.words import nearest

Progress = Callable[[int, int], None]


def prepare(
    name: str,
    source: Path | None = None,
    progress: Progress = lambda done, total: None,
    kept_as: building.Store | None = None,
    skip_damaged: bool = False,
) -> list[str]:
    """Prepare the data set `name`, anew if it is there; return sentences on what became of its images.

    source: an archive or folder; of cifar10 and cifar100 any form of theirs, of mnist and fashion_mnist the IDX files,
    of imagenet2012 its tars or folders, and under any other name class folders of images. None lets TFDS download.
    progress: told how much of how much is done. Raise ValueError, in one sentence, if it cannot be; then nothing is
    left behind, and what was there stays.
    """
    if name in cifar.NAMES and source is not None:
        _refuse(name, kept_as, skip_damaged)
        cifar.prepare(name, source, progress)
        return _identity(name)
    if source is None or name in (*idx.DATASETS, "digits"):
        if source is None:
            require_known(name)
        if name == imagenet.NAME:
            raise ValueError(
                f"{name} cannot be downloaded; --source takes a folder with its two tars, or train/ and val/"
            )
        _refuse(name, kept_as, skip_damaged)
        tfds.prepare(name, source)
        return _identity(name)
    if name in DATASETS and name != imagenet.NAME:
        raise ValueError(f"{name} is not made of images of a folder; `classicnets data prepare {name}` fetches it")
    _require_name(name)
    return _of_images(name, source, progress, kept_as, skip_damaged)


def _of_images(
    name: str, source: Path, progress: Progress, kept_as: building.Store | None, skip_damaged: bool
) -> list[str]:
    if not source.exists():
        raise ValueError(f"source must be an archive or a folder, and there is none at {str(source)!r}")
    try:
        return _of_place(name, source.absolute(), progress, kept_as, skip_damaged)
    except OSError as error:
        raise ValueError(f"preparing {name} failed: {' '.join(str(error).split())}") from error


def _of_place(
    name: str, source: Path, progress: Progress, kept_as: building.Store | None, skip_damaged: bool
) -> list[str]:
    with store.replacing(name, keep=True) as scratch:
        place = source
        if archives.is_archive(source) and source.is_file():
            place = scratch / "unpacked"
            shutil.rmtree(place, ignore_errors=True)  # what a kill left may end in the middle of a file
            archives.unpack(source, place)
        listed = imagenet.listed(place) if name == imagenet.NAME else folder.listing(place)
        return building.build(name, listed, source.name, scratch, progress, kept_as, skip_damaged)


def _require_name(name: str) -> None:
    """Raise ValueError for a name that cannot be that of a folder."""
    if not name or name[0] in ".-" or not all(c.isalnum() or c in "-_.+" for c in name) or len(name) > 64:
        raise ValueError(
            f"name must be of letters, digits and -_.+, not begin with . or -, got {name!r}{nearest(name, DATASETS)}"
        )


def _refuse(name: str, kept_as: str | None, skip_damaged: bool) -> None:
    if kept_as == "shards":
        raise ValueError(f"store must be none for {name}, which is kept as arrays, got {kept_as!r}")
    if skip_damaged:
        raise ValueError(f"skip_damaged must be False for {name}, of which every image is known")


def _identity(name: str) -> list[str]:
    """Say whether what was made is the set of that name, where its content is known."""
    known, facts = DATASETS[name].sha256, store.required(name)
    if known is None:
        return [f"SHA-256 of its content: {facts['sha256']}, which no other copy confirms"]
    same = "is" if facts["sha256"] == known else f"is NOT ({known[:12]}... is)"
    return [f"SHA-256 of its content: {facts['sha256']}, which {same} that of {name}"]
