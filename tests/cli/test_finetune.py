"""finetune: a new head, frozen layers to the bit, anyone's weights with their own moments, resumed to the same bits."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image
from safetensors.numpy import save_file

import classicnets as cn
from classicnets.cli import finetune
from classicnets.cli.main import main
from classicnets.models import create
from classicnets.weights import convert
from classicnets.weights.sources import SOURCES

SMALL = ["--depth", "8", "--width", "0.25", "--epochs", "1", "--json"]


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """(runs directory, a small run on digits)."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.raises(SystemExit, match="0"):
        main(["train", "cifar_resnet", *SMALL, "--dataset", "digits", "--seed", "3", "--runs", str(root)])
    (folder,) = (root / "default").iterdir()
    return root, folder.name


def leaves(root, run):
    return {path: np.asarray(leaf) for path, leaf in flatten_dict(cn.load(run, str(root)).variables).items()}


def digest(arrays):
    text = hashlib.sha256()
    for path in sorted(arrays):
        text.update(arrays[path].tobytes())
    return text.hexdigest()


def test_only_the_head_is_trained_where_the_rest_is_frozen(parent, capsys):
    root, run = parent
    words = ["finetune", run, "--dataset", "digits", "--freeze", "*", "--seed", "9", "--epochs", "1", "--json"]
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--runs", str(root)])
    made = json.loads(capsys.readouterr().out)["run"]
    before, after = leaves(root, run), leaves(root, made)
    head = [path for path in before if path[1] == "logits"]
    rest = [path for path in before if path[1] != "logits"]
    assert len(head) == 2
    assert {path[0] for path in rest} == {"params", "batch_stats"}
    assert digest({p: before[p] for p in rest}) == digest({p: after[p] for p in rest})
    assert all((before[path] != after[path]).any() for path in head)
    facts = json.loads((root / "finetune" / made / "config.json").read_text())
    assert facts["parent"]["run"] == run
    assert facts["start"] == {"fresh": ["logits"], "frozen": ["block1", "block2", "block3", "conv1", "conv1_norm"]}
    assert facts["recipe"]["rates"] == ["logits=10"]


def test_moments_that_were_given_go_on(parent, capsys):
    """A run that began from anyone's weights was trained with theirs, and what starts from it is too."""
    root, run = parent
    words = [*SMALL, "--dataset", "digits", "--mean", "80", "--deviation", "90", "--runs", str(root)]
    with pytest.raises(SystemExit, match="0"):
        main(["train", "cifar_resnet", *words])
    first = json.loads(capsys.readouterr().out)["run"]
    _, _, _, before = finetune._opened(first, ["--runs", str(root)])
    assert before == {"mean": (80.0,), "deviation": (90.0,)}
    assert finetune._opened(run, ["--runs", str(root)])[3] is None
    trained = cn.load(first, str(root))
    image = np.full((1, 8, 8, 1), 170, "u1")
    assert np.asarray(trained.seen(image)).ravel() == pytest.approx((170 - 80) / 90)


def test_anyones_weights_start_with_their_own_moments(parent, tmp_path, monkeypatch, capsys):
    """BGR, as Caffe's: the first layer is turned, so that RGB images give the activations that BGR ones gave."""
    name, known = "resnet18", {"width": 1 / 16, "num_classes": 5}
    model, rng, arrays = create(name, **known), np.random.default_rng(0), {}
    for path, shape in convert.stacks.split(
        {p: np.zeros(s.shape) for p, s in convert.shapes_of(name, known).items()}
    ).items():
        place = SOURCES["torchvision"].place(path, model, ())
        arrays[place.key] = np.ascontiguousarray(place.theirs(rng.uniform(0.2, 0.4, shape.shape).astype("f")))
    save_file(arrays, tmp_path / "net.safetensors")
    known_words = ["--source", "torchvision", "--model", name]
    with pytest.raises(SystemExit, match="2"):
        main(["finetune", str(tmp_path / "net.safetensors"), *known_words, "--dataset", "digits"])
    assert "of another shape" in capsys.readouterr().err  # its width is not told
    net = cn.load_weights(tmp_path / "net.safetensors", "torchvision", name, width=1 / 16)
    cn.save_weights(net, tmp_path / "ours.safetensors")
    opened, fields, source, before = finetune._opened(str(tmp_path / "ours.safetensors"), [])
    assert (opened, fields["width"], source.sha256) == (name, 1 / 16, net.weights.sha256)
    assert before["mean"] == pytest.approx((123.675, 116.28, 103.53))
    object.__setattr__(net.weights.preprocessing, "channels", "bgr")
    cn.save_weights(net, tmp_path / "bgr.safetensors")
    _, _, source, before = finetune._opened(str(tmp_path / "bgr.safetensors"), [])
    image = rng.integers(0, 255, (1, 40, 40, 3)).astype("f")
    x = ((image[..., ::-1] / 255 - net.weights.preprocessing.mean) / net.weights.preprocessing.deviation).astype("f")
    theirs = net.model.apply(net.variables, x, train=False)
    ours = net.model.apply(source.trees, ((image - before["mean"]) / before["deviation"]).astype("f"), train=False)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    with pytest.raises(SystemExit, match="2"):
        main(["finetune", str(tmp_path / "ours.safetensors"), "--dataset", "digits"])
    assert "ours.safetensors reads 3 colours, digits has 1" in capsys.readouterr().err


