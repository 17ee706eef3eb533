"""Anyone's weights: stored and back to the bit, scored, looked at; what cannot be told apart is refused."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import safetensors
from flax.traverse_util import flatten_dict, unflatten_dict
from PIL import Image
from safetensors.numpy import load_file, save_file

import classicnets as cn
from classicnets.cli.main import main
from classicnets.data import Dataset, load
from classicnets.inference import scoring
from classicnets.inference.net import WeightsNet
from classicnets.models import create, stacks
from classicnets.weights import convert, stored
from classicnets.weights.classes import CIFAR10, classes_of, imagenet
from classicnets.weights.preprocessing import Preprocessing
from classicnets.weights.sources import SOURCES

pytestmark = pytest.mark.usefixtures("without_expensive_passes")
RNG = np.random.default_rng(0)


def drawn(source, name, **fields):
    """Arrays of a source's network, drawn at random, by the table itself."""
    model, table = create(name, **fields), SOURCES[source]
    arrays = {}
    for path, shape in convert.shapes_of(name, fields).items():
        for unit in convert.stacks.units(path):
            size = shape.shape[len(shape.shape) - len(shape.shape[unit != path :]) :]
            low = 0.5 if path[-1] in ("var", "scale") else -0.5
            place = table.place(unit, model, ())
            scale = (12 / np.prod(size[:-1])) ** 0.5 if path[-1] == "kernel" else 1.0
            leaf = scale * RNG.uniform(low, low + 1, size)
            arrays[place.key] = np.ascontiguousarray(place.theirs(leaf.astype("f")))
    return arrays


@pytest.fixture(scope="module")
def small():
    """A small ResNet-18 in torchvision's names, with counters and half-precision numbers."""
    arrays = drawn("torchvision", "resnet18", width=1 / 16, num_classes=10)
    arrays["bn1.num_batches_tracked"] = np.array(7)
    arrays["layer1.0.bn1.weight"] = arrays["layer1.0.bn1.weight"].astype("f2")
    arrays["layer4.1.bn2.running_mean"] = arrays["layer4.1.bn2.running_mean"].astype("f8") + 1e-12
    return arrays


@pytest.fixture
def told(small, tmp_path):
    """(the file, the words that tell what it is)."""
    save_file(small, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors", {"source": "torchvision", "model": "resnet18", "width": 1 / 16}


def test_import_stores_everything_and_export_gives_it_back_to_the_bit(small, told, tmp_path):
    path, words = told
    net = cn.load_weights(path, **words)
    assert (net.weights.name, net.weights.fields) == ("resnet18", {"width": 1 / 16, "num_classes": 10})
    cn.save_weights(net, tmp_path / "ours.safetensors")
    again = cn.load_weights(tmp_path / "ours.safetensors")
    assert again.facts() == net.facts()
    assert again.facts()["sha256"] == stored.files.sha256(path)
    back = again.weights.arrays()
    assert list(back) == list(load_file(path))
    for key, array in small.items():
        assert (back[key].dtype, back[key].tobytes()) == (array.dtype, array.tobytes()), key
    with safetensors.safe_open(tmp_path / "ours.safetensors", "np") as file:
        names = set(file.keys())
    assert {"params/block1/unit_2/conv1/kernel", "extras/bn1.num_batches_tracked"} <= names


def test_the_command_line_imports_shows_and_exports(small, told, tmp_path, capsys):
    path, _ = told
    words = ["--source", "torchvision", "--model", "resnet18", "--width", "0.0625", "--json"]
    with pytest.raises(SystemExit, match="0"):
        main(["weights", "import", str(path), "--out", str(tmp_path / "ours.safetensors"), *words])
    facts = json.loads(capsys.readouterr().out)
    assert (facts["arrays"], facts["used"], facts["kept"]) == (len(small), len(small) - 1, 1)
    with pytest.raises(SystemExit, match="0"):
        main(["weights", "export", str(tmp_path / "ours.safetensors"), "--out", str(tmp_path / "back.safetensors")])
    back = load_file(tmp_path / "back.safetensors")
    assert all(back[key].tobytes() == array.tobytes() for key, array in small.items())
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        main(["weights", "show", str(tmp_path / "ours.safetensors"), "--json"])
    shown = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in shown["arrays"]}
    kernel = rows["params/conv1/kernel"]
    assert (shown["model"], kernel["shape"], kernel["dtype"]) == ("resnet18", [7, 7, 3, 4], "float32")
    assert kernel["norm"] == pytest.approx(float(np.linalg.norm(small["conv1.weight"])))


