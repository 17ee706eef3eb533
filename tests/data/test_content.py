"""A set stands in the order of its content, whatever order its examples came in."""

import hashlib
import json

import numpy as np
import pytest

from classicnets.data import DataConfig, arrays, content, listing, load, store
from classicnets.data.dataset import source_of

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (50, 4, 4, 1), np.uint8)
LABELS = RNG.integers(0, 10, 50).astype(np.int32)


def test_the_key_is_the_hash_of_pixels_and_label():
    label = b"\x07\x01\x00\x00"
    assert content.key(b"abc", 0x107) == hashlib.sha256(b"abc" + label).digest()


def test_each_split_is_in_the_order_of_its_keys_and_holds_what_it_held():
    images, labels = content.ordered(IMAGES, LABELS, (30, 20))
    for span in (slice(0, 30), slice(30, 50)):
        keys = [content.key(image.tobytes(), label) for image, label in zip(images[span], labels[span], strict=True)]
        before = [content.key(image.tobytes(), label) for image, label in zip(IMAGES[span], LABELS[span], strict=True)]
        assert keys == sorted(before)


def test_another_order_of_a_split_is_the_same_set_and_another_split_is_not():
    digest = content.digest(*content.ordered(IMAGES, LABELS, (30, 20)))
    shuffled = np.r_[RNG.permutation(30), 30 + RNG.permutation(20)]
    assert content.digest(*content.ordered(IMAGES[shuffled], LABELS[shuffled], (30, 20))) == digest
    assert content.digest(*content.ordered(IMAGES, LABELS, (20, 30))) != digest
    assert content.digest(*content.ordered(IMAGES, (LABELS + 1) % 10, (30, 20))) != digest


def test_equal_images_of_two_classes_have_one_order():
    twice = np.stack([IMAGES[0], IMAGES[0]])
    one, other = (content.ordered(twice, np.array(labels), (2,))[1] for labels in ([3, 7], [7, 3]))
    assert one.tolist() == other.tolist()


def test_splits_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="splits of 49 examples in all do not fit 50 images and 50 labels"):
        content.ordered(IMAGES, LABELS, (30, 19))


@pytest.fixture
def pebbles(tmp_path, monkeypatch):
    """A set of anyone's with a validation split of its own."""
    monkeypatch.setenv("CLASSICNETS_DATA", str(tmp_path / "data"))
    with store.replacing("pebbles") as scratch:
        sizes = {"train": 25, "validation": 5, "test": 20}
        arrays.write(scratch / "new", IMAGES, LABELS % 2, sizes, class_names=["grey", "white"], source="the beach")
    return store.root() / "pebbles"


def test_a_set_of_anyones_is_loaded_by_its_name(pebbles):
    whole = load(DataConfig("pebbles"))
    assert whole.sizes == {"train": 25, "validation": 5, "test": 20}
    assert (whole.classes, whole.class_names, whole.shape, whole.view.flip) == (2, ("grey", "white"), (4, 4, 1), True)
    spans = [np.sort(images.reshape(len(images), -1), 0) for images in np.split(whole.images, [25, 30])]
    own = [np.sort(images.reshape(len(images), -1), 0) for images in np.split(IMAGES, [25, 30])]
    for one, other in zip(spans, own, strict=True):
        np.testing.assert_array_equal(one, other)
    row = next(row for row in listing() if row["name"] == "pebbles")
    assert [row[key] for key in ("state", "shape", "train", "validation", "test")] == ["prepared", [4, 4, 1], 25, 5, 20]


def test_a_name_that_is_nearly_one_of_anyones_is_told(pebbles):
    with pytest.raises(ValueError, match=r"^unknown data set 'pebble'; the nearest is 'pebbles'$"):
        source_of("pebble")


def test_a_set_in_the_old_order_is_told_and_not_trained_on(pebbles):
    manifest = pebbles / "manifest.json"
    facts = json.loads(manifest.read_text())
    del facts["order"]
    manifest.write_text(json.dumps(facts))
    row = next(row for row in listing() if row["name"] == "pebbles")
    assert (row["state"], row["command"]) == ("outdated", "classicnets data prepare pebbles")
    sentence = (
        "^data set 'pebbles' stands in the order of an earlier version; `classicnets data prepare pebbles` makes it "
        "anew, in the order of its content$"
    )
    with pytest.raises(ValueError, match=sentence):
        load(DataConfig("pebbles"))


def test_a_damaged_set_of_anyones_is_listed(pebbles):
    (pebbles / "labels.npy").write_bytes(b"")
    row = next(row for row in listing() if row["name"] == "pebbles")
    assert (row["state"], row["shape"], row["test"]) == ("damaged", None, None)


def test_a_refusal_leaves_not_even_the_root(tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSICNETS_DATA", str(tmp_path / "a" / "b"))
    with pytest.raises(RuntimeError, match="refused"), store.replacing("pebbles", keep=True):
        raise RuntimeError("refused")
    assert not list(tmp_path.iterdir())


def test_what_an_interrupted_preparation_kept_is_there_again(tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSICNETS_DATA", str(tmp_path))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), store.replacing("pebbles", keep=True) as scratch:
            with (scratch / "journal").open("a") as file:
                file.write("line\n")
            raise KeyboardInterrupt
    assert (tmp_path / ".pebbles.partial" / "journal").read_text() == "line\nline\n"
    with store.replacing("pebbles") as scratch:
        assert [path.name for path in scratch.iterdir()] == ["new"]
