"""Where things are: dependencies point one way, what will rot is named in one file, and a name is entered once."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import classicnets
from classicnets.models import ENTRIES

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "classicnets").rglob("*.py"))
PACKAGES = sorted(
    {path.relative_to(ROOT / "classicnets").parts[0] for path in SOURCES if path.parent.name != "classicnets"}
)
ALLOWED = {
    "__init__.py": {"data", "models", "complexity", "training", "sweeps", "compare", "cli", "inference", "system"},
    "__main__.py": {"cli"},
    "system": set(),
    "data": {"system"},
    "models": {"system"},
    "complexity": {"models", "system"},
    "weights": {"models", "system"},
    "runs": {"system"},
    "exports": {"runs", "compare", "system"},
    "training": {"runs", "data", "system"},
    "inference": {"training", "weights", "models", "data", "runs", "system"},
    "sweeps": {"training", "runs", "data", "exports", "system"},
    "compare": {"training", "runs", "data", "models", "system"},
    "report": {"runs", "compare", "system"},
    "claims": {"sweeps", "compare", "report", "complexity", "models", "training", "runs", "data", "system"},
    "cli": {*PACKAGES} - {"claims"},
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def package(path: Path) -> str:
    return path.relative_to(ROOT / "classicnets").parts[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_directions(path):
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("classicnets.")} & {*PACKAGES}
    assert ours - {package(path)} <= ALLOWED[package(path)]
    assert not any(name.split(".")[0] == "experiments" for name in imported(path))


def test_the_root_holds_packages_only():
    assert {path.name for path in (ROOT / "classicnets").glob("*.py*")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize(
    ("word", "home"),
    [
        ("jax.pmap", "training/programs.py"),
        ("import orbax", "runs/checkpoints.py"),
        ("import tensorflow_datasets", "data/prepare/tfds.py"),
        ("import grain", "data/stream.py"),
        ("from array_record", "data/shards.py"),
        ("import simplejpeg", "data/decoding.py"),
        ("jax.custom_vjp", "models/"),
        ("from jax._src", "system/settings.py"),
        ("from tensorboardX", "exports/tensorboard.py"),
        ("from mlflow", "exports/mlflow.py"),
        ("XDG_CACHE_HOME", "system/caches.py"),
        ("difflib", "system/words.py"),
        ("units_{", "models/stacks.py"),
    ],
)
def test_what_rots_has_one_home(word, home):
    files = [str(p.relative_to(ROOT / "classicnets")) for p in SOURCES if word in p.read_text()]
    assert files
    assert all(name.startswith(home) for name in files)


def test_a_name_stands_once_in_the_package():
    """As a key of its family's entries, written or made of a template; peers' names are another table."""
    trees = [ast.parse(path.read_text()) for path in SOURCES if path.name != "peers.py"]
    keys = [key for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys]
    written = [key.value for key in keys if isinstance(key, ast.Constant)]
    assert {name: written.count(name) for name in ENTRIES if written.count(name) > 1} == {}


def signatures(part: str):
    for path in (p for p in SOURCES if package(p) == part):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                arguments = node.args
                several = filter(None, (arguments.vararg, arguments.kwarg))
                yield from (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *several)


@pytest.mark.parametrize("part", PACKAGES)
def test_parameters_are_annotated(part):
    parameters = [one for one in signatures(part) if one.arg not in ("self", "cls", "_")]
    annotated = sum(one.annotation is not None for one in parameters)
    assert annotated >= 0.9 * len(parameters), f"{annotated} of {len(parameters)}"


@pytest.mark.process
def test_jax_is_imported_when_the_first_network_is_made():
    code = (
        "import sys, classicnets; assert 'jax' not in sys.modules; net = classicnets.create('resnet50', num_classes=9);"
        "assert net.num_classes == 9 and 'jax' in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_public_name_has_its_home():
    assert {name: callable(getattr(classicnets, name)) for name in classicnets.HOMES} == dict.fromkeys(
        classicnets.HOMES, True
    )
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = classicnets.nothing


def test_the_readme_shows_the_block_as_it_is():
    shown = (ROOT / "README.md").read_text().split("## The one argument")[1].split("```python\n")[1].split("```")[0]
    source = [line.strip() for line in (ROOT / "classicnets/models/residual.py").read_text().splitlines()]
    assert [line for line in shown.splitlines() if line.partition("  #")[0].strip() not in source] == []