def test_what_fits_several_sources_is_refused_with_the_choices(told, tmp_path):
    path, words = told
    with pytest.raises(ValueError, match="choose one of --source torchvision --model resnet18; --source timm --model"):
        cn.load_weights(path, width=1 / 16)
    for wrong, sentence in (
        ({"model": "resnet34"}, "these are not torchvision's weights of resnet34: missing 'layer1.2"),
        ({"model": "resnet19"}, "unknown model 'resnet19'"),
        ({"source": "torch"}, "source must be one of torchvision, timm"),
        ({"num_classes": 9}, r"of another shape 'fc.bias' \[10\] for params/logits/bias \[9\]"),
        ({"width": 0.1}, "of another shape"),
    ):
        with pytest.raises(ValueError, match=sentence):
            cn.load_weights(path, **{**words, **wrong})
    net = cn.load_weights(path, **words)
    cn.save_weights(net, tmp_path / "ours.safetensors")
    for wrong, sentence in (
        ({"source": "timm"}, "source is 'torchvision' in this file, got 'timm'"),
        ({"width": 1.0}, r"width is 0.0625 in this file, got 1.0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            cn.load_weights(tmp_path / "ours.safetensors", **wrong)
    with pytest.raises(ValueError, match=r"weights are stored as \.safetensors"):
        cn.save_weights(net, tmp_path / "ours.npz")


def test_group_norm_is_refused_by_name():
    arrays = {
        "stages.0.blocks.0.conv1.weight": np.zeros((4, 4, 1, 1), "f"),
        "head.fc.weight": np.zeros((9, 4, 1, 1), "f"),
    }
    with pytest.raises(ValueError, match=r"timm's resnetv2_\*_bit, with group norm and standardised weights"):
        SOURCES["timm"].guess(arrays)


def test_weights_are_written_for_images_alike_or_not_at_all(tmp_path):
    """Caffe's VGG and tensorflow-vgg read BGR less one mean, slim the same in RGB; torchvision other numbers."""
    arrays = drawn("slim", "vgg16", width=0.05, num_classes=7)
    np.savez(tmp_path / "net.npz", **arrays)
    net = cn.load_weights(tmp_path / "net.npz", width=0.05)
    assert net.weights.source == "slim"
    written = net.weights.arrays("tensorflow-vgg")
    np.testing.assert_array_equal(written["conv1_1/0"], arrays["vgg_16/conv1/conv1_1/weights"][:, :, ::-1])
    np.testing.assert_array_equal(written["conv1_2/0"], arrays["vgg_16/conv1/conv1_2/weights"])
    images = RNG.integers(0, 255, (2, 224, 224, 3)).astype("u1")
    np.savez(tmp_path / "other.npz", **written)
    other = cn.load_weights(tmp_path / "other.npz", "tensorflow-vgg", "vgg16", width=0.05)
    object.__setattr__(other.weights.preprocessing, "how", "whole")
    object.__setattr__(net.weights.preprocessing, "how", "whole")
    np.testing.assert_allclose(other.logits(images), net.logits(images), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"torchvision gives its networks other images .* than these weights of slim"):
        net.weights.arrays("torchvision")
    with pytest.raises(ValueError, match="akamaster has no 'vgg16'"):
        net.weights.arrays("akamaster")


def damaged(path, change):
    """Rewrite a stored file with its metadata or arrays changed."""
    with safetensors.safe_open(path, "np") as file:
        facts = json.loads(file.metadata()["classicnets"])
    arrays = load_file(path)
    change(facts, arrays)
    facts["checksum"] = stored._checksum({k: v for k, v in facts.items() if k != "checksum"}, arrays)
    save_file(arrays, path, {"classicnets": json.dumps(facts)})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f, a: f.update(form=9), "its metadata is damaged"),
        (lambda f, a: f.update(model="resnet19"), "unknown model 'resnet19'"),
        (lambda f, a: f.update(source="?"), "its source '\\?' is unknown"),
        (lambda f, a: f.pop("keys"), "its metadata is damaged"),
        (lambda f, a: f["preprocessing"].update(sides=3), "its preprocessing is damaged"),
        (lambda f, a: a.pop("params/conv1/kernel"), "it lacks params/conv1/kernel"),
        (lambda f, a: a.update(more=np.zeros(2)), "it has no place for 'more'"),
        (lambda f, a: a.update({"params/logits/bias": np.zeros(10)}), r"params/logits/bias must be float32 \[10\]"),
        (lambda f, a: a["params/logits/bias"].fill(np.nan), "params/logits/bias holds numbers that are not finite"),
    ],
)
def test_a_damaged_file_is_refused(change, sentence, told, tmp_path):
    path, words = told
    cn.save_weights(cn.load_weights(path, **words), tmp_path / "ours.safetensors")
    damaged(tmp_path / "ours.safetensors", change)
    with pytest.raises(ValueError, match=sentence):
        cn.load_weights(tmp_path / "ours.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        lambda f, a: f.update(classes=["a"] * 10),
        lambda f, a: f.update(keys=dict(reversed(f["keys"].items()))),
        lambda f, a: f["preprocessing"].update(channels="bgr"),
        lambda f, a: a["params/logits/bias"].__setitem__(0, 3),
        lambda f, a: a.update({"extras/bn1.num_batches_tracked": np.array(8)}),
    ],
)
def test_whatever_is_changed_in_a_stored_file_is_seen(change, told, tmp_path):
    path, words = told
    cn.save_weights(cn.load_weights(path, **words), tmp_path / "ours.safetensors")
    damaged(tmp_path / "ours.safetensors", lambda facts, arrays: None)
    cn.load_weights(tmp_path / "ours.safetensors")

    def keep(facts, arrays):
        before = stored._checksum({k: v for k, v in facts.items() if k != "checksum"}, arrays)
        change(facts, arrays)
        facts["checksum"] = before

    with safetensors.safe_open(tmp_path / "ours.safetensors", "np") as file:
        facts = json.loads(file.metadata()["classicnets"])
    arrays = load_file(tmp_path / "ours.safetensors")
    keep(facts, arrays)
    save_file(arrays, tmp_path / "ours.safetensors", {"classicnets": json.dumps(facts)})
    with pytest.raises(ValueError, match="its checksum does not match"):
        cn.load_weights(tmp_path / "ours.safetensors")


