"""The criterion, and that the committed record follows from its raw numbers."""

import json
from pathlib import Path

import pytest

from classicnets.analysis.verdict import Criterion
from experiments import degradation

RECORDS = Path(degradation.__file__).parent / "records" / "degradation"


@pytest.mark.parametrize(
    ("plain", "residual", "outcome"),
    [
        ([6.0, 40.0], [0.9, -3.0], "reproduced"),
        ([5.0, 40.0], [0.0, 0.0], "undecided"),
        ([50.0, 40.0], [1.0, 0.0], "undecided"),
        ([5.5, 40.0], [0.9, 0.9], "undecided"),
        ([-6.0, -40.0], [-0.9, 3.0], "refuted"),
        ([-5.1, -4.0], [-0.9, 3.0], "undecided"),
    ],
)
def test_every_seed_must_pass_every_bound(plain, residual, outcome):
    assert Criterion().judge(plain, residual) == outcome


def test_unpaired_or_no_seeds_are_refused():
    for plain, residual in (([], []), ([9.0], [0.0, 0.0])):
        with pytest.raises(ValueError, match="as many plain as residual"):
            Criterion().judge(plain, residual)


@pytest.mark.parametrize("name", sorted(path.name for path in RECORDS.glob("*")))
def test_records_are_not_stale(name):
    folder = RECORDS / name
    results = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    judged = degradation.verdict(degradation.PRESETS[name], results)
    stored = json.loads((folder / "verdict.json").read_text())
    assert stored == {**judged, "commit": results[0]["environment"]["commit"]}
    assert (folder / "README.md").read_text() == degradation.table(name, results, judged)
    readme = (folder.parents[3] / "README.md").read_text()
    assert readme.count(f"`{name}`: {judged['outcome']}, n = {judged['n']}") == 1
