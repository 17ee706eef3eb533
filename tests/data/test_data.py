"""Prepared data is what went in, in one order, whole or not there; every refusal is one sentence."""

import gzip
import hashlib
import importlib.util
import json
import shutil
import struct
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from classicnets.data import DATASETS, DataConfig, arrays, listing, load, store
from classicnets.data.prepare import idx as idx_files
from classicnets.data.prepare.tfds import prepare

RNG = np.random.default_rng(0)
IMAGES = {"train": RNG.integers(0, 256, (60, 28, 28), np.uint8), "t10k": RNG.integers(0, 256, (20, 28, 28), np.uint8)}
LABELS = {split: RNG.integers(0, 10, len(images), np.uint8) for split, images in IMAGES.items()}
SMALL = DataConfig("fashion_mnist", validation_size=10)


def write_idx(path, array, magic=None):
    header = struct.pack(f">{1 + array.ndim}I", magic or 0x800 + array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def idx(tmp_path, monkeypatch):
    """A folder of IDX files with 60 training and 20 test images; data sets are kept beside it."""
    monkeypatch.setenv("CLASSICNETS_DATA", str(tmp_path / "data"))
    folder = tmp_path / "idx"
    folder.mkdir()
    for split in IMAGES:
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", IMAGES[split])
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", LABELS[split])
    return folder


def examples(images, labels):
    return Counter((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist"])
def test_what_went_in_comes_out_in_one_order(idx, name):
    assert prepare(name, idx) == store.root() / name
    first = load(DataConfig(name, validation_size=0))
    assert first.sizes == {"train": 60, "validation": 0, "test": 20}
    assert (first.images.dtype, first.labels.dtype) == (np.uint8, np.int32)
    assert examples(first.images[:60], first.labels[:60]) == examples(IMAGES["train"], LABELS["train"])
    assert examples(first.images[60:], first.labels[60:]) == examples(IMAGES["t10k"], LABELS["t10k"])
    shutil.rmtree(store.root())
    prepare(name, idx)
    second = load(DataConfig(name, validation_size=0))
    np.testing.assert_array_equal(second.images, first.images)
    np.testing.assert_array_equal(second.labels, first.labels)
    assert second.sha256 == first.sha256
    assert second.sha256 == hashlib.sha256(first.images.tobytes() + first.labels.tobytes()).hexdigest()


def test_other_content_has_another_digest(idx):
    prepare("mnist", idx)
    one = load(DataConfig("mnist", validation_size=0)).sha256
    write_idx(idx / "train-labels-idx1-ubyte.gz", (LABELS["train"] + 1) % 10)
    prepare("mnist", idx)
    assert load(DataConfig("mnist", validation_size=0)).sha256 != one


def test_preparing_again_replaces_what_is_there_and_what_a_killed_one_left(idx):
    left = store.root() / ".fashion_mnist.partial"
    (left / "new").mkdir(parents=True)
    (left / "new" / "images.npy").write_bytes(b"half")
    with pytest.raises(ValueError, match="not here yet"):
        load(SMALL)
    prepare("fashion_mnist", idx)
    prepare("fashion_mnist", idx)
    assert sorted(p.name for p in store.root().iterdir()) == [".fashion_mnist.lock", "fashion_mnist"]
    assert sorted(p.name for p in (store.root() / "fashion_mnist").iterdir()) == [*arrays.FILES, "manifest.json"]


def test_two_processes_do_not_prepare_one_set(idx):
    with (
        store.replacing("fashion_mnist"),
        pytest.raises(ValueError, match="another process is preparing fashion_mnist"),
    ):
        prepare("fashion_mnist", idx)


def test_a_failure_leaves_what_was_there(idx):
    prepare("fashion_mnist", idx)
    before = load(SMALL).sha256
    with pytest.raises(RuntimeError, match="killed"), store.replacing("fashion_mnist"):
        raise RuntimeError("killed")
    assert load(SMALL).sha256 == before


@pytest.mark.parametrize(
    ("train_size", "validation_size", "spans"),
    [
        (None, None, [(0, 1408), (1408, 129), (1537, 260)]),
        (None, 0, [(0, 1537), (1537, 0), (1537, 260)]),
        (None, 537, [(0, 1000), (1000, 537), (1537, 260)]),
        (100, None, [(0, 100), (100, 129), (229, 260)]),
        (1, 0, [(0, 1), (1, 0), (1, 260)]),
        (1, 1536, [(0, 1), (1, 1536), (1537, 260)]),
    ],
)
def test_the_splits_are_the_first_and_the_last_of_the_pool(train_size, validation_size, spans):
    whole = load(DataConfig("digits", validation_size=0))
    part = load(DataConfig("digits", train_size, validation_size))
    assert [part.span(split) for split in ("train", "validation", "test")] == spans
    train, validation, _ = (size for _, size in spans)
    for name in ("images", "labels"):
        pool, test = np.split(getattr(whole, name), [1537])
        expected = np.concatenate([pool[:train], pool[1537 - validation :], test])
        np.testing.assert_array_equal(getattr(part, name), expected)
    assert part.sha256 == whole.sha256 == "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (DataConfig("cifer10"), "unknown data set 'cifer10'; the nearest is 'cifar10'"),
        (DataConfig(train_size=0), r"train_size must be in \[1, 1408\] for digits, got 0"),
        (DataConfig(train_size=1409), r"train_size must be in \[1, 1408\] for digits, got 1409"),
        (DataConfig("cifar10", train_size=45_001), r"train_size must be in \[1, 45000\] for cifar10, got 45001"),
        (DataConfig("cifar10", 50_001, 0), r"train_size must be in \[1, 50000\] for cifar10, got 50001"),
        (DataConfig(validation_size=-1), r"validation_size must be in \[0, 1536\] for digits, got -1"),
        (DataConfig(validation_size=1537), r"validation_size must be in \[0, 1536\] for digits, got 1537"),
        (DataConfig(normalise="none"), "normalise must be one of channel, pixel, got 'none'"),  # pyright: ignore
    ],
)
def test_impossible_subsets_are_refused_without_loading(config, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        config.check()


def test_sizes_are_checked_against_the_files(idx):
    prepare("fashion_mnist", idx)
    with pytest.raises(ValueError, match=r"^validation_size must be in \[0, 59\] for fashion_mnist, got 5000$"):
        load(DataConfig("fashion_mnist"))
    assert load(DataConfig("fashion_mnist", 7, 10)).sizes == {"train": 7, "validation": 10, "test": 20}


@pytest.mark.parametrize("file", arrays.FILES)
def test_a_damaged_file_is_found_and_named(idx, file):
    prepare("fashion_mnist", idx)
    path = store.root() / "fashion_mnist" / file
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    renew = "`classicnets data prepare fashion_mnist` renews it"
    with pytest.raises(ValueError, match=f"^data set 'fashion_mnist' is damaged: .*{file} differs; {renew}$"):
        load(SMALL)
    path.write_bytes(data[:-1])
    assert state("fashion_mnist") == "damaged"
    with pytest.raises(ValueError, match=f"^data set 'fashion_mnist' is damaged: .*{file} is not .*; {renew}$"):
        load(SMALL)
    prepare("fashion_mnist", idx)
    assert load(SMALL).sizes["train"] == 50


def test_a_damaged_manifest_is_found(idx):
    prepare("fashion_mnist", idx)
    (store.root() / "fashion_mnist" / "manifest.json").write_text("{")
    assert state("fashion_mnist") == "damaged"
    with pytest.raises(ValueError, match=r"manifest\.json is no manifest; .*renews it"):
        load(SMALL)


def test_a_set_that_is_not_here_says_how_to_get_it(idx):
    with pytest.raises(ValueError, match=r"^data set 'cifar10' is not here yet; `classicnets .* cifar10` fetches it$"):
        load(DataConfig("cifar10"))


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is here")
@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"digits"}))
def test_without_tensorflow_a_download_is_refused(idx, name, monkeypatch):
    monkeypatch.setattr(idx_files, "DEBIAN", idx / "none")
    command = f"`pip install 'classicnets\\[prepare\\]'`, then `classicnets data prepare {name}`"
    files = r" \(or install the files of Debian's package dataset-fashion-mnist\)" if name == "fashion_mnist" else ""
    with pytest.raises(ValueError, match=f"^preparing {name} needs TensorFlow once: {command}{files}$"):
        prepare(name)
    assert not store.root().exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("digits", "digits come with the package"),
        ("mnits", "unknown data set 'mnits'; the nearest is 'mnist'"),
        ("cifar10", "source is for fashion_mnist and mnist only"),
    ],
)
def test_what_cannot_be_prepared_from_idx_is_refused(idx, name, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        prepare(name, idx)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("file", "damage", "sentence"),
    [
        ("t10k-labels-idx1", lambda p: p.unlink(), "^cannot read .*t10k-labels"),
        ("train-images-idx3", truncate, "^cannot read .*train-images"),
        ("train-images-idx3", lambda p: p.write_bytes(b"no gzip"), "^cannot read .*train-images"),
        ("train-images-idx3", lambda p: p.write_bytes(gzip.compress(b"")), "is no IDX file of rank 3"),
        ("train-labels-idx1", lambda p: write_idx(p, LABELS["train"], 0x803), "rank 1: it begins with 00 00 08 03"),
        ("train-labels-idx1", lambda p: write_idx(p, LABELS["train"][:-1]), r"59 labels do not fit .*\(60, 28, 28\)"),
        ("train-labels-idx1", lambda p: write_idx(p, LABELS["train"] + 1), "has a label 10, more than 9"),
        ("train-images-idx3", lambda p: write_idx(p, IMAGES["train"][:, 1:]), r"do not fit .*\(60, 27, 28\)"),
        (
            "train-images-idx3",
            lambda p: p.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 60, 28, 28) + b"short")),
            r"claims shape \(60, 28, 28\) and holds 5 bytes",
        ),
        (
            "train-images-idx3",
            lambda p: p.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 1, 1, 1) + b"long")),
            r"claims shape \(1, 1, 1\) and holds more bytes",
        ),
        (
            "train-images-idx3",
            lambda p: p.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 2**32 - 1, 28, 28))),
            "more than 128 MiB",
        ),
    ],
)
def test_files_that_are_not_the_idx_files_are_refused_and_nothing_is_written(idx, file, damage, sentence):
    damage(idx / f"{file}-ubyte.gz")
    with pytest.raises(ValueError, match=sentence):
        prepare("fashion_mnist", idx)
    assert not store.root().exists()