def test_the_classes_are_imagenets_in_order():
    names = imagenet()
    assert len(names) == 1000
    assert [wnid for wnid, _ in names] == sorted(wnid for wnid, _ in names)
    assert names[0] == ("n01440764", "tench")
    assert names[292] == ("n02129604", "tiger")
    assert classes_of("slim", 1001)[:2] == ("background", "tench")
    assert classes_of("cifar_resnet", 10) == CIFAR10
    assert classes_of("resnet18", 10) is None


def test_images_of_any_kind_are_looked_at_and_bad_ones_named(told, tmp_path, capsys):
    path, words = told
    folder = tmp_path / "images"
    folder.mkdir()
    photo = Image.fromarray(RNG.integers(0, 255, (50, 70, 3)).astype("u1"))
    photo.save(folder / "a.png")
    photo.convert("L").save(folder / "b.png")
    turned = photo.getexif()
    turned[0x112] = 6
    photo.rotate(90, expand=True).save(folder / "c.png", exif=turned)
    (folder / "d.png").write_bytes(b"nothing")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"nothing")
    command = ["predict", "--weights", str(path), "--source", "torchvision", "--model", "resnet18", "--width", "0.0625"]
    command += [str(folder), "--top", "3", "--json", "--features", "block2", "logits", "--out", str(tmp_path / "f.npz")]
    with pytest.raises(SystemExit, match="1"):
        main([*command, "--picture", str(tmp_path / "p.png")])
    out, err = capsys.readouterr()
    answers = json.loads(out)["images"]
    assert [answer["image"][-5:] for answer in answers] == ["a.png", "b.png", "c.png", "d.png"]
    assert re.search("d.png: no whole image", err)
    assert answers[0]["top"] == answers[2]["top"]
    net = cn.load_weights(path, **words)
    pixels = np.asarray(photo)
    tall = np.asarray(photo.resize((358, 256), Image.Resampling.BILINEAR))[16:240, 67:291]
    x = (tall.astype(np.float64) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    logits = np.asarray(net.model.apply(net.variables, x[None].astype("f"), train=False), np.float64)[0]
    powers = np.exp(logits - logits.max())
    best = int(logits.argmax())
    top = answers[0]["top"][0]
    assert (top["number"], top["name"]) == (best, str(best))
    assert top["probability"] == pytest.approx(float(powers[best] / powers.sum()), abs=1e-4)
    (same,) = net.predict(pixels, top=1)
    assert same[0].number == best
    with np.load(tmp_path / "f.npz") as held:
        assert held["images"].tolist() == [answer["image"] for answer in answers[:3]]
        assert held["block2"].shape == (3, 28, 28, 8)
        np.testing.assert_allclose(held["logits"][0], logits, atol=1e-4)
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size[0] == 960


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a.png"], "name a run, or weights with --weights"),
        (["--weights", "w.pth"], "name a run, or weights with --weights"),
        (["--weights", "w.pth", "a.png", "--top", "0"], "top must be at least 1, got 0"),
        (["--weights", "w.pth", "a.png", "--features", "fc7"], "features and out are given together"),
        (["--weights", "w.pth", "a.png", "--picture", "a.jpg"], "picture must end in .png, got a.jpg"),
        (["--weights", "w.pth", "a.png"], "there is no file w.pth"),
        (["run", "a.png", "--source", "timm"], "source and model are of weights, which --weights names"),
    ],
)
def test_predict_is_refused_in_one_sentence(words, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["predict", *words])
    assert sentence in capsys.readouterr().err


