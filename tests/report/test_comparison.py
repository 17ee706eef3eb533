"""What a comparison says in words: where two runs part, and how far their predictions agree."""

import pytest

from classicnets.report.comparison import _in_depth

NETWORKS = {"at": [33, 33], "disagreement": 12.345}
PARTED = {"identical": False, "after": 11, "step": 22}
FIELD = {"field": "test_error", "values": [16.25, 17.5]}


@pytest.mark.parametrize(
    "parting, sentence",
    [
        ({"identical": True, "step": 33}, "the two are bit-identical, up to step 33"),
        ({"identical": None, "after": 11, "step": None}, "the two do not part in their logs, up to step 11"),
        ({"identical": None, "after": 0, "step": None}, "the two log no step in common"),
        (
            {"identical": None, "after": 11, "step": None, "checkpoint": 5, "again": 9},
            "the two do not part in their logs, up to step 11, and their checkpoints at step 5 are equal; --exact 9 "
            "trains as many steps again to find it",
        ),
        (PARTED, "the two part after step 11 and at or before step 22"),
        (PARTED | FIELD, "the two part after step 11 and at or before step 22 (test_error 16.25 and 17.5)"),
        (PARTED | {"tensor": "stem/kernel"}, "the two part after step 11 and at or before step 22: stem/kernel"),
        (
            PARTED | {"tensor": "stem/kernel", "exact": True} | FIELD,
            "trained again, the two part at step 22: stem/kernel",
        ),
        (
            PARTED | {"after": 22, "tensor": "head/bias"} | FIELD,
            "the two part at or before step 22, which their logs do not show: head/bias (test_error 16.25 and 17.5)",
        ),
    ],
)
def test_where_two_runs_part(parting, sentence):
    assert _in_depth({"parting": parting, **NETWORKS})[0] == sentence


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({}, "their predictions disagree on 12.35 % of the test images"),
        ({"at": [33, 22]}, "their predictions, at steps 33 and 22, disagree on 12.35 % of the test images"),
        ({"at": None}, "predictions are not compared: one of the two holds no good checkpoint"),
        ({"disagreement": None}, "predictions are not compared: the test images are not the same"),
        ({"not_built": "mine:Mlp is gone"}, "tensors and predictions are not compared: mine:Mlp is gone"),
    ],
)
def test_what_is_said_of_the_networks(changes, sentence):
    assert _in_depth({"parting": {"identical": True, "step": 33}, **NETWORKS, **changes})[1:] == [sentence]
    assert _in_depth(NETWORKS) == []
