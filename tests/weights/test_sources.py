"""Which networks are read from which source: each name leads somewhere, and the README says the same."""

import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from classicnets.cli.weights import SourceName
from classicnets.models import ENTRIES, create, stacks
from classicnets.weights import convert
from classicnets.weights.sources import KNOWN, SOURCES, recognise, sources_of

ROOT = Path(__file__).parents[2]


def test_the_readme_says_from_where_each_network_is_read():
    rows = [
        f"| {source.name} | {', '.join(f'`{name}`' for name in ENTRIES if source.has(name))} |"
        for source in SOURCES.values()
    ]
    assert "| weights from | networks here |\n| --- | --- |\n" + "\n".join(rows) in (ROOT / "README.md").read_text()
    assert sources_of("vgg16") == ["torchvision", "timm", "keras", "slim", "tensorflow-vgg", "caffe"]
    assert sources_of("plain34") == []


@pytest.mark.parametrize("source", [name for name in SOURCES if name not in ("lasagne", "akamaster", "caffe")])
def test_every_leaf_of_every_network_has_a_place_of_its_own(source):
    table = SOURCES[source]
    # Deeper ones differ in how often their units repeat.
    for name in (name for name in ENTRIES if table.has(name) and not re.search("13|19|34|101|152|200", name)):
        headless = name.startswith("inception") and source in ("keras", "slim") and name != "inception_v2_slim"
        fields = {"auxiliary": False} if headless else {}
        paths = [unit for path in convert.shapes_of(name, fields) for unit in stacks.units(path)]
        keys = [table.place(path, create(name, **fields), ()).key for path in paths]
        assert len(set(keys)) == len(keys), name


def test_the_command_line_takes_every_source():
    assert get_args(SourceName) == tuple(SOURCES)


def test_known_files_are_of_one_source():
    digests = [digest for of in KNOWN.values() for digest in of.split()]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 8 and int(digest, 16) >= 0 for digest in digests)
    assert KNOWN.keys() <= SOURCES.keys()


def test_a_known_file_needs_no_words(monkeypatch):
    """Of one that torchvision and timm share the names of, its SHA-256 tells whose it is."""
    model = create("resnet18", num_classes=3)
    arrays = {}
    for path, shape in convert.shapes_of("resnet18", {"num_classes": 3}).items():
        for unit in stacks.units(path):
            place = SOURCES["torchvision"].place(unit, model, ())
            size = shape.shape[1:] if unit != path else shape.shape
            arrays[place.key] = place.theirs(np.ones(size, "f"))
    with pytest.raises(ValueError, match="choose one of --source torchvision --model resnet18; --source timm"):
        recognise(arrays, "0" * 64)
    assert recognise(arrays, "0" * 64, "timm", "resnet18").source.name == "timm"
    assert recognise(arrays, "f37072fd" + "0" * 56).source.name == "torchvision"
    assert recognise(arrays, "0" * 64, "timm").source.name == "timm"


def test_arrays_of_v1_and_v1_5_are_equal_and_must_be_told_apart():
    model, arrays = create("resnet50", num_classes=3, width=0.05), {}
    for path, shape in convert.shapes_of("resnet50", {"num_classes": 3, "width": 0.05}).items():
        for unit in stacks.units(path):
            place = SOURCES["torchvision"].place(unit, model, ())
            size = shape.shape[1:] if unit != path else shape.shape
            arrays[place.key] = place.theirs(np.ones(size, "f"))
    with pytest.raises(ValueError, match=r"torchvision --model resnet50_v1_5; --source torchvision --model resnet50$"):
        recognise(arrays, "0" * 64, "torchvision", width=0.05)
    assert recognise(arrays, "0676ba61" + "0" * 56, width=0.05).name == "resnet50_v1_5"
    for name in ("resnet50", "resnet50_v1_5"):
        assert recognise(arrays, "0" * 64, "torchvision", name, width=0.05).name == name
