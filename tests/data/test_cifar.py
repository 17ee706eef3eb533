"""One CIFAR-10 from every form of its archive, in whatever order; whatever is not it is refused in one sentence."""

import dataclasses
import io
import pickle
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from classicnets.data import DATASETS, DataConfig, content, load, store
from classicnets.data.prepare.cifar import prepare

RNG = np.random.default_rng(0)
COUNTS = {"train": 40, "test": 10}
IMAGES = {split: RNG.integers(0, 256, (n, 32, 32, 3), np.uint8) for split, n in COUNTS.items()}
LABELS = {split: np.arange(n) % 10 for split, n in COUNTS.items()}
SHA256 = content.digest(*content.ordered(*(np.concatenate([*part.values()]) for part in (IMAGES, LABELS)), (40, 10)))


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """A CIFAR-10 of 50 images; data sets are kept below tmp_path."""
    monkeypatch.setenv("CLASSICNETS_DATA", str(tmp_path / "data"))
    row = dataclasses.replace(DATASETS["cifar10"], pool=40, test=10, validation=5, sha256=SHA256)
    monkeypatch.setitem(DATASETS, "cifar10", row)


def planes(images):
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def batches(split, images, labels):
    """(name, images, labels) of each file, in an order of its own."""
    order = np.random.default_rng(1).permutation(len(images))
    images, labels = images[order], labels[order]
    if split == "test":
        return [("test_batch", images, labels)]
    return [
        (f"data_batch_{i}", *part)
        for i, part in enumerate(zip(np.array_split(images, 5), np.array_split(labels, 5), strict=True), 1)
    ]


def write_python(folder, images=IMAGES, labels=LABELS):
    folder.mkdir(parents=True)
    for split in COUNTS:
        for name, pixels, numbers in batches(split, images[split], labels[split]):
            held = {b"data": planes(pixels), b"labels": numbers.tolist(), b"batch_label": name.encode()}
            (folder / name).write_bytes(pickle.dumps(held, protocol=2))


def write_binary(folder, images=IMAGES, labels=LABELS):
    folder.mkdir(parents=True)
    for split in COUNTS:
        for name, pixels, numbers in batches(split, images[split], labels[split]):
            records = np.concatenate([numbers[:, None].astype(np.uint8), planes(pixels)], 1)
            (folder / f"{name}.bin").write_bytes(records.tobytes())


def write_folders(folder, images=IMAGES, labels=LABELS, suffix="png"):
    names = DATASETS["cifar10"].class_names
    for split in COUNTS:
        for i, (image, label) in enumerate(zip(images[split], labels[split], strict=True)):
            path = folder / split / names[label] / f"{997 * i % 101:03d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