def small_weights(classes, before, **fields):
    """Weights of a small residual network for CIFAR, drawn at random."""
    known = {"depth": 8, "num_classes": classes, **fields}
    arrays = drawn("akamaster", "cifar_resnet", **known)
    imported = convert.variables(SOURCES["akamaster"], "cifar_resnet", arrays, **known)
    return stored.Weights("cifar_resnet", known, imported.variables, "akamaster", "0" * 64, before)


def test_the_error_on_a_data_set_is_that_of_its_logits():
    before = Preprocessing(8, "whole", mean=(0.1, 0.2, 0.3), deviation=(0.5, 0.6, 0.7))
    net = WeightsNet(small_weights(10, before))
    dataset = load(cn.DataConfig(dataset="digits"))
    start, size = dataset.span("test")
    images = np.repeat(dataset.images[start:], 3, 3).astype(np.float64) / 255
    x = ((images - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]).astype("f")
    logits = np.asarray(net.model.apply(net.variables, x, train=False), np.float64)
    labels = dataset.labels[start:]
    found = scoring.score(net, "digits")
    assert found["images"] == size == len(labels)
    assert found["error"] == pytest.approx(100 * np.mean(logits.argmax(1) != labels), abs=0.5)
    own = logits[np.arange(size), labels]
    assert found["loss"] == pytest.approx(float(np.mean(np.log(np.exp(logits).sum(1)) - own)), rel=1e-4)
    rank = (logits > own[:, None]).sum(1)
    assert found["top5_error"] == pytest.approx(100 * np.mean(rank > 4), abs=0.5)


def named(count, classes):
    net = WeightsNet(small_weights(count, Preprocessing(8, "whole")))
    object.__setattr__(net.weights, "classes", classes)
    return net


