"""Checkpoints of NUMERICS 2, made at commit c4d0bf8, are read under the layers' names of today."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from classicnets.cli.recorded import Rebuilt
from classicnets.models import create
from classicnets.runs.renamed import renamed
from classicnets.training import Trained, evaluate

# Depths 8 and 14, width 1/8, option C: units alone and in stacks, with projections. logits.npy: what the code of then
# gave for the images below.
OLD = sorted((Path(__file__).parents[1] / "records" / "numerics_2").iterdir())


@pytest.fixture(params=OLD, ids=[path.name.split("-")[1] for path in OLD])
def rebuilt(request, tmp_path):
    shutil.copytree(request.param, tmp_path / "default" / request.param.name)
    return Rebuilt(tmp_path, request.param.name)


def test_its_logits_and_its_evaluation_are_what_they_were(rebuilt):
    model, config = create(rebuilt.name, **rebuilt.fields), rebuilt.config
    variables = Trained.of(rebuilt.run, model, config).variables
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("f")
    logits = model.apply(variables, images, train=False)
    np.testing.assert_allclose(logits, np.load(rebuilt.run.path / "logits.npy"), rtol=1e-5, atol=1e-6)
    found = evaluate(rebuilt.run, model, config)
    last = json.loads((rebuilt.run.path / "metrics.jsonl").read_text().splitlines()[-1])
    for split in ("train", "validation", "test"):
        assert found[f"{split}_error"] == pytest.approx(last[f"{split}_error"])
        assert found[f"{split}_loss"] == pytest.approx(last[f"{split}_loss"], rel=1e-5)


def test_other_trees_are_left_alone():
    arrays = {"stem": {"kernel": np.zeros(3)}, "head": {"kernel": np.ones(2)}}
    assert renamed(arrays, arrays) is arrays
    assert renamed(arrays, {"conv1": {"kernel": np.zeros(3)}}) is arrays
    assert set(renamed(arrays, {"conv1": {"kernel": np.zeros(3)}, "logits": {"kernel": np.ones(2)}})) == {
        "conv1",
        "logits",
    }
