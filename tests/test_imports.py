"""Dependencies point one way, and what will rot is named in one file each."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "classicnets").rglob("*.py"))
ALLOWED = {
    "__init__": {"models", "cli", "training"},
    "__main__": {"cli"},
    "system": set(),
    "data": {"system"},
    "models": {"system"},
    "complexity": {"models", "system"},
    "weights": {"models", "system"},
    "runs": {"system"},
    "exports": {"runs", "system"},
    "training": {"runs", "data", "system"},
    "sweeps": {"training", "runs", "data", "exports", "system"},
    "compare": {"training", "runs", "data", "models", "claims", "cli", "system"},
    "claims": {"sweeps", "compare", "report", "training", "runs", "data", "system"},
    "report": {"runs", "compare", "system"},
    "cli": {"models", "weights", "complexity", "data", "runs", "training", "sweeps", "compare", "claims", "report"}
    | {"exports", "system"},
}


def imported(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_directions(path):
    part = path.relative_to(ROOT / "classicnets").parts[0].removesuffix(".py")
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("classicnets.")} - {"__version__"}
    assert ours - {part} <= ALLOWED.get(part, set())
    assert not any(name.split(".")[0] == "experiments" for name in imported(path))


def test_create_is_at_the_top_and_jax_is_not_imported_for_it():
    code = (
        "import sys, classicnets; assert 'jax' not in sys.modules; net = classicnets.create('resnet50', num_classes=9);"
        "from classicnets.models.resnet import ResNet50; assert net == ResNet50(num_classes=9)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("word", "home"),
    [
        ("jax.pmap", "training/programs.py"),
        ("import orbax", "runs/checkpoints.py"),
        ("import tensorflow_datasets", "data/prepare/tfds.py"),
        ("jax.custom_vjp", "models/"),
        ("from jax._src", "system/settings.py"),
        ("from tensorboardX", "exports/tensorboard.py"),
        ("from mlflow", "exports/mlflow.py"),
    ],
)
def test_what_rots_has_one_home(word, home):
    found = [str(p.relative_to(ROOT / "classicnets")) for p in SOURCES if word in p.read_text()]
    assert found
    assert all(name.startswith(home) for name in found)
