"""bench: what follows from the times, several models in one table, shapes of activations, peers that are not there."""

import json

import pytest

from classicnets.cli import bench
from classicnets.cli.main import main
from classicnets.complexity.counts import describe
from classicnets.models import ENTRIES, create

pytestmark = pytest.mark.usefixtures("without_expensive_passes")
TINY = ["--batch", "2", "--side", "16", "--repeats", "3"]


def answered(capsys, *words):
    with pytest.raises(SystemExit, match="0"):
        main(["bench", *words, "--json"])
    return json.loads(capsys.readouterr().out)


def test_a_row_says_what_follows_from_its_times(capsys):
    rows = answered(capsys, "cifar_resnet", *TINY, "--depth", "8", "--width", "0.25", "--layers")
    assert [(row["model"], row["case"]) for row in rows] == [("cifar_resnet", case) for case in bench.PAIR]
    macs = describe(create("cifar_resnet", depth=8, width=0.25), (16, 16, 3))["macs"]
    for row, passes in zip(rows, (1, 3), strict=True):
        assert (row["batch"], row["side"], row["n"]) == (2, 16, 3)
        seconds = row["mean_ms"] / 1e3
        assert row["images_per_second"] == pytest.approx(2 / seconds)
        assert row["gflops"] == pytest.approx(2 * macs * 2 * passes / seconds / 1e9)
        assert row["min_ms"] <= row["median_ms"] <= row["max_ms"]
        assert row["deviation_ms"] >= 0
        assert (row["ratio"], row["peak_bytes"]) == (None, None)
        assert {"name": "conv1", "shape": [2, 16, 16, 4]} in row["layers"]


def test_several_models_stand_in_one_table_and_forward_alone(capsys):
    name = "alexnet_tf_benchmark"  # convolutions alone
    with pytest.raises(SystemExit, match="0"):
        main(["bench", name, name, "--batch", "2", "--side", "64", "--repeats", "3", "--forward"])
    title, head, *table = capsys.readouterr().out.splitlines()
    assert title.startswith("batches of 2 images of 64 pixels on cpu")
    assert head.split()[:3] == ["model", "step", "median"]
    assert [line.split()[:2] for line in table] == [[name, "forward"]] * 2


def test_a_start_is_told_in_its_parts(capsys):
    words = ["--batch", "2", "--side", "8", "--depth", "8", "--width", "0.25", "--start"]
    (row,) = answered(capsys, "cifar_resnet", *words)
    assert {key: row.pop(key) for key in ("model", "batch", "side")} == {"model": "cifar_resnet", "batch": 2, "side": 8}
    assert list(row) == ["draw_seconds", "trace_seconds", "compile_seconds", "step_seconds"]
    # The step is what was compiled: another compilation would take as long as the first.
    assert 0 < row["step_seconds"] < row["trace_seconds"]
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "cifar_resnet", *words, "--forward"])
    assert "start times the first step of our networks" in capsys.readouterr().err


def test_a_model_has_its_peers():
    assert {name: bench._keras(name) for name in ENTRIES if bench._keras(name)} == {
        **{f"vgg{depth}": f"VGG{depth}" for depth in (16, 19)},
        **{f"resnet{depth}": f"ResNet{depth}" for depth in (50, 101, 152)},
        **{f"resnet{depth}_v2_slim": f"ResNet{depth}V2" for depth in (50, 101, 152)},
        "inception" + "_v3": "InceptionV3",
    }
    assert (bench._alike("resnet50"), bench._ours("resnet50")) == ("resnet50", "resnet50_v1_5")
    assert (bench._alike("inception_v1"), bench._ours("googlenet")) == ("googlenet", "inception_v1_bn")
    assert bench._alike("cifar_resnet") == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name a model first; choose from alexnet"),
        (["resnet18", "resnet19"], "unknown model 'resnet19'"),
        (["resnet18", "--batch", "0"], "batch_size must be in"),
        (["resnet18", "--forms", "--forward"], "forms times the training step alone"),
        (["cifar_resnet", "--peer", "torch"], "torch has no cifar_resnet: time it without --peer"),
        (["resnet18", "--peer", "torch"], "--peer torch needs torch and torchvision: pip install 'classicnets[peers]'"),
    ],
)
def test_what_cannot_be_timed_is_refused(words, sentence, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *words])
    assert sentence in capsys.readouterr().err