def python(code):
    """(stdout, stderr) of a fresh interpreter."""
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    return result.stdout, result.stderr


def test_preparing_is_quiet_off_a_terminal(idx):
    assert python(
        "from pathlib import Path; from classicnets.data.prepare.tfds import prepare;"
        f"prepare('fashion_mnist', Path({str(idx)!r}))"
    ) == ("", "")
    assert load(SMALL).sizes["train"] == 50


def test_an_empty_set_is_refused(idx):
    write_idx(idx / "train-images-idx3-ubyte.gz", IMAGES["train"][:0])
    write_idx(idx / "train-labels-idx1-ubyte.gz", LABELS["train"][:0])
    with pytest.raises(ValueError, match="0 labels do not fit images of shape"):
        prepare("fashion_mnist", idx)


def test_where_data_sets_are_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("CLASSICNETS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.root() == tmp_path / "classicnets" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.root() == tmp_path / ".cache" / "classicnets" / "data"


def test_loading_imports_no_tensorflow(idx):
    prepare("fashion_mnist", idx)
    code = """
import sys
import classicnets.data as data
rows = data.listing()
absent = ("jax", "tensorflow", "tensorflow_datasets")
assert not [name for name in absent if name in sys.modules]
whole = data.load(data.DataConfig("fashion_mnist", validation_size=10))
assert not [name for name in absent if name in sys.modules]
print(whole.images.shape, [row["state"] for row in rows if row["name"] == "fashion_mnist"])
"""
    assert python(code) == ("(80, 28, 28, 1) ['prepared']\n", "")


def state(name):
    return next(row["state"] for row in listing() if row["name"] == name)


def test_the_listing(idx):
    rows = {row["name"]: row for row in listing()}
    assert sorted(rows) == sorted(DATASETS)
    json.dumps(rows)
    assert (rows["digits"]["state"], rows["digits"]["command"]) == ("bundled", None)
    assert [rows["digits"][key] for key in ("train", "validation", "test")] == [1408, 129, 260]
    assert [rows["cifar10"][key] for key in ("shape", "train", "validation", "test", "crop_padding", "flip")] == [
        [32, 32, 3],
        45_000,
        5_000,
        10_000,
        4,
        True,
    ]
    assert (rows["mnist"]["state"], rows["mnist"]["command"]) == ("missing", "classicnets data prepare mnist")
    prepare("mnist", idx)
    assert state("mnist") == "prepared"


@pytest.mark.slow
@pytest.mark.skipif(not idx_files.DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_debians_files_are_fashion_mnist(tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSICNETS_DATA", str(tmp_path))
    prepare("fashion_mnist")
    whole = load(DataConfig("fashion_mnist"))
    assert whole.images.shape == (70_000, 28, 28, 1)
    assert whole.sizes == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert np.bincount(whole.labels[:60_000]).tolist() == [6_000] * 10
    assert np.bincount(whole.labels[60_000:]).tolist() == [1_000] * 10
    assert whole.sha256 == DATASETS["fashion_mnist"].sha256
    for split, span in (("train", slice(0, 60_000)), ("t10k", slice(60_000, None))):
        images, labels = idx_files.split(idx_files.DEBIAN, split)
        assert examples(images, labels) == examples(whole.images[span], whole.labels[span])
