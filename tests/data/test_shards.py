"""Shards give the bytes that went in, from any thread, and say when they are not those any more."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.images import class_folders

from classicnets.data import DataConfig, arrays, load, moments, shards, store
from classicnets.data.prepare import prepare


@pytest.fixture
def mixed(tmp_path, monkeypatch):
    """A set of 60 JPEGs of several sizes in shards of 10 kB."""
    monkeypatch.setenv("CLASSICNETS_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(shards, "SHARD_BYTES", 10_000)
    class_folders(tmp_path / "source", 3, 20)
    prepare("mixed", tmp_path / "source")
    return load(DataConfig("mixed"))


def test_the_bytes_are_the_files(mixed, tmp_path):
    files = {path.read_bytes() for path in (tmp_path / "source").rglob("*.jpg")}
    assert {mixed.images.encoded(i) for i in range(60)} == files
    assert len(mixed.images.files) > 3


def test_threads_read_what_one_reads(mixed):
    places = np.random.default_rng(0).integers(0, 60, 400).tolist()
    with ThreadPoolExecutor(8) as threads:
        several = list(threads.map(mixed.images.__getitem__, places))
    for place, image in zip(places, several, strict=True):
        np.testing.assert_array_equal(image, mixed.images[place])


def test_the_index_tells_sizes_and_sums(mixed):
    for i in range(60):
        image = mixed.images[i]
        assert mixed.images.sizes[i].tolist() == [*image.shape[:2]]
        assert mixed.images.sums[i].tolist() == moments.sums(image).tolist()


def test_a_part_is_the_first_training_and_the_last_validation_examples(mixed):
    part = load(DataConfig("mixed", train_size=5, validation_size=3))
    whole = load(DataConfig("mixed", validation_size=3))
    pool = whole.sizes["train"] + 3
    assert part.sizes == {"train": 5, "validation": 3, "test": whole.sizes["test"]}
    places = [*range(5), *range(pool - 3, 60)]
    assert [part.images.encoded(i) for i in range(len(part.images))] == [whole.images.encoded(i) for i in places]
    np.testing.assert_array_equal(part.labels, whole.labels[places])
    assert part.sha256 == whole.sha256


@pytest.mark.parametrize("normalise", ["channel", "pixel"])
def test_moments_of_shards_are_those_of_the_array(normalise, tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSICNETS_DATA", str(tmp_path / "data"))
    class_folders(tmp_path / "source", 2, 30, size=(7, 6))
    prepare("a", tmp_path / "source", kept_as="arrays")
    prepare("s", tmp_path / "source", kept_as="shards")
    array, encoded = load(DataConfig("a")).images, load(DataConfig("s")).images
    for count in (1, 17, 60):
        for one, other in zip(
            moments.normalisation(array, count, normalise),
            moments.normalisation(encoded, count, normalise),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)
        mean, std = moments.normalisation(array, count, normalise)
        axis = (0, 1, 2) if normalise == "channel" else 0
        np.testing.assert_allclose(np.squeeze(mean), array[:count].mean(axis), rtol=1e-6)
        np.testing.assert_allclose(np.squeeze(std), array[:count].std((0, 1, 2)), rtol=1e-5)
        np.testing.assert_array_equal(moments.colour_axes(array, count), moments.colour_axes(encoded, count))


def test_a_flipped_bit_of_an_image_is_told_and_never_becomes_pixels(mixed):
    """Wherever it falls in the bytes of an image file, by the checksums of ArrayRecord."""
    folder, rng = store.root() / "mixed", np.random.default_rng(0)
    originals = [mixed.images[i] for i in range(60)]
    path = folder / mixed.images.files[0]
    content, told = path.read_bytes(), 0
    first = [i for i in range(60) if mixed.images.encoded(i) in content]
    assert len(first) > 3
    for trial in range(40):
        i = first[int(rng.integers(len(first)))]
        held = mixed.images.encoded(i)
        start = content.index(held)
        damaged = bytearray(content)
        damaged[start + int(rng.integers(len(held)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        again = shards.Encoded(folder, mixed.images.index, mixed.images.files, f"trial {trial}")
        with pytest.raises(ValueError, match=r"^data set 'mixed' is damaged: example \d+.*; `classicnets data prepare"):
            _ = again[i]
        told += 1
        path.write_bytes(content)
    assert told == 40
    np.testing.assert_array_equal(mixed.images[first[0]], originals[first[0]])


@pytest.mark.parametrize("name", shards.INDEX)
def test_a_changed_index_is_told(mixed, name):
    path = store.root() / "mixed" / name
    held = bytearray(path.read_bytes())
    held[-1] ^= 1
    path.write_bytes(held)
    shards._index.cache_clear()
    with pytest.raises(ValueError, match=rf"^data set 'mixed' is damaged: the SHA-256 of .*{name} differs"):
        load(DataConfig("mixed"))


def test_a_shard_that_is_gone_or_shorter_is_told(mixed):
    path = store.root() / "mixed" / mixed.images.files[1]
    held = path.read_bytes()
    for change in (lambda: path.write_bytes(held[:-1]), path.unlink):
        change()
        with pytest.raises(ValueError, match=r"^data set 'mixed' is damaged: .* is not [\d]+ bytes long"):
            load(DataConfig("mixed"))


def test_records_in_another_place_are_told(mixed):
    files = list(mixed.images.files)
    swapped = shards.Encoded(store.root() / "mixed", mixed.images.index, files[::-1], "swapped")
    told = 0
    for i in range(60):
        try:
            same = (swapped[i] == mixed.images[i]).all() if swapped[i].shape == mixed.images[i].shape else False
        except ValueError as error:
            assert "damaged: example" in str(error)
            told += 1
        else:
            told += not same
    assert told > 40


def test_another_class_name_or_file_is_another_set():
    labels, sizes = np.array([0, 1]), {"train": 1, "test": 1}
    one = shards.digest(["a", "b"], sizes, labels, [b"1" * 32, b"2" * 32])
    others = [
        shards.digest(["a", "c"], sizes, labels, [b"1" * 32, b"2" * 32]),
        shards.digest(["a", "b"], sizes, labels, [b"2" * 32, b"1" * 32]),
        shards.digest(["a", "b"], sizes, labels[::-1], [b"1" * 32, b"2" * 32]),
        shards.digest(["a", "b"], {"train": 2, "test": 0}, labels, [b"1" * 32, b"2" * 32]),
    ]
    assert len({one, *others}) == 5


def test_arrays_of_folders_are_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSICNETS_DATA", str(tmp_path / "data"))
    class_folders(tmp_path / "source", 2, 30, size=(5, 6))
    prepare("a", tmp_path / "source")
    assert isinstance(arrays.read("a").images, np.ndarray)
    assert store.manifest("a")["store"] == "arrays"
