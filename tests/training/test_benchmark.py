"""The timer runs the real training step of every family."""

import pytest

from classicnets.models import create
from classicnets.training import Config, Execution, Recipe
from classicnets.training.benchmark import bench, probe, risen

pytestmark = pytest.mark.usefixtures("without_expensive_passes")
TINY = {"num_classes": 10, "width": 1 / 16}


@pytest.mark.parametrize(
    ("name", "fields", "size", "cases"),
    [
        ("alexnet", {**TINY, "stem": "small", "head": "pooled"}, 16, ["lax", "auto", "auto, 4 steps fused"]),
        ("vgg11", {**TINY, "stem": "small", "head": "pooled"}, 16, ["lax", "auto", "auto, 4 steps fused"]),
        (
            "cifar_wide_resnet",
            {"depth": 10, "width": 0.25, "num_classes": 10, "dropout": 0.3},
            8,
            ["lax, unrolled", "auto, unrolled", "auto, scanned", "auto, scanned, 4 steps fused"],
        ),
    ],
)
def test_bench_times_each_form(name, fields, size, cases):
    rows = bench(create(name, **fields), batch_size=2, image_size=size, repeats=3)
    assert [row["case"] for row in rows] == cases
    for row in rows:
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["max_ms"]
        assert row["n"] == 3
        assert row["compile_seconds"] > 0
        assert row["device"]


def test_a_probe_costs_what_its_steps_and_evaluations_do():
    config = Config(recipe=Recipe(epochs=3))
    cost = probe(create("cifar_resnet", depth=8, width=0.25, num_classes=10), config)
    assert cost.steps_per_epoch == 11
    assert 0 < cost.step < cost.start
    expected = 33 * cost.step + 2 * cost.evaluation
    assert cost.of(config, Execution(evaluate_every=2)) == pytest.approx(expected)


def test_memory_is_of_what_raised_the_peak_alone():
    """A device tells the peak of the whole process: of what came after something larger nothing is known."""
    assert risen({"peak_bytes_in_use": 100, "bytes_in_use": 30}, {"peak_bytes_in_use": 500, "bytes_in_use": 60}) == 470
    assert risen({"peak_bytes_in_use": 500, "bytes_in_use": 30}, {"peak_bytes_in_use": 500, "bytes_in_use": 60}) is None
    assert risen({}, {}) is None
