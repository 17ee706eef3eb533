"""ImageNet's two tars are read where they lie: small ones of the same form, with the real lists of classes."""

import io
import tarfile
from collections import Counter

import pytest
from helpers.images import encoded, picture, written

from classicnets.data import DataConfig, load
from classicnets.data.prepare import imagenet, prepare
from classicnets.data.prepare.tfds import imagenet_labels


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSICNETS_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(imagenet, "SIZES", {"train": 2000, "test": 40})
    return tmp_path / "source"


def tar(files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def tars(folder):
    """2 training images a class and 40 for validation; {file's bytes: synset}."""
    synsets, validation = imagenet_labels()
    folder.mkdir()
    known, classes = {}, []
    for i, synset in enumerate(synsets):
        files = [(f"{synset}_{j}.JPEG", encoded(picture(2 * i + j, 8, 9), "JPEG")) for j in range(2)]
        known |= {data: synset for _, data in files}
        classes.append((f"{synset}.tar", tar(files)))
    (folder / imagenet.TRAIN).write_bytes(tar(classes))
    files = [(f"ILSVRC2012_val_{j:08d}.JPEG", encoded(picture(9000 + j, 9, 8), "JPEG")) for j in range(1, 41)]
    known |= {data: validation[j] for j, (_, data) in enumerate(files)}
    (folder / imagenet.VALIDATION).write_bytes(tar(files))
    return known


def test_the_lists_are_those_of_2012():
    synsets, validation = imagenet_labels()
    assert (len(synsets), synsets[0], synsets[-1], list(synsets)) == (1000, "n01440764", "n15075141", sorted(synsets))
    assert len(validation) == 50_000 and validation[0] == "n01751748"
    assert set(Counter(validation).values()) == {50} and set(validation) == set(synsets)


def test_both_tars_become_a_set(small):
    known = tars(small)
    prepare("imagenet2012", small)
    whole = load(DataConfig("imagenet2012", validation_size=100))
    synsets = imagenet_labels()[0]
    assert whole.sizes == {"train": 1900, "validation": 100, "test": 40}
    for i in range(len(whole.images)):
        assert known[whole.images.encoded(i)] == synsets[whole.labels[i]]
    assert whole.shape == (224, 224, 3)


def test_folders_become_the_same_set(small, tmp_path):
    known = tars(small)
    prepare("imagenet2012", small)
    first = load(DataConfig("imagenet2012", validation_size=100)).sha256
    validation = set(list(known)[2000:])
    for i, (data, synset) in enumerate(known.items()):
        split = "val" if data in validation else "train"
        written(tmp_path / "folders" / split / synset / f"{i}.JPEG", data)
    prepare("imagenet2012", tmp_path / "folders")
    assert load(DataConfig("imagenet2012", validation_size=100)).sha256 == first


def test_what_is_not_imagenet_is_refused(small, tmp_path):
    with pytest.raises(ValueError, match="imagenet2012 cannot be downloaded; --source takes"):
        prepare("imagenet2012")
    tars(small)
    content = (small / imagenet.TRAIN).read_bytes()
    for held, sentence in (
        (content[: len(content) // 2], "truncated"),
        (tar([("n00000000.tar", b"")]), "holds 'n00000000.tar', which is none of"),
        (tar([]), "has 2,000 training and 40 validation images, and .* holds 0 training and 40"),
    ):
        (small / imagenet.TRAIN).write_bytes(held)
        with pytest.raises(ValueError, match=sentence):
            prepare("imagenet2012", small)
    (small / imagenet.TRAIN).unlink()
    with pytest.raises(ValueError, match=f"lacks {imagenet.TRAIN}; imagenet2012 takes both"):
        prepare("imagenet2012", small)
    for name in ("a", "b"):
        written(tmp_path / "other" / "train" / name / "0.jpg", picture(0))
    with pytest.raises(ValueError, match=r"must hold the 1,000 classes of 2012"):
        prepare("imagenet2012", tmp_path / "other")
    assert not (tmp_path / "data").exists()
