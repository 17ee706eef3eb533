"""Anyone's images become a set: what is an example, of which class and split, what is left out, and what is told."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from helpers.answers import json_of, refusal_of, text_of
from helpers.commands import answer
from helpers.images import class_folders, encoded, picture, written
from PIL import Image

from classicnets.data import DataConfig, content, listing, load, store
from classicnets.data.decoding import by_pillow
from classicnets.data.prepare import prepare
from classicnets.data.prepare.folder import listing as listed


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("CLASSICNETS_DATA", str(tmp_path / "data"))
    return tmp_path / "source"


def held(name):
    """{split: Counter of (pixels, class name)} of a prepared set."""
    whole = load(DataConfig(name))
    return {
        split: Counter(
            (whole.images[i].tobytes(), whole.class_names[whole.labels[i]]) for i in range(start, start + size)
        )
        for split in whole.sizes
        for start, size in [whole.span(split)]
    }


def merged(splits):
    return sum(splits.values(), Counter())


@pytest.mark.parametrize("classes", [2, 3, 200])
def test_class_folders_without_splits(place, classes):
    class_folders(place, classes, 6 if classes < 200 else 2)
    notes = prepare("mine", place)
    expected = Counter((by_pillow(path.read_bytes())[0].tobytes(), path.parent.name) for path in place.rglob("*.jpg"))
    assert merged(held("mine")) == expected
    whole = load(DataConfig("mine"))
    assert whole.class_names == tuple(sorted(f"class {i}" for i in range(classes)))
    assert sum(whole.sizes.values()) == sum(expected.values())
    assert [note.split(":")[0] for note in notes][:2] == ["test", "validation"]


def test_splits_that_are_there_are_kept(place):
    for number, split in enumerate(("train", "val", "test")):
        class_folders(place / split, 3, 4, seed=number)
    assert prepare("mine", place) == []
    for split, folder in (("train", "train"), ("validation", "val"), ("test", "test")):
        expected = Counter(
            (by_pillow(path.read_bytes())[0].tobytes(), path.parent.name) for path in (place / folder).rglob("*.jpg")
        )
        assert held("mine")[split] == expected


def share(image):
    import hashlib

    return int(hashlib.sha256(image).hexdigest()[:16], 16) / 2**64


def test_a_missing_split_is_made_by_the_pixels_alone(place):
    class_folders(place / "train", 3, 40)
    prepare("mine", place)
    before = held("mine")
    for split, (low, high) in {"test": (0, 0.1), "validation": (0.1, 0.2), "train": (0.2, 1)}.items():
        assert before[split]
        assert all(low <= share(pixels) < high for pixels, _ in before[split])
    # More images and another class move none; an image that stands in two classes is on one side.
    class_folders(place / "train" / "..more", 1, 1)
    shutil.rmtree(place / "train" / "..more")
    for i in range(30):
        written(place / "train" / "another" / f"{i}.jpg", picture(5000 + i))
    for path in sorted((place / "train" / "class 0").iterdir()):
        shutil.copy(path, place / "train" / "another" / f"copy {path.name}")
    prepare("mine", place)
    after = held("mine")
    assert all(before[split] <= after[split] for split in before)
    sides = {split: {pixels for pixels, _ in of_split} for split, of_split in after.items()}
    assert not sides["train"] & sides["test"] and not sides["validation"] & sides["test"]


def test_a_test_split_is_made_beside_a_validation_split(place):
    class_folders(place / "train", 2, 40)
    class_folders(place / "val", 2, 3, seed=1)
    notes = prepare("mine", place)
    assert load(DataConfig("mine")).sizes["validation"] == 6
    assert notes[0].startswith("test: ") and len(notes) == 1


def test_what_is_no_example_is_skipped_and_counted(place):
    class_folders(place / "train", 2, 20)
    class_folders(place / "test", 2, 3, seed=1)
    for name in (".DS_Store", "._0.jpg"):
        (place / "train" / "class 0" / name).write_bytes(b"?")
    written(place / "train" / "__MACOSX" / "0.jpg", picture(0))
    (place / "train" / "class 1" / "readme.txt").write_text("?")
    (place / "train" / "classes.csv").write_text("?")
    (place / "train" / "empty").mkdir()
    notes = prepare("mine", place)
    assert "left out, with no image: class 'empty' of train" in notes
    assert "skipped: 2 foreign files" in notes and "skipped: 2 hidden files" in notes
    assert load(DataConfig("mine")).class_names == ("class 0", "class 1")


def test_a_class_of_which_all_images_fall_to_test_is_told(place):
    class_folders(place / "train", 2, 20)
    falls = next(i for i in range(100, 200) if share(by_pillow(encoded(picture(i), "PNG"))[0]) < 0.1)
    written(place / "train" / "rare" / "0.png", picture(falls))
    assert "no image for training: class 'rare'" in prepare("mine", place)


def test_every_kind_of_image_in_folders_with_any_names(place):
    image = Image.fromarray(picture(3))
    kinds = {
        "grau.png": image.convert("L"),
        "cmyk.jpg": image.convert("CMYK"),
        "klein.gif": image.quantize(8),
        "alpha.webp": image.convert("RGBA"),
        "sechzehn.png": Image.fromarray(np.full((20, 20), 513, np.uint16)),
        "bit.bmp": image.convert("1"),
    }
    for name in ("größe und ort", "日本 語"):
        for file, kind in kinds.items():
            written(place / "train" / name / file, kind)
        written(place / "test" / name / "a b.JPEG", picture(9))
    (place / "train" / "日本 語" / "in wahrheit jpeg.png").write_bytes(encoded(picture(4), "JPEG"))
    assert prepare("mine", place) == [
        f"validation: {load(DataConfig('mine')).sizes['validation']} of 13 images, " + WHO
    ]
    whole = held("mine")
    pixels = by_pillow(encoded(kinds["sechzehn.png"]))[0]
    assert (pixels == 2).all()
    assert merged(whole)[pixels.tobytes(), "日本 語"] == 1
    assert load(DataConfig("mine")).class_names == ("größe und ort", "日本 語")


WHO = "those whose SHA-256 lies between 10% and 20% of all"


def test_orientation_is_turned_and_told(place):
    class_folders(place, 2, 20)
    exif = Image.Exif()
    exif[0x0112] = 6
    written(place / "class 0" / "turned.jpg", picture(7, 30, 40), exif=exif)
    notes = prepare("mine", place)
    assert "turned upright by their EXIF: 1 images" in notes
    sides = [tuple(map(int, size)) for size in load(DataConfig("mine")).images.sizes]
    assert (40, 30) in sides


def test_tiny_imagenets_layout(place):
    top = place / "tiny-imagenet-200"
    for i in range(4):
        for word in ("n01", "n02"):
            written(top / "train" / word / "images" / f"{word}_{i}.jpg", picture(i * 7 + len(word)))
        written(top / "val" / "images" / f"val_{i}.jpg", picture(100 + i))
        written(top / "test" / "images" / f"test_{i}.jpg", picture(200 + i))
    (top / "train" / "n01" / "n01_boxes.txt").write_text("n01_0.jpg 0 0 1 1")
    lines = [f"val_{i}.jpg\tn0{1 + i % 2}\t0\t0\t9\t9" for i in range(4)]
    (top / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (top / "wnids.txt").write_text("n01\nn02\n")
    found = listed(place)
    assert Counter((file.split, file.label) for file in found.files) == {
        ("train", 0): 4,
        ("train", 1): 4,
        ("validation", 0): 2,
        ("validation", 1): 2,
    }
    assert "left out: 4 images of test/, which are in no class folder" in found.notes


def test_classes_may_be_called_as_splits_are(place):
    for name in ("train", "car"):
        for i in range(12):
            written(place / name / f"{i}.jpg", picture(i + 50 * len(name)))
    assert listed(place).class_names == ("car", "train")


def test_damaged_images_are_named_and_end_it_unless_they_are_skipped(place, capsys, tmp_path):
    class_folders(place, 2, 20)
    (place / "class 0" / "1.jpg").write_bytes((place / "class 0" / "1.jpg").read_bytes()[:300])
    (place / "class 1" / "2.jpg").write_bytes(b"")
    words = ("data", "prepare", "mine", "--source", place)
    sentence = refusal_of(capsys, *words)
    assert "2 of 40 images are damaged (source/class 0/1.jpg: no whole image" in sentence
    assert "class 1/2.jpg" in sentence and "--skip-damaged leaves them out" in sentence
    assert not (tmp_path / "data").exists()
    prepared = json_of(capsys, *words, "--skip-damaged")
    assert any(note.startswith("left out: 2 damaged images, source/class 0/1.jpg") for note in prepared["notes"])
    assert sum(load(DataConfig("mine")).sizes.values()) == 38


@pytest.mark.parametrize("kept_as", ["arrays", "shards"])
def test_order_names_and_copies_make_no_other_set(place, tmp_path, kept_as):
    class_folders(place, 2, 20, size=(9, 9))
    prepare("mine", place, kept_as=kept_as)
    first = load(DataConfig("mine"))
    for path in sorted(place.rglob("*.png")):
        other = tmp_path / "other" / path.parent.name / "deeper" / f"x{hash(path.name) % 997}{path.name}"
        other.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, other)
    prepare("again", tmp_path / "other", kept_as=kept_as)
    second = load(DataConfig("again"))
    assert (second.sha256, second.sizes) == (first.sha256, first.sizes)
    for i in range(40):
        np.testing.assert_array_equal(first.images[i], second.images[i])


def test_arrays_and_shards_stand_in_one_order(place):
    class_folders(place, 3, 20, size=(9, 7))
    prepare("a", place)
    prepare("s", place, kept_as="shards")
    arrays, shards = load(DataConfig("a")), load(DataConfig("s"))
    np.testing.assert_array_equal(arrays.labels, shards.labels)
    np.testing.assert_array_equal(arrays.images, [shards.images[i] for i in range(60)])
    keys = [content.key(image.tobytes(), label) for image, label in zip(arrays.images, arrays.labels, strict=True)]
    for start, size in map(arrays.span, arrays.sizes):
        assert keys[start : start + size] == sorted(keys[start : start + size])
    rows = {row["name"]: row for row in listing()}
    assert rows["a"]["shape"] == rows["s"]["shape"] == [9, 7, 3]


REFUSALS = {
    "nothing": (lambda root: root.mkdir(), "must hold two classes of images at least, .*; it holds no image"),
    "loose": (lambda root: written(root / "a.jpg", picture(0)), "it holds no image in class folders"),
    "one class": (lambda root: class_folders(root, 1), "it holds the one class 'class 0'"),
    "no folder": (lambda root: root.write_text("?"), "must be a folder or an archive of class folders"),
    "missing": (lambda root: None, "there is none at"),
    "other classes": (
        lambda root: (class_folders(root / "train", 2, 4), written(root / "val" / "class O" / "a.jpg", picture(0))),
        "class 'class O' of validation is none of the training images; the nearest is 'class [01]'",
    ),
    "two names": (
        lambda root: [class_folders(root / name, 2, 2) for name in ("train", "val", "valid")],
        "holds val and valid, both of which are validation",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_no_set_is_refused_and_leaves_nothing(name, place, tmp_path):
    make, sentence = REFUSALS[name]
    make(place)
    with pytest.raises(ValueError, match=sentence):
        prepare("mine", place)
    assert not (tmp_path / "data").exists()


def test_a_set_of_which_no_image_falls_to_test_says_so(place):
    class_folders(place, 2, 1)
    assert [share(by_pillow(path.read_bytes())[0]) > 0.2 for path in place.rglob("*.jpg")] == [True, True]
    assert prepare("mine", place)[0] == "test: 0 of 2 images, those whose SHA-256 lies between 0% and 10% of all"
    assert load(DataConfig("mine")).sizes == {"train": 2, "validation": 0, "test": 0}


@pytest.mark.parametrize("word", ["", ".mine", "a/b", "../up", "-x", "a b"])
def test_a_name_is_that_of_a_folder(place, word):
    class_folders(place, 2, 20)
    with pytest.raises(ValueError, match="name must be of letters, digits"):
        prepare(word, place)


def test_a_name_of_the_table_is_not_taken(place):
    class_folders(place, 2, 20)
    with pytest.raises(ValueError, match="svhn_cropped is not made of images of a folder"):
        prepare("svhn_cropped", place)


def test_images_of_several_sizes_are_no_array(place):
    class_folders(place, 2, 20)
    with pytest.raises(ValueError, match=r"store must be shards for mine, whose images have .* sizes, got arrays"):
        prepare("mine", place, kept_as="arrays")


def test_an_archive_is_taken_whole(place, tmp_path):
    class_folders(place / "set", 2, 20)
    archive = shutil.make_archive(str(tmp_path / "set"), "zip", place)
    prepare("mine", tmp_path / "set.zip")
    prepare("unpacked", place)
    assert archive.endswith("set.zip")
    assert load(DataConfig("mine")).sha256 == load(DataConfig("unpacked")).sha256
    assert [path.name for path in store.root().glob("*/unpacked")] == []


@pytest.mark.process
def test_a_killed_preparation_goes_on(place, tmp_path):
    """Killed while it looks at images: what was seen is not looked at again, and the set is the one of no kill."""
    class_folders(place, 4, 300, size=(90, 90))
    words = [
        sys.executable,
        "-m",
        "classicnets",
        "data",
        "prepare",
        "mine",
        "--source",
        str(place),
        "--store",
        "shards",
    ]
    process = subprocess.Popen(words)
    log = tmp_path / "data" / ".mine.partial" / "seen.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") > 300):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "data" / "mine").exists()
    seen = log.read_text().splitlines()
    # A line that says an image is damaged is believed: it was not looked at again.
    key, *values = json.loads(seen[0])
    log.write_text("\n".join([json.dumps([key, *values[:-1], "told so"]), *seen[1:]]) + "\n")
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2 and "1 of 1,200 images are damaged" in done.stderr and "told so" in done.stderr
    subprocess.run(words, check=True, capture_output=True)
    prepare("whole", place, kept_as="shards")
    assert load(DataConfig("mine")).sha256 == load(DataConfig("whole")).sha256
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".mine.lock", ".whole.lock", "mine", "whole"]


def test_a_shard_that_is_whole_is_kept_and_one_of_other_images_is_not(place, monkeypatch):
    from classicnets.data import shards

    monkeypatch.setattr(shards, "SHARD_BYTES", 10_000)
    class_folders(place, 2, 40)
    prepare("whole", place)
    files = sorted(store.root().glob("whole/images-*"))
    assert len(files) > 3
    scratch = store.root() / ".mine.partial"
    (scratch / "new").mkdir(parents=True)
    (scratch / "plan").write_text(load(DataConfig("whole")).sha256)
    shutil.copy(files[0], scratch / "new")
    kept = (scratch / "new" / files[0].name).stat().st_ino
    prepare("mine", place)
    assert (store.root() / "mine" / files[0].name).stat().st_ino == kept
    (scratch / "new").mkdir(parents=True)
    (scratch / "plan").write_text("of other images")
    (scratch / "new" / files[0].name).write_bytes(b"?")
    prepare("mine", place)
    assert (store.root() / "mine" / files[0].name).read_bytes() == files[0].read_bytes()


def test_a_file_that_changes_between_the_two_looks_ends_it(place, monkeypatch):
    from classicnets.data.prepare import building

    class_folders(place, 2, 20)
    write = building._write_shards

    def changed(*arguments):
        written(place / "class 0" / "3.jpg", picture(12345, 90, 90))
        write(*arguments)

    monkeypatch.setattr(building, "_write_shards", changed)
    with pytest.raises(ValueError, match=r"class 0/3\.jpg (has changed while|has become shorter)|has changed"):
        prepare("mine", place)
    assert not (store.root() / "mine").exists()


def test_show_tells_classes_sides_balance_and_images_in_two_splits(place, tmp_path, capsys):
    class_folders(place / "train", 2, 9)
    class_folders(place / "test", 2, 3, seed=1)
    shutil.rmtree(place / "train" / "class 1")
    for i in range(3):
        written(place / "train" / "class 1" / f"{i}.jpg", picture(70 + i, 50, 60))
    shutil.copy(place / "train" / "class 1" / "0.jpg", place / "test" / "class 0" / "same.jpg")
    prepare("mine", place)
    shown = json_of(capsys, "data", "show", "mine", "--sheet", tmp_path / "sheet.png")
    sizes = load(DataConfig("mine")).sizes
    assert shown["sizes"] == sizes
    both = {pair: count for pair, count in shown["duplicates"].items() if count}
    assert both == {("train, test" if "validation, test" not in both else "validation, test"): 1}
    counts = [shown["classes"][f"class {i}"]["train"] for i in (0, 1)]
    assert shown["imbalance"] == max(counts) / min(counts)
    assert shown["classes"]["class 0"]["test"] == 4
    assert shown["sides"]["height"][2] == 50 and shown["sides"]["width"][2] == 60
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (8 * 64, 2 * 64)
    assert "class 0" in text_of(capsys, "data", "show", "mine")
    assert "nothing is here" not in text_of(capsys, "data", "list")


def test_show_of_the_bundled_digits(capsys, tmp_path):
    shown = json_of(capsys, "data", "show", "digits", "--sheet", tmp_path / "digits.png")
    assert shown["sizes"] == {"train": 1408, "validation": 129, "test": 260}
    assert (
        shown["classes"]["3"] == {"train": 143, "validation": 15, "test": 25}
        or sum(shown["classes"]["3"].values()) == 183
    )
    with Image.open(tmp_path / "digits.png") as sheet:
        assert np.asarray(sheet).max() > 200
    assert refusal_of(capsys, "data", "show", "digist").startswith("classicnets: unknown data set 'digist'")
    assert answer(capsys, "data", "shwo")[0] == 2
