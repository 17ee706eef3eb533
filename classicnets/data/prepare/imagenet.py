"""ImageNet's 1,000 classes of 2012 from its two tars, read where they lie, or from folders."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

from classicnets.data.prepare.folder import File, Listing, listing
from classicnets.data.prepare.tfds import imagenet_labels

NAME = "imagenet2012"
TRAIN, VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
SIZES = {"train": 1_281_167, "test": 50_000}


def listed(source: Path) -> Listing:
    """Return the images of `source`, a folder with the two tars or with train/ and val/ of class folders.

    The 50,000 validation images of the contest are the test split. Raise ValueError, in one sentence, for a source that
    lacks a tar, whose classes are not the 1,000 of 2012, or that has another number of images.
    """
    synsets, validation = imagenet_labels()
    if (source / TRAIN).is_file() or (source / VALIDATION).is_file():
        missing = [name for name in (TRAIN, VALIDATION) if not (source / name).is_file()]
        if missing:
            raise ValueError(f"{source} lacks {missing[0]}; {NAME} takes both {TRAIN} and {VALIDATION}")
        numbers = {synset: i for i, synset in enumerate(synsets)}
        files = [*_training(source / TRAIN, numbers), *_validation(source / VALIDATION, numbers, validation)]
        found = Listing(files, synsets)
    else:
        found = listing(source)
        if found.class_names != synsets:
            raise ValueError(
                f"{source} must hold the 1,000 classes of 2012, n01440764 to n15075141, in train/ and val/"
            )
        found.files = [f._replace(split="test") if f.split == "validation" else f for f in found.files]
    sizes = {split: sum(file.split == split for file in found.files) for split in SIZES}
    if sizes != SIZES:
        counts = [f"{of['train']:,} training and {of['test']:,} validation images" for of in (SIZES, sizes)]
        raise ValueError(f"{NAME} has {counts[0]}, and {source} holds {counts[1]}")
    found.made = ()
    return found


def _training(path: Path, numbers: dict[str, int]) -> Iterator[File]:
    """Yield the images of the tar of a tar a class: plain tars, in which each lies at a place of its own."""
    for member, start in _members(path, 0, path.stat().st_size):
        synset = Path(member.name).stem
        if synset not in numbers:
            raise ValueError(f"{path.name} holds {member.name!r}, which is none of the 1,000 classes of 2012")
        for image, place in _members(path, start, member.size):
            yield File(path, place, image.size, "train", numbers[synset])


def _validation(path: Path, numbers: dict[str, int], labels: tuple[str, ...]) -> Iterator[File]:
    """Yield the validation images, ILSVRC2012_val_00000001.JPEG and so on, whose number says their label."""
    for image, place in _members(path, 0, path.stat().st_size):
        number = Path(image.name).stem.rpartition("_")[2]
        if not (number.isdigit() and 1 <= int(number) <= len(labels)):
            raise ValueError(f"{path.name} holds {image.name!r}, which is no ILSVRC2012_val_NUMBER.JPEG")
        yield File(path, place, image.size, "test", numbers[labels[int(number) - 1]])


def _members(path: Path, start: int, length: int) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Yield (member, where its bytes begin in the file) of the tar that lies in a file from `start` on."""
    with path.open("rb") as file:
        file.seek(start)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    if member.isreg():
                        if member.offset_data + member.size > start + length:
                            raise ValueError(f"{path} is truncated: {member.name} does not end in it")
                        yield member, member.offset_data
        except tarfile.TarError as error:
            raise ValueError(f"{path} is truncated or damaged: {error}") from error
