"""One computation has one name, however its values are written, and wherever its class lies."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import classicnets
from classicnets.data import DataConfig, load
from classicnets.models import create
from classicnets.models.resnet import CifarResNet
from classicnets.runs.identity import digest
from classicnets.training import Config, Recipe, facts

NET = CifarResNet(depth=8, width=0.25)
# Twice the same computation: fields of network, data and recipe.
ALIKE = {
    "width of 1 and 1.0": [({"width": 1}, {}, {}), ({"width": 1.0}, {}, {})],
    "a NumPy width": [({"width": np.float32(0.5)}, {}, {}), ({"width": 0.5}, {}, {})],
    "dropout of 0 and -0.0": [({"dropout": 0}, {}, {}), ({"dropout": -0.0}, {}, {})],
    "a NumPy number of classes": [({"num_classes": np.int32(9) + 1}, {}, {}), ({}, {}, {})],
    "a NumPy rate": [({}, {}, {"learning_rate": rate}) for rate in (np.float32(0.1), np.float64(0.1), 0.1)],
    "a list and a tuple": [({}, {}, {"schedule": "step", "boundaries": b}) for b in ([3, 4], (3, 4), np.array([3, 4]))],
    "epochs beside steps": [({}, {}, {"steps": 5, "epochs": 7}), ({}, {}, {"steps": 5})],
    "a factor without steps": [({}, {}, {"step_factor": 0.5}), ({}, {}, {})],
    "a rate without warm-up": [({}, {}, {"warmup_rate": 0.5}), ({}, {}, {})],
    "nesterov without momentum": [({}, {}, {"momentum": 0, "nesterov": n}) for n in (True, False)],
    "which weights do not decay": [({}, {}, {"weight_decay": 0, "decay": d}) for d in ("all", "kernels")],
    "a weight of no auxiliary head": [({}, {}, {"auxiliary_weight": 0.4}), ({}, {}, {})],
    "the set's own sizes": [({}, {"train_size": 1408}, {}), ({}, {"validation_size": 129}, {}), ({}, {}, {})],
    "the rest of another validation": [({}, {"validation_size": 0, "train_size": t}, {}) for t in (1537, None)],
    "the set's own crop": [({}, {"crop": "shift"}, {}), ({}, {}, {})],
    "the set's own mirroring": [({}, {"flip": False}, {}), ({}, {}, {})],
    "mirroring without augmentation": [({}, {"augment": False, "flip": f}, {}) for f in (True, None)],
    "a side of test that is the crop's": [({}, {"crop": "area", "test_side": side}, {}) for side in (9, None)],
    "scales of one side": [({}, {"crop": "scale", "scales": s}, {}) for s in ((9, 9), (9,), ())],
    "scales beside a side": [({}, {"crop": "scale", "test_side": 12, "scales": s}, {}) for s in ((12,), ())],
    "what is seen without augmentation": [({}, {"augment": False, "crop": crop}, {}) for crop in ("scale", "area")],
    "the crop's own side": [({}, {"crop": "area", "image_size": side}, {}) for side in (8, None)],
    "the set's own side": [({}, {"image_size": np.int64(8)}, {}), ({}, {}, {})],
}
UNLIKE = {
    "a factor of steps": [({}, {}, {"schedule": "step", "boundaries": (3,), "step_factor": f}) for f in (0.1, 0.5)],
    "a rate of warm-up": [({}, {}, {"warmup_steps": 5, "warmup_rate": rate}) for rate in (0.01, 0.02)],
    "epochs": [({}, {}, {"epochs": epochs}) for epochs in (7, 20)],
    "nesterov": [({}, {}, {"nesterov": n}) for n in (True, False)],
    "which weights decay": [({}, {}, {"decay": d}) for d in ("all", "kernels")],
    "the rest of another validation": [({}, {"validation_size": 0, "train_size": t}, {}) for t in (1408, None)],
    "a crop": [({}, {"crop": crop}, {}) for crop in ("shift", "scale", "area")],
    "mirroring": [({}, {"flip": flip}, {}) for flip in (True, False)],
    "scales": [({}, {"crop": "scale", "scales": s}, {}) for s in ((9,), (9, 12), (12,))],
    "a side of test": [({}, {"crop": "area", "test_side": side}, {}) for side in (8, 9, 10)],
    "a side": [({}, {"image_size": 9}, {}), ({}, {}, {})],
}


def name(fields: dict, data: dict, recipe: dict) -> str:
    model = create("cifar_resnet", depth=8, num_classes=fields.pop("num_classes", 10), **fields)
    return digest(facts(model, Config(DataConfig(**data), Recipe(**recipe))))


@pytest.mark.parametrize("values", ALIKE.values(), ids=ALIKE)
def test_one_computation_has_one_name(values):
    assert len({name(dict(fields), data, recipe) for fields, data, recipe in values}) == 1


@pytest.mark.parametrize("values", UNLIKE.values(), ids=UNLIKE)
def test_what_acts_is_part_of_the_name(values):
    assert len({name(dict(fields), data, recipe) for fields, data, recipe in values}) == len(values)


def test_an_auxiliary_weight_acts_where_there_are_auxiliary_heads():
    net = create("inception_v1", num_classes=10, width=0.1)
    config = Config(DataConfig(image_size=224), Recipe(batch_size=2, steps=1))
    names = {digest(facts(net, replace(config, recipe=replace(config.recipe, auxiliary_weight=w)))) for w in (0.3, 0.4)}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"epochs": 2, "warmup_steps": 22}, "warmup_steps must be less than the 22 steps of the run, got 22"),
        ({"steps": 5, "warmup_steps": 6}, "warmup_steps must be less than the 5 steps of the run, got 6"),
        (
            {"schedule": "step", "boundaries": (3, 20)},
            r"boundaries must be less than the 20 epochs of the run",
        ),
        ({"steps": 9, "schedule": "step", "boundaries": (9,)}, r"boundaries must be less than the 9 steps of the run"),
    ],
)
def test_a_schedule_that_cannot_act_is_refused(recipe, said):
    with pytest.raises(ValueError, match=said):
        facts(NET, Config(recipe=Recipe(**recipe)))


@pytest.mark.parametrize(
    ("network", "fields", "data", "batch", "said"),
    [
        ("cifar_resnet", {"num_classes": 5}, {}, 128, r"must give logits \[n, 10\], one for each class"),
        ("cifar_resnet", {"num_classes": 1000}, {}, 128, r"must give logits \[n, 10\], .*got float32 \[128, 1000\]"),
        ("cifar_resnet", {"num_classes": None}, {}, 128, r"must give logits \[n, 10\], .*got float32 \[128, 64\]"),
        ("resnet18", {"num_classes": 10}, {"image_size": 32}, 1, "sees one value a channel"),
        ("cifar_resnet", {"dtype": "float64"}, {}, 128, "dtype float64 does not train"),
    ],
)
def test_a_network_that_does_not_fit_its_data_is_refused(network, fields, data, batch, said):
    import jax

    with jax.enable_x64("dtype" in fields):
        net = create(network, **fields)
        with pytest.raises(ValueError, match=said):
            facts(net, Config(DataConfig(**data), Recipe(batch_size=batch)))


def test_a_class_that_moves_to_another_file_keeps_its_name(tmp_path):
    package = Path(classicnets.__file__).parent
    shutil.copytree(package, tmp_path / "classicnets", ignore=shutil.ignore_patterns("__pycache__"))
    models = tmp_path / "classicnets" / "models"
    (models / "resnet.py").rename(models / "elsewhere.py")
    for path in (tmp_path / "classicnets").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        text = text.replace("models.resnet import", "models.elsewhere import").replace(
            " resnet, resnet_v2", " resnet_v2"
        )
        text = text.replace("resnet, resnet_v2, vgg)", "elsewhere, resnet_v2, vgg)")
        path.write_text(text.replace("import alexnet,", "import alexnet, elsewhere,"), encoding="utf-8")
    code = "from classicnets.models.elsewhere import CifarResNet as Net; from classicnets.training import *;"
    code += "from classicnets.runs.identity import digest; print(digest(facts(Net(depth=8, width=0.25), Config())))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == digest(facts(NET, Config())), done.stderr


def test_a_class_of_ours_that_somebody_edits_elsewhere_is_not_ours():
    class Edited(CifarResNet):
        """The same fields."""

    Edited.__module__ = "mine"
    copied = Edited(depth=8, width=0.25)
    assert "program_sha256" in facts(copied, Config())["model"]
    assert load(DataConfig()).classes == 10