def test_heads_are_what_depends_on_the_classes():
    assert finetune.head_of("vgg11", {"num_classes": 5, "width": 0.05}) == ("fc8/dense",)
    heads = finetune.head_of("inception_v1", {"num_classes": 5, "width": 0.05})
    assert set(heads) == {"aux1/logits", "aux2/logits", "logits"}


def test_patterns_name_layers_or_what_they_lie_in():
    model = create("inception_v1", num_classes=5, width=0.05)
    head = finetune.head_of("inception_v1", {"num_classes": 5, "width": 0.05})
    frozen = finetune.frozen_by(["mixed_4[bc]", "aux*"], model, "inception_v1", head)
    assert set(frozen) == {"mixed_4b", "mixed_4c", "aux1/conv", "aux1/fc", "aux2/conv", "aux2/fc"}
    with pytest.raises(ValueError, match="freeze names 'mixed_4z', which the network does not have; the nearest is"):
        finetune.frozen_by(["mixed_4z"], model, "inception_v1", head)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["RUN"], "name the data to train on with --dataset"),
        (["nothing", "--dataset", "digits"], "no run 'nothing'"),
        (
            ["RUN", "--dataset", "digits", "--into", "cifar_resnet_v2"],
            "layers must name those that cifar_resnet_v2 takes",
        ),
        (["RUN", "--dataset", "digits", "--head-rate", "-1"], "head_rate must be at least 0, got -1.0"),
        (["RUN", "--dataset", "digits", "--freeze", "block9"], "freeze names 'block9'"),
    ],
)
def test_what_cannot_be_is_refused(words, sentence, parent, capsys):
    root, run = parent
    with pytest.raises(SystemExit, match="2"):
        main(["finetune", *(run if word == "RUN" else word for word in words), "--runs", str(root)])
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_killed_and_started_again_it_ends_in_the_same_bits(parent, tmp_path):
    root, run = parent
    words = ["finetune", str(root / "default" / run), "--dataset", "digits", "--freeze", "block1", "--epochs", "4"]
    words += ["--checkpoint-seconds", "0", "--json"]
    command = [sys.executable, "-m", "classicnets.cli.main", *words]
    whole = subprocess.run([*command, "--runs", str(tmp_path / "whole")], capture_output=True, text=True, check=True)
    process = subprocess.Popen([*command, "--runs", str(tmp_path / "cut")], stdout=subprocess.DEVNULL, stderr=-3)
    end = time.monotonic() + 120
    while not any(Path(tmp_path / "cut").glob("*/*/checkpoints/[0-9]*")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    again = subprocess.run([*command, "--runs", str(tmp_path / "cut")], capture_output=True, text=True, check=True)
    results = [json.loads(done.stdout) for done in (whole, again)]
    assert results[0]["run"] == results[1]["run"]
    assert results[0]["parameters_sha256"] == results[1]["parameters_sha256"]
    jax.tree.map(np.testing.assert_array_equal, *(leaves(tmp_path / w, results[0]["run"]) for w in ("whole", "cut")))


def test_a_run_looks_at_any_images_as_its_data_set_has_them(parent, tmp_path, capsys):
    """Grey, 8x8: a colour image of that size is what its luma is, a larger one is resized whole."""
    root, run = parent
    net = cn.load(run, str(root))
    grey = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype("u1")
    logits = net.logits(grey)
    np.testing.assert_allclose(net.scores(np.repeat(grey, 3, 3)), logits, rtol=1e-5, atol=1e-5)
    powers = np.exp(logits.astype(np.float64))
    expected = powers / powers.sum(1, keepdims=True)
    for guesses, row in zip(net.predict(np.repeat(grey, 3, 3), top=10), expected, strict=True):
        assert [guess.number for guess in guesses] == np.argsort(-row).tolist()
        assert guesses[0].probability == pytest.approx(row.max(), rel=1e-4)
        assert guesses[0].name == net.names[guesses[0].number]
    large = Image.fromarray(grey[0, ..., 0]).resize((80, 40), Image.Resampling.NEAREST)
    small = np.asarray(large.resize((8, 8), Image.Resampling.BILINEAR))[None, ..., None]
    np.testing.assert_allclose(net.scores([np.asarray(large.convert("RGB"))]), net.logits(small), rtol=1e-5, atol=1e-5)
    found = net.features(np.repeat(grey, 3, 3), ["block3", "logits"])
    np.testing.assert_allclose(found["logits"], logits, rtol=1e-4, atol=1e-4)
    assert found["block3"].shape == (3, 2, 2, 16)
    with pytest.raises(ValueError, match="there is no layer 'blok3'; the nearest is 'block3'"):
        net.features(grey, ["blok3"])
    with pytest.raises(ValueError, match="there are no images"):
        net.predict([])
    large.save(tmp_path / "large.png")
    with pytest.raises(SystemExit, match="0"):
        main(["predict", run, str(tmp_path / "large.png"), "--runs", str(root), "--json", "--top", "1"])
    answer = json.loads(capsys.readouterr().out)
    assert answer["network"]["run"] == run
    assert answer["images"][0]["top"][0]["number"] == int(net.logits(small).argmax())