def test_classes_are_matched_by_name_and_others_refused():
    """By number alone a stranger's ten classes would be scored as digits, without a word."""
    dataset = load(cn.DataConfig(dataset="digits"))
    words = dataset.class_names
    assert scoring.columns_of(named(10, None), dataset, "digits") == list(range(10))
    assert scoring.columns_of(named(10, tuple(reversed(words))), dataset, "digits") == list(reversed(range(10)))
    assert scoring.columns_of(named(11, ("background", *words)), dataset, "digits") == list(range(1, 11))
    assert scoring.columns_of(named(11, ("background", *reversed(words))), dataset, "digits") == list(range(10, 0, -1))
    for net, sentence in (
        (named(11, None), "digits has 10 classes, these weights have 11"),
        (named(10, CIFAR10), "digits has the class '0', these weights know airplane, automobile, bird and others"),
        (named(10, ("0", *words[:9])), "digits has the class '9', these weights know 0, 0, 1 and others"),
    ):
        with pytest.raises(ValueError, match=sentence):
            scoring.columns_of(net, dataset, "digits")
    ids = Dataset(**{**vars(dataset), "class_names": tuple(wnid for wnid, _ in imagenet())})
    assert scoring.columns_of(named(1001, classes_of("", 1001)), ids, "mine") == list(range(1, 1001))


def test_variables_that_were_changed_are_written_as_they_are(small, told):
    """What was kept of the source counts for what it was kept for: not for a trained network."""
    path, words = told
    weights = cn.load_weights(path, **words).weights
    flat = flatten_dict(dict(weights.variables))
    leaves = stacks.split(flat)
    mean = ("batch_stats", "block4", "unit_2", "norm2", "mean")
    scale = ("params", "block1", "unit_1", "norm1", "scale")
    leaves |= {mean: leaves[mean] + 1, scale: leaves[scale] + np.float32(1e-4)}
    written = replace(weights, variables=unflatten_dict(stacks.join(leaves, flat))).arrays()
    keys = {"layer4.1.bn2.running_mean": mean, "layer1.0.bn1.weight": scale}
    assert "layer4.1.bn2.running_mean" in weights.extras  # float64, of which ours are not all
    for key, path in keys.items():
        np.testing.assert_array_equal(written[key], leaves[path])
    rest = small.keys() - keys.keys()
    assert all(written[name].tobytes() == small[name].tobytes() for name in rest)


def test_the_mean_of_each_pixel_comes_from_a_data_set_and_is_stored(tmp_path, monkeypatch):
    before = Preprocessing(8, "whole", needs_pixel_mean=True)
    net = WeightsNet(small_weights(10, before))
    with pytest.raises(ValueError, match="take off each pixel's mean over their training images, which is not here"):
        net.predict(np.zeros((8, 8, 3), "u1"))
    dataset = load(cn.DataConfig(dataset="digits"))
    with pytest.raises(ValueError, match="each pixel's mean of 8x8 images, not digits's"):
        scoring.with_means(net, "digits")  # which is grey
    assert "each pixel's of its training images" in before.sentence()
    coloured = Dataset(**{**vars(dataset), "images": np.repeat(dataset.images, 3, 3)})
    monkeypatch.setattr(scoring, "load", lambda config: coloured)
    filled = scoring.with_means(net, "digits")
    start, _ = dataset.span("test")
    mean = coloured.images[:start].astype(np.float64).mean(0) / 255
    np.testing.assert_allclose(filled.weights.preprocessing.pixel_mean, mean, rtol=1e-12)
    assert filled.facts()["preprocessing"]["pixel_mean_of"] == "digits"
    cn.save_weights(filled, tmp_path / "w.safetensors")
    again = cn.load_weights(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(again.weights.preprocessing.pixel_mean, filled.weights.preprocessing.pixel_mean)
    image = RNG.integers(0, 255, (8, 8, 3)).astype("u1")
    np.testing.assert_allclose(again.inputs(image[None])[0], image / 255 - mean, atol=1e-6)
