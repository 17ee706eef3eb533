"""TensorFlow's checkpoints, Caffe's models and Keras's files are read without those libraries, or refused whole."""

import io
import json
import os
import random
import zipfile
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
from helpers import checkpoints

from classicnets.weights import files
from classicnets.weights.files import read
from classicnets.weights.formats import crc32c

RNG = np.random.default_rng(0)
ARRAYS = {
    "net/conv1/weights": RNG.normal(size=(3, 3, 2, 4)).astype("f"),
    "net/conv1/biases": RNG.normal(size=4),
    "net/conv2/weights": RNG.normal(size=(5, 7)).astype("f2"),
    "net/half": RNG.normal(size=3).astype(ml_dtypes.bfloat16),
    "net/empty": np.zeros((0, 3), "f"),
    "net/mask": np.array([True, False]),
    "net/counts": np.array([-3, 2**31 - 1], np.int32),
    "step": np.array(2**40 + 7, np.int64),
    "zeros\u00e9": RNG.integers(0, 255, 300).astype("u1"),
}
FULL = os.environ.get("CLASSICNETS_FAULTS") == "all"


def same(found, expected):
    return list(found) == sorted(expected) and all(
        found[name].dtype == array.dtype
        and found[name].shape == array.shape
        and found[name].tobytes() == array.tobytes()
        for name, array in expected.items()
    )


def test_the_checksum_is_castagnolis():
    """RFC 3720, appendix B.4; and of every length the sum of a byte at a time."""
    assert crc32c.crc32c(b"123456789") == 0xE3069283
    assert crc32c.crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c.crc32c(bytes(range(32))) == 0x46DD794E
    for size in (*range(40), 1023, 1024, 4097, 100_003):
        data = random.Random(size).randbytes(size)
        assert crc32c.crc32c(data) == crc32c._small(data)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("word", ["net.ckpt-7", "net.ckpt-7.index", "net.ckpt-7.data-00000-of-0000{}"])
def test_tensorflow_v2(shards, word, tmp_path):
    checkpoints.v2(tmp_path / "net.ckpt-7", ARRAYS, shards)
    assert same(read(tmp_path / word.format(shards)), ARRAYS)
    before = files.sha256(tmp_path / "net.ckpt-7")
    place = tmp_path / f"net.ckpt-7.data-{shards - 1:05d}-of-{shards:05d}"
    place.write_bytes(place.read_bytes() + b"\0")
    assert files.sha256(tmp_path / "net.ckpt-7.index") != before


@pytest.mark.parametrize("form", ["packed", "unpacked", "content"])
def test_tensorflow_v1(form, tmp_path):
    checkpoints.v1(tmp_path / "net.ckpt", ARRAYS, form)
    assert same(read(tmp_path / "net.ckpt"), ARRAYS)