def packed(folder, archive):
    """The folder as a .tar.gz or .zip, below its own name."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, f"{folder.name}/{path.relative_to(folder)}")
    else:
        with tarfile.open(archive, "w:gz") as file:
            file.add(folder, folder.name)
    return archive


FORMS = {"cifar-10-batches-py": write_python, "cifar-10-batches-bin": write_binary, "cifar10": write_folders}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("archive", [None, "set.tar.gz", "set.zip"])
def test_every_form_is_one_set(name, archive, tmp_path):
    FORMS[name](tmp_path / name)
    source = packed(tmp_path / name, tmp_path / archive) if archive else tmp_path / name
    assert prepare("cifar10", source) == store.root() / "cifar10"
    whole = load(DataConfig("cifar10"))
    assert whole.sha256 == SHA256
    assert whole.sizes == {"train": 35, "validation": 5, "test": 10}
    assert sorted(path.name for path in store.root().iterdir()) == [".cifar10.lock", "cifar10"]


def test_the_pixels_and_labels_are_those_that_went_in(tmp_path):
    write_binary(tmp_path / "binary")
    prepare("cifar10", tmp_path / "binary")
    whole = load(DataConfig("cifar10"))
    expected = content.ordered(*(np.concatenate([*part.values()]) for part in (IMAGES, LABELS)), (40, 10))
    np.testing.assert_array_equal(whole.images, expected[0])
    np.testing.assert_array_equal(whole.labels, expected[1])


def test_progress_counts_every_image(tmp_path):
    write_folders(tmp_path / "cifar10")
    seen = []
    prepare("cifar10", tmp_path / "cifar10", lambda done, total: seen.append((done, total)))
    assert seen[-1] == (50, 50)


def test_classes_by_number(tmp_path):
    write_folders(tmp_path / "cifar10")
    for i, name in enumerate(DATASETS["cifar10"].class_names):
        for split in COUNTS:
            (tmp_path / "cifar10" / split / name).rename(tmp_path / "cifar10" / split / str(i))
    prepare("cifar10", tmp_path / "cifar10")
    assert load(DataConfig("cifar10")).sha256 == SHA256


def one_pixel(tmp_path):
    images = {split: of.copy() for split, of in IMAGES.items()}
    images["train"][3, 5, 7, 1] ^= 1
    write_binary(tmp_path / "set", images)


def one_label(tmp_path):
    write_binary(tmp_path / "set", labels={**LABELS, "test": (LABELS["test"] + 1) % 10})


def one_missing(tmp_path):
    write_folders(tmp_path / "set")
    next((tmp_path / "set/train/cat").iterdir()).unlink()


def jpeg(tmp_path):
    write_folders(tmp_path / "set", suffix="jpg")


def one_label_less(tmp_path):
    write_python(tmp_path / "set")
    path = tmp_path / "set" / "test_batch"
    batch = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps({**batch, b"labels": batch[b"labels"][:-1]}, protocol=2))


def code(tmp_path):
    write_python(tmp_path / "set")
    (tmp_path / "set" / "test_batch").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")


def a_batch_less(tmp_path):
    write_python(tmp_path / "set")
    (tmp_path / "set" / "data_batch_4").unlink()


def another_class(tmp_path):
    write_folders(tmp_path / "set")
    (tmp_path / "set/test/cat").rename(tmp_path / "set/test/kitten")


def another_size(tmp_path):
    write_folders(tmp_path / "set")
    path = next((tmp_path / "set/test/dog").iterdir())
    Image.new("RGB", (32, 31)).save(path)


def a_truncated_image(tmp_path):
    write_folders(tmp_path / "set")
    path = next((tmp_path / "set/test/dog").iterdir())
    path.write_bytes(path.read_bytes()[:-900])


def a_truncated_record(tmp_path):
    write_binary(tmp_path / "set")
    path = tmp_path / "set" / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])


def nothing(tmp_path):
    (tmp_path / "set").mkdir()


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (one_pixel, r"set is not cifar10: the SHA-256 of its binary records is .{12}\.\.\., and cifar10's is"),
        (one_label, "set is not cifar10: the SHA-256 of its binary records"),
        (one_missing, r"^cifar10 has 40 training and 10 test images, and .*set holds 39 training and 10 test images$"),
        (jpeg, "SHA-256 of its JPEG images is .*; JPEG is lossy, and its copies have other pixels$"),
        (one_label_less, "^test_batch of cifar10 holds 10 images and 9 labels$"),
        (code, r"^test_batch of cifar10 is no pickle of arrays: it asks for os\.system$"),
        (a_batch_less, "^set lacks data_batch_4$"),
        (another_class, "^test/kitten is no class of cifar10, whose classes are airplane, .*truck$"),
        (another_size, r"^test/dog/.*png has 32 x 31 pixels, CIFAR's images 32 x 32$"),
        (a_truncated_image, "^test/dog/.*png is no whole image: "),
        (a_truncated_record, "^test_batch.bin of cifar10 has 30,729 bytes, no multiple of 3,073$"),
        (nothing, r"set holds no cifar10: neither data_batch_1, nor data_batch_1.bin, nor train/CLASS/$"),
    ],
)
def test_what_is_not_cifar10_is_refused_and_nothing_is_left(made, sentence, tmp_path):
    made(tmp_path)
    with pytest.raises(ValueError, match=sentence) as refusal:
        prepare("cifar10", tmp_path / "set")
    assert len(str(refusal.value).splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def add(archive, name, kind=tarfile.REGTYPE, target=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, target, 2 if kind == tarfile.REGTYPE else 0
    archive.addfile(entry, io.BytesIO(b"hi"))


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("../outside", tarfile.REGTYPE, r"holds '\.\./outside', which leads out of its folder$"),
        ("a/../../outside", tarfile.REGTYPE, "which leads out of its folder$"),
        ("/outside", tarfile.REGTYPE, "which leads out of its folder$"),
        ("link", tarfile.SYMTYPE, "holds 'link', which is a link$"),
        ("link", tarfile.LNKTYPE, "holds 'link', which is a link$"),
        ("pipe", tarfile.FIFOTYPE, "holds 'pipe', which is no regular file$"),
    ],
)
def test_an_archive_that_leads_elsewhere_is_refused(name, kind, sentence, tmp_path):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        add(archive, name, kind, "/etc/passwd")
    with pytest.raises(ValueError, match=sentence):
        prepare("cifar10", tmp_path / "set.tar")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["set.tar"]


def test_a_file_twice_is_refused(tmp_path):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        add(archive, "twice")
        add(archive, "twice")
    with pytest.raises(ValueError, match=r"set\.tar holds 'twice' twice$"):
        prepare("cifar10", tmp_path / "set.tar")


@pytest.mark.parametrize("archive", ["set.tar.gz", "set.zip"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_truncated_archive_is_refused(archive, part, tmp_path):
    write_binary(tmp_path / "cifar-10-batches-bin")
    path = packed(tmp_path / "cifar-10-batches-bin", tmp_path / archive)
    shutil.rmtree(tmp_path / "cifar-10-batches-bin")
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"set\.(tar\.gz|zip) is truncated or damaged: |lacks ") as refusal:
        prepare("cifar10", path)
    assert len(str(refusal.value).splitlines()) == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == [archive]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nowhere", "^source must be an archive or a folder, and there is none at '.*nowhere'$"),
        ("set.rar", r"^source must be a folder or end in \.tar, .*\.zip, got '.*set\.rar'$"),
    ],
)
def test_a_source_that_is_none_is_refused(source, sentence, tmp_path):
    if "." in source:
        (tmp_path / source).write_bytes(b"")
    with pytest.raises(ValueError, match=sentence):
        prepare("cifar10", tmp_path / source)


def test_cifar100_has_the_finer_labels(tmp_path, monkeypatch):
    row = dataclasses.replace(DATASETS["cifar100"], pool=40, test=10, validation=5)
    monkeypatch.setitem(DATASETS, "cifar100", row)
    (tmp_path / "python").mkdir()
    (tmp_path / "binary").mkdir()
    fine, coarse = (
        {split: (7 * np.arange(n) + shift) % m for split, n in COUNTS.items()} for shift, m in ((3, 100), (1, 20))
    )
    for split in COUNTS:
        held = {
            "data": planes(IMAGES[split]),
            "fine_labels": fine[split].tolist(),
            "coarse_labels": [0] * COUNTS[split],
        }
        (tmp_path / "python" / split).write_bytes(pickle.dumps(held, protocol=2))
        records = np.stack([coarse[split], fine[split]], 1).astype(np.uint8)
        (tmp_path / "binary" / f"{split}.bin").write_bytes(
            np.concatenate([records, planes(IMAGES[split])], 1).tobytes()
        )
    digests = set()
    for form in ("python", "binary"):
        prepare("cifar100", tmp_path / form)
        whole = load(DataConfig("cifar100"))
        digests.add(whole.sha256)
        assert sorted(whole.labels.tolist()) == sorted(np.concatenate([*fine.values()]).tolist())
    assert len(digests) == 1
