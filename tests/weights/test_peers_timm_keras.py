"""Logits equal timm's and Keras's on weights and images drawn anew, and their arrays come back (make test-peers)."""

import os

import jax
import numpy as np
import pytest
from golden.recipe import SPREAD, images
from PIL import Image

import classicnets as cn
from classicnets.weights import convert, files
from classicnets.weights.sources import recognise

os.environ["KERAS_BACKEND"] = "torch"
torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
keras = pytest.importorskip("keras")
pytestmark = pytest.mark.peer

TIMM = {
    **{f"vgg{depth}{norm}": f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")},
    **{f"resnet{depth}": f"resnet{depth}" for depth in (18, 34)},
    **{f"resnet{depth}": f"resnet{depth}_v1_5" for depth in (50, 101, 152)},
    **{f"resnetv2_{depth}": f"resnet{depth}_v2" for depth in (50, 101, 152)},
    **{name: name for name in ("inception_v3", "wide_resnet50_2", "wide_resnet101_2")},
}
KERAS = {
    **{f"VGG{depth}": f"vgg{depth}" for depth in (16, 19)},
    **{f"ResNet{depth}": f"resnet{depth}" for depth in (50, 101, 152)},
    **{f"ResNet{depth}V2": f"resnet{depth}_v2_slim" for depth in (50, 101, 152)},
    "InceptionV3": "inception_v3",
}


def drawn(rng, shape, kind):
    """kind: "scale", as variances are, "kernel" of [..., fan in, fan out], or anything else, about zero."""
    if kind == "scale":
        return rng.uniform(0.5, 1.5, shape).astype("f")
    deviation = (2 / np.prod(shape[:-1])) ** 0.5 if kind == "kernel" else 0.1
    return rng.normal(0, deviation, shape).astype("f")


def same(a, b):
    assert list(a) == list(b)
    assert all(a[key].dtype == b[key].dtype and a[key].tobytes() == b[key].tobytes() for key in a)


def close(name, fields, variables, x, expected):
    model = cn.create(name, **fields)
    found = np.asarray(jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, x))
    assert np.abs(expected[0] - expected[1]).max() > SPREAD * np.abs(expected).max()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", TIMM)
def test_timm(name):
    rng, network = np.random.default_rng(3), timm.create_model(name, num_classes=21).eval()
    for key, value in network.state_dict().items():
        scale = key.endswith("running_var") or ("weight" in key and value.ndim == 1)
        if not key.endswith("num_batches_tracked"):
            shape = tuple(value.shape)
            turned = drawn(rng, (*shape[1:], shape[0]), "kernel") if value.ndim > 1 else None
            array = drawn(rng, shape, "scale" if scale else "") if turned is None else np.moveaxis(turned, -1, 0)
            value.copy_(torch.from_numpy(np.ascontiguousarray(array)))
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    found = recognise(state, "", "timm", TIMM[name])
    assert (found.name, found.fields["num_classes"]) == (TIMM[name], 21)
    config = timm.data.resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    photo = np.random.default_rng(5).integers(0, 256, (61, 97, 3)).astype("u1")
    seen = timm.data.create_transform(**config)(Image.fromarray(photo)).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found.source.preprocessing(found.name)([photo])[0], seen, atol=1e-6)
    x = images(299 if name == "inception_v3" else 224)
    with torch.no_grad():
        expected = network(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    close(found.name, found.fields, found.imported.variables, x, expected)
    variables, extras, keys = found.imported
    same(state, convert.arrays(found.source, found.name, variables, extras, keys, **found.fields))


def test_group_norm_is_refused():
    state = {key: value.numpy() for key, value in timm.create_model("resnetv2_50x1_bit").state_dict().items()}
    with pytest.raises(ValueError, match="group norm and standardised weights"):
        recognise(state, "")


@pytest.mark.parametrize("name", KERAS)
@pytest.mark.filterwarnings("ignore")
def test_keras(name, tmp_path):
    rng, side = np.random.default_rng(4), 299 if name == "InceptionV3" else 224
    # A second one in a program goes on counting its layers.
    for _ in range(2 if name == "InceptionV3" else 1):
        network = getattr(keras.applications, name)(weights=None, classes=17, classifier_activation=None)
    for weight in network.weights:
        kind = {"gamma": "scale", "moving_variance": "scale", "kernel": "kernel"}.get(weight.name, "")
        weight.assign(drawn(rng, tuple(weight.shape), kind))
    x = images(side)
    expected = np.asarray(network.predict(x, verbose=0))
    for suffix in (".h5", ".weights.h5", ".keras"):
        path = tmp_path / f"net{suffix}"
        (network.save_weights if suffix == ".weights.h5" else network.save)(path)
        net = cn.load_weights(path)
        assert (net.weights.name, net.weights.source) == (KERAS[name], "keras")
        same(files.read(path), net.weights.arrays())
        path.unlink()
    close(net.weights.name, net.weights.fields, net.variables, x, expected)
    photo = np.random.default_rng(5).integers(0, 256, (61, 97, 3)).astype("u1")
    Image.fromarray(photo).save(tmp_path / "photo.png")
    loaded = keras.utils.img_to_array(keras.utils.load_img(tmp_path / "photo.png", target_size=(side, side)))
    module = {"V": "vgg16", "I": "inception_v3"}.get(name[0], "resnet_v2" if name.endswith("V2") else "resnet")
    seen = getattr(keras.applications, module).preprocess_input(loaded[None], data_format="channels_last")[0]
    np.testing.assert_allclose(net.inputs([photo])[0], seen, atol=1e-6 * np.abs(seen).max())
