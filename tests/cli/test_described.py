"""Networks as the commands describe them."""

from helpers.answers import json_of, text_of


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
