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


# What of a network is fixed by where its weights come from, and what a source's keys look like: the network, those
# fields, and some keys, as the libraries' own files have them.
RECOGNISED = [
    ("torchvision", "alexnet_owt", {}, "features.10.bias classifier.6.weight"),
    ("torchvision", "vgg11", {}, "features.18.weight classifier.0.bias"),
    ("torchvision", "vgg13_bn", {}, "features.32.running_var classifier.3.weight"),
    ("torchvision", "vgg16", {}, "features.28.weight"),
    ("torchvision", "vgg19_bn", {}, "features.49.weight features.50.running_mean"),
    ("torchvision", "inception_v1_bn", {"auxiliary": True}, "inception4e.branch3.1.bn.weight aux2.fc1.weight"),
    ("torchvision", "inception_v1_bn", {"auxiliary": False}, "conv2.conv.weight"),
    ("torchvision", "inception_v3", {"auxiliary": False}, "Mixed_6c.branch7x7dbl_4.conv.weight"),
    ("torchvision", "resnet34", {}, "layer3.5.bn2.running_mean layer4.0.downsample.1.bias"),
    ("torchvision", "resnet50_v1_5", {}, "layer1.0.conv3.weight"),
    ("torchvision", "wide_resnet50_2", {}, "layer1.0.conv3.weight"),
    ("timm", "vgg16_bn", {}, "features.41.running_var pre_logits.fc1.weight head.fc.bias"),
    ("timm", "resnet50_v2", {}, "stem.conv.weight stages.2.blocks.5.norm3.running_var norm.bias head.fc.weight"),
    ("timm", "inception_v3", {"auxiliary": False}, "Conv2d_1a_3x3.bn.weight"),
    ("keras", "vgg19", {}, "block5_conv4/kernel fc1/kernel predictions/bias"),
    (
        "keras",
        "resnet50",
        {"biases": "all"},
        "conv1_conv/bias conv4_block6_3_bn/moving_variance conv2_block1_0_bn/beta",
    ),
    (
        "keras",
        "resnet50_v2_slim",
        {"pool_padding": "zeros"},
        "conv2_block1_preact_bn/gamma conv2_block1_0_conv/bias post_bn/beta",
    ),
    (
        "keras",
        "inception_v3",
        {"use_scale": False, "count_padding": False, "auxiliary": False, "dropout": 0.0},
        "conv2d/kernel conv2d_93/kernel batch_normalization_93/moving_mean",
    ),
    ("slim", "alexnet_slim", {}, "alexnet_v2/fc6/weights alexnet_v2/conv2/biases"),
    ("slim", "vgg11", {}, "vgg_a/conv3/conv3_2/weights"),
    ("slim", "vgg16", {}, "vgg_16/conv5/conv5_3/weights vgg_16/fc8/biases"),
    (
        "slim",
        "inception_v1_bn",
        {"padding": "same", "max_pool": "same", "auxiliary": False, "dropout": 0.2, "use_scale": False},
        (
            "InceptionV1/Mixed_3b/Branch_2/Conv2d_0b_3x3/weights "
            "InceptionV1/Mixed_5b/Branch_2/Conv2d_0a_3x3/weights "
            "InceptionV1/Mixed_4f/Branch_3/Conv2d_0b_1x1/BatchNorm/beta "
            "InceptionV1/Logits/Conv2d_0c_1x1/biases"
        ),
    ),
    (
        "slim",
        "resnet50_v1_slim",
        {},
        "resnet_v1_50/block1/unit_1/bottleneck_v1/shortcut/BatchNorm/gamma resnet_v1_50/logits/weights",
    ),
    (
        "slim",
        "resnet50_v2_slim",
        {},
        "resnet_v2_50/block4/unit_3/bottleneck_v2/preact/gamma resnet_v2_50/postnorm/beta",
    ),
    ("tensorflow-vgg", "vgg19", {}, "conv5_4/0 fc6/0 fc8/1"),
    ("caffe", "vgg16", {}, "conv5_3.0 fc8.1"),
]


def drawn(source, name, known):
    """The source's arrays of a narrow network, drawn at random."""
    known = {**known, "width": 1 / 16, "num_classes": 7}
    model, arrays, rng = create(name, **known), {}, np.random.default_rng(0)
    for path, shape in convert.shapes_of(name, known).items():
        for unit in stacks.units(path):
            place, size = SOURCES[source].place(unit, model, ()), shape.shape[1:] if unit != path else shape.shape
            arrays[place.key] = np.ascontiguousarray(place.theirs(rng.uniform(0.5, 1.5, size).astype("f")))
    return arrays


@pytest.mark.parametrize(("source", "name", "known", "keys"), RECOGNISED, ids=lambda value: str(value)[:20])
def test_a_network_is_recognised_by_its_names(source, name, known, keys):
    arrays = drawn(source, name, known)
    assert set(keys.split()) <= arrays.keys()
    found = recognise(arrays, "0" * 64, source, name, width=1 / 16)
    assert (found.name, found.fields) == (name, {**known, "num_classes": 7, "width": 1 / 16})
    variables, extras, kept = found.imported
    assert not extras
    back = convert.arrays(found.source, name, variables, extras, kept, **found.fields)
    assert list(back) == list(arrays)
    assert all(back[key].tobytes() == array.tobytes() for key, array in arrays.items())
    # Without one array, or with one more, nothing is made of it.
    for wrong in ({key: arrays[key] for key in list(arrays)[1:]}, {**arrays, "more": np.ones(2, "f")}):
        with pytest.raises(ValueError, match=r"are not .*'s weights of|are those of no network"):
            recognise(wrong, "0" * 64, source, name, width=1 / 16)


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
    less = {key: array for key, array in arrays.items() if key != "bn1.bias"}
    with pytest.raises(ValueError, match="are those of no network of torchvision that is read here"):
        recognise(less, "0" * 64, "torchvision", width=0.05)  # neither's, and which was meant is not known
    with pytest.raises(ValueError, match=r"not torchvision's weights of resnet50: missing 'bn1\.bias'$"):
        recognise(less, "0" * 64, "torchvision", "resnet50", width=0.05)
    for name in ("resnet50", "resnet50_v1_5"):
        assert recognise(arrays, "0" * 64, "torchvision", name, width=0.05).name == name