def test_what_tensorflow_alone_reads_is_named(tmp_path):
    arrays = {"a": np.ones(3, "f")}
    checkpoints.v2(tmp_path / "slices.ckpt", arrays, extra=checkpoints.field(7, checkpoints.field(1, b"")))
    checkpoints.v2(tmp_path / "snappy.ckpt", arrays, kind=1)
    checkpoints.v2(tmp_path / "gone.ckpt", arrays)
    (tmp_path / "gone.ckpt.data-00000-of-00001").unlink()
    for name, sentence in {
        "slices": "'a' is in slices, as a partitioned variable is$",
        "snappy": "a block that is compressed with Snappy",
        "gone": "it lacks gone.ckpt.data-00000-of-00001$",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            read(tmp_path / f"{name}.ckpt")
    (tmp_path / "no.ckpt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="it does not end as TensorFlow's checkpoints do"):
        read(tmp_path / "no.ckpt")


@pytest.mark.parametrize("form", ["v2", "v1"])
def test_every_flipped_bit_of_a_checkpoint_is_an_error_or_changes_nothing(form, tmp_path):
    path = tmp_path / "net.ckpt"
    {"v1": checkpoints.v1, "v2": checkpoints.v2}[form](path, ARRAYS)
    errors = 0
    for part in sorted(tmp_path.iterdir()):
        content = part.read_bytes()
        for place in range(0, len(content), 1 if FULL else 3):
            damaged = bytearray(content)
            damaged[place] ^= 1 << place % 8
            part.write_bytes(damaged)
            try:
                assert same(read(path), ARRAYS)
            except ValueError:
                errors += 1
        part.write_bytes(content)
        for place in range(0, len(content), 101):
            part.write_bytes(content[:place])
            with pytest.raises(ValueError):
                read(path)
        part.write_bytes(content)
    assert errors > 300


LAYERS = [
    ("conv1", "Convolution", [RNG.normal(size=(4, 3, 2, 2)).astype("f"), RNG.normal(size=4).astype("f")]),
    ("one", "Convolution", [RNG.normal(size=(1, 1, 1, 5)).astype("f")]),
    ("fc", "InnerProduct", [RNG.normal(size=(2, 9)).astype("f"), RNG.normal(size=2).astype("f")]),
]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("form", ["v2", "v1", "v0"])
def test_caffe(form, packed, tmp_path):
    layers = LAYERS if form == "v2" else [LAYERS[0], LAYERS[2]]
    (tmp_path / "net.caffemodel").write_bytes(checkpoints.caffemodel(layers, form, packed))
    found = read(tmp_path / "net.caffemodel")
    expected = {f"{name}.{i}": blob for name, _, blobs in layers for i, blob in enumerate(blobs)}
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def keras_legacy(path, wrapped):
    """As Keras 1 to 3 write .h5: names in attributes."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if wrapped else file
        root.attrs["layer_names"] = [b"conv", b"pool", b"norm"]
        weights = {"conv": ["kernel:0", "bias:0"], "pool": [], "norm": ["gamma:0", "moving_variance:0"]}
        for layer, names in weights.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{name}".encode() for name in names]
            for name in names:
                group[f"{layer}/{name}"] = KERAS[f"{layer}/{name.partition(':')[0]}"]
        if wrapped:
            file.create_group("optimizer_weights")["x"] = np.zeros(3)


def keras_numbered(path):
    """As Keras 3 writes .weights.h5: layers by class and counter, their own names in an attribute."""
    with h5py.File(path, "w") as file:
        for group, name, keys in (
            ("conv2d_4", "conv", ("kernel", "bias")),
            ("batch_normalization", "norm", ("gamma", "beta", "moving_mean", "moving_variance")),
        ):
            variables = file.create_group(f"layers/{group}/vars")
            variables.attrs["name"] = name
            for i, key in enumerate(keys):
                variables[str(i)] = KERAS[f"{name}/{key}"]
        file.create_group("layers/re_lu/vars")
        file.create_group("optimizer/vars")["0"] = np.zeros(2)


KERAS = {
    "conv/kernel": RNG.normal(size=(3, 3, 2, 4)).astype("f"),
    "conv/bias": RNG.normal(size=4).astype("f"),
    **{f"norm/{key}": RNG.normal(size=4).astype("f") for key in ("gamma", "beta", "moving_mean", "moving_variance")},
}


def test_keras(tmp_path):
    keras_legacy(tmp_path / "a.h5", wrapped=True)
    keras_legacy(tmp_path / "b.h5", wrapped=False)
    keras_numbered(tmp_path / "c.weights.h5")
    with zipfile.ZipFile(tmp_path / "d.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({}))
        archive.write(tmp_path / "c.weights.h5", "model.weights.h5")
    few = [key for key in KERAS if key not in ("norm/beta", "norm/moving_mean")]
    for name, keys in (("a.h5", few), ("b.h5", few), ("c.weights.h5", list(KERAS)), ("d.keras", list(KERAS))):
        found = read(tmp_path / name)
        assert set(found) == set(keys), name
        for key in keys:
            np.testing.assert_array_equal(found[key], KERAS[key])


def test_keras_files_hold_what_they_say_or_are_refused(tmp_path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.ones(4, "f").tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.ones(4)

    def linked(file, target):
        file.attrs["layer_names"] = [b"conv"]
        group = file.create_group("conv")
        group.attrs["weight_names"] = [b"kernel:0"]
        target(group)

    cases = {
        "external": (
            lambda g: g.create_dataset("kernel:0", (4,), "f", external=[(str(secret), 0, 16)]),
            "another file",
        ),
        "link": (lambda g: g.__setitem__("kernel:0", h5py.ExternalLink("other.h5", "/x")), "is a link to elsewhere"),
        "soft": (lambda g: g.__setitem__("kernel:0", h5py.SoftLink("/conv")), "is a link to elsewhere"),
        "bomb": (
            lambda g: g.create_dataset("kernel:0", (2**28,), "f", compression="gzip", chunks=(2**20,)),
            "claims 1,073,741,824 bytes in a file",
        ),
        "words": (lambda g: g.create_dataset("kernel:0", data=[b"abc"]), "no numbers"),
        "gone": (lambda g: None, "it lacks 'kernel:0'"),
    }
    for name, (target, sentence) in cases.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            linked(file, target)
        with pytest.raises(ValueError, match=sentence):
            read(tmp_path / f"{name}.h5")
    with h5py.File(tmp_path / "no.h5", "w") as file:
        file["x"] = np.ones(3)
    with pytest.raises(ValueError, match="it has no layer_names: it is no file of Keras's weights"):
        read(tmp_path / "no.h5")


@pytest.mark.parametrize("form", ["list", "number"])
def test_layers_of_tensorflow_vgg(form, tmp_path):
    kernel, bias = RNG.normal(size=(3, 3, 2, 4)).astype("f"), RNG.normal(size=4).astype("f")
    held = {"conv1_1": [kernel, bias] if form == "list" else {0: kernel, 1: bias}}
    np.save(tmp_path / "a.npy", np.array(held, dtype=object))
    found = read(tmp_path / "a.npy")
    assert list(found) == ["conv1_1/0", "conv1_1/1"]
    np.testing.assert_array_equal(found["conv1_1/0"], kernel)
    np.testing.assert_array_equal(found["conv1_1/1"], bias)


def whole(name: str, path: Path) -> bytes:
    """A good file of each format; path: where one may be made."""
    numbers = RNG.normal(size=(4, 6)).astype("f")
    buffer = io.BytesIO()
    if name == "a.caffemodel":
        return checkpoints.caffemodel(LAYERS)
    if name == "a.npz":
        np.savez(buffer, a=numbers, b=numbers[0])
    elif name == "a.npy":
        np.save(buffer, np.array({"a": [numbers, numbers[0]]}, dtype=object))
    elif name == "a.safetensors":
        from safetensors.numpy import save

        return save({"a": numbers, "b": numbers[0]})
    else:
        keras_numbered(path)
        return path.read_bytes()
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["a.caffemodel", "a.npz", "a.npy", "a.safetensors", "a.h5"])
def test_random_corruptions_end_in_a_sentence_or_in_arrays(name, tmp_path):
    """10,000 of each in full; where the format has checksums, arrays are those that were written."""
    content, rng, path = whole(name, tmp_path / "made.h5"), random.Random(name), tmp_path / name
    path.write_bytes(content)
    good, errors = read(path), 0
    for _ in range(10_000 if FULL else 15 if name == "a.h5" else 200):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 1, 1, 4, 40))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        if rng.random() < 0.2:
            damaged = damaged[: rng.randrange(len(damaged))]
        path.write_bytes(damaged)
        try:
            found = read(path)
        except ValueError as error:
            assert len(str(error).splitlines()) == 1
            errors += 1
            continue
        if name == "a.npz":
            kept = [key for key in found if key in good]
            assert all(found[key].tobytes() == good[key].tobytes() for key in kept)
    assert errors
