"""Networks as the commands describe them."""

import pytest
from helpers.answers import json_of, text_of

from classicnets.cli import networks


def test_describe_and_models_as_json(capsys):
    found = json_of(capsys, "describe", "cifar_resnet", "--depth", "20", "--shortcut", "none")
    assert found["parameters"] == sum(layer["parameters"] for layer in found["layers"]) == 269_722
    assert found["macs"] == sum(layer["macs"] for layer in found["layers"]) == 40_551_040
    rows = {row["name"]: row for row in json_of(capsys, "models", "--filter", "cifar_resnet")}
    assert rows["cifar_resnet"]["parameters"] == 269_722
    # VGG-16's pool5 sees 212 pixels; fc6, over 7x7 of its positions 32 pixels apart, 192 more
    vgg = json_of(capsys, "describe", "vgg16")
    fields = {layer["name"]: layer["receptive_field"] for layer in vgg["layers"]}
    assert (fields["pool5"], fields["fc6/dense"], fields["fc8/dense"]) == (212, 404, 404)
    assert [(row["printed"], row["verdict"]) for row in vgg["printed"]] == [("138 M", "rounded"), ("15.3 G", "differs")]
    text = text_of(capsys, "describe", "resnet50")
    assert "note: a network with strides in a stage's first 1x1" in text
    assert "He et al. 2016 (CVPR), Table 1  the network  multiply-adds    3.8 G  3,857,973,248  cut" in text
    assert "printed in" not in text_of(capsys, "describe", "cifar_resnet", "--width", 2)


def test_describe_tells_the_memory_of_a_training_step(capsys):
    tiny = ("describe", "cifar_resnet", "--depth", "8", "--width", "0.25", "--image-size", "8")
    assert json_of(capsys, *tiny)["training"] is None
    few, many = (json_of(capsys, *tiny, "--batch", batch)["training"] for batch in (8, 64))
    state = 2 * 4 * json_of(capsys, *tiny)["parameters"]  # parameters and momentum
    maps = json_of(capsys, *tiny)["activation_bytes"]
    assert few["array_bytes"] > state
    assert 0.2 * 56 * maps < many["array_bytes"] - few["array_bytes"] < 5 * 56 * maps
    assert many["process_bytes"] > many["array_bytes"] + 50 * 2**20  # Python and jax beside it
    assert "a training step on 8 images: " in text_of(capsys, *tiny, "--batch", 8)


def test_describe_refuses_a_batch_of_none():
    with pytest.raises(ValueError, match=r"batch must be in \[1, 2\*\*20\), got 0"):
        networks.describe(["cifar_resnet", "--batch", "0"])
