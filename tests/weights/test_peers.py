"""Logits equal torchvision's on weights and images drawn anew, in evaluation and in training mode (make test-peers)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from classicnets.models import ENTRIES, create
from classicnets.weights import convert
from classicnets.weights.files import read
from classicnets.weights.tables.torchvision import SOURCE

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
pytestmark = pytest.mark.peer

NAMES = {name: entry.torchvision for name, entry in ENTRIES.items() if entry.torchvision}
# Image sizes that each network takes in training; VGG's dense head averages and repeats pool5's map to 7x7.
SIZES = {"alexnet_owt": 95, "inception_v1_bn": 96, "inception_v3": 299}
FIELDS = {name: {"adaptive_pool": True} for name in NAMES if name.startswith("vgg")}


def drawn(name, seed):
    """(torchvision's network, images [8, 3, h, w]) in float64, with He-scaled kernels and random norms."""
    torch.manual_seed(seed)
    options = {"init_weights": False, "transform_input": False} if NAMES[name] in ("googlenet", "inception_v3") else {}
    network = getattr(torchvision.models, NAMES[name])(**options).double()
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        if value.ndim > 1:
            value.normal_(0, (2 / value[0].numel()) ** 0.5)
        elif key.endswith(("running_var", "bn.weight")) or ("weight" in key and value.ndim == 1):
            value.uniform_(0.5, 1.5)
        else:
            value.normal_(0, 0.1)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    shape = (8, 3, SIZES.get(name, 64), SIZES.get(name, 64))
    return network, 2 * torch.randn(shape).double() + torch.randn(8, 3, 1, 1).double()


def ours(name, network, images, dtype, train):
    state = {key: value.numpy().astype(dtype) for key, value in network.state_dict().items()}
    fields = {"dropout": 0.0, **({"auxiliary_dropout": 0.0} if name == "inception_v1_bn" else {})}
    if name.startswith(("resnet", "wide")):
        fields = {}
    model = create(name, dtype=dtype, **fields, **FIELDS.get(name, {}))
    shaped = convert.variables(SOURCE, name, state, **FIELDS.get(name, {})).variables
    x = jnp.asarray(images.permute(0, 2, 3, 1).numpy(), dtype)
    call = jax.jit(lambda v, x: model.apply(v, x, train=train, mutable=["batch_stats"] if train else False))
    found = call(shaped, x)
    found = found[0] if train else found
    return found if isinstance(found, tuple) else (found,)


def distance(a, b):
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_mode(name):
    network, images = drawn(name, 1)
    with torch.no_grad():
        theirs = network.float().eval()(images.float()).numpy()
    (logits,) = ours(name, network, images, "float32", train=False)
    assert distance(theirs[0], theirs[1]) > 0.005
    assert distance(logits, theirs) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_training_mode(name):
    network, images = drawn(name, 2)
    with torch.no_grad():
        state = {key: value.clone() for key, value in network.state_dict().items()}
        theirs = network.train()(images)
        network.load_state_dict(state)
    with jax.enable_x64(True):
        found = ours(name, network, images, "float64", train=True)
    # torchvision names the head nearer the output aux2 and gives it first of the two.
    expected = [theirs] if isinstance(theirs, torch.Tensor) else [x for x in theirs if x is not None]
    if name == "inception_v1_bn":
        expected = [theirs.logits, theirs.aux_logits1, theirs.aux_logits2]
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert distance(a, b.numpy()) < 1e-9


def test_torch_files_are_read_without_executing(tmp_path):
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.int64)}
    torch.save(state, tmp_path / "a.pth")
    found = read(tmp_path / "a.pth")
    assert all(np.array_equal(found[name], tensor.numpy()) for name, tensor in state.items())

    class Runs:
        def __reduce__(self):
            return Path.touch, (tmp_path / "tripwire",)

    for zipped in (True, False):
        torch.save({"a": Runs()}, tmp_path / "b.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r"b\.pt was refused"):
            read(tmp_path / "b.pt")
    torch.save([1, 2], tmp_path / "c.pt")
    with pytest.raises(ValueError, match="holds a list, not tensors by name"):
        read(tmp_path / "c.pt")
    assert not (tmp_path / "tripwire").exists()
