"""Ten crops and dense evaluation, against the same views made by hand; each example counts once."""

import json

import jax
import numpy as np
import pytest
from helpers.answers import json_of, refusal_of
from helpers.images import class_folders
from PIL import Image

from classicnets.data import DataConfig
from classicnets.data.prepare import prepare
from classicnets.models import create
from classicnets.training import Config, Execution, Recipe, Trained, train
from classicnets.training.views import _score, evaluate_views, views_of

IMAGE = np.random.default_rng(0).integers(0, 256, (30, 45, 3), np.uint8)
HOW = Execution(devices=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A ResNet-8 of 12 x 12 pixels, trained on JPEGs of several sizes."""
    root = tmp_path_factory.mktemp("views")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLASSICNETS_DATA", str(root / "data"))
        class_folders(root / "source", 7, 10)
        prepare("m", root / "source")
        config = Config(DataConfig("m", image_size=12), Recipe(epochs=3, batch_size=8, learning_rate=0.02))
        model = create("cifar_resnet", depth=8, width=0.25, num_classes=7)
        run = train(model, config, runs=root / "runs", experiment="e", name="r", execution=HOW)
        yield Trained.of(run, model, config)


def test_ten_views_are_corners_centre_and_mirror_images():
    views = views_of(IMAGE, 12, 20, "ten")
    whole = np.asarray(Image.fromarray(IMAGE).resize((30, 20), Image.Resampling.BILINEAR))
    assert views.shape == (10, 12, 12, 3)
    expected = [whole[:12, :12], whole[:12, -12:], whole[-12:, :12], whole[-12:, -12:], whole[4:16, 9:21]]
    for i, view in enumerate(expected):
        np.testing.assert_array_equal(views[i], view)
        np.testing.assert_array_equal(views[5 + i], view[:, ::-1])


def test_dense_views_are_the_image_and_its_mirror_image():
    views = views_of(IMAGE, 12, 20, "dense")
    assert views.shape == (2, 20, 30, 3)
    np.testing.assert_array_equal(views[0], views[1][:, ::-1])


def by_hand(trained, how, scales, split):
    """(mean loss, error, top-5 error) of one example after another."""
    trainer = trained.trainer
    start, size = trainer.dataset.span(split)
    losses, wrong, wrong_of_five = [], 0, 0
    apply = jax.jit(lambda x: jax.nn.softmax(trained.model.apply(trained.variables, x, train=False)))
    for i in range(start, start + size):
        views = [views_of(trainer.dataset.images[i], 12, short, how) for short in scales]
        probabilities = [
            np.asarray(apply((of.astype(np.float32) - trainer.problem.mean) / trainer.problem.std)) for of in views
        ]
        mean = np.mean([of.mean(0) for of in probabilities], 0)
        label = trainer.dataset.labels[i]
        losses.append(-np.log(mean[label]))
        wrong += mean.argmax() != label
        wrong_of_five += label not in np.argsort(-mean, kind="stable")[:5]
    return np.mean(losses), 100 * wrong / size, 100 * wrong_of_five / size


@pytest.mark.parametrize(("how", "scales"), [("ten", (14,)), ("ten", (14, 17)), ("dense", (12, 16))])
def test_probabilities_are_averaged_over_views_and_scales(trained, how, scales):
    found = evaluate_views(trained, how, scales, ("test",))
    loss, error, top5 = by_hand(trained, how, scales, "test")
    np.testing.assert_allclose(found["test_loss"], loss, rtol=1e-5)
    assert (found["test_error"], found["test_top5_error"]) == (error, top5)
    assert list(found) == ["test_loss", "test_error", "test_top5_error"]


def test_a_class_that_ties_goes_to_the_first():
    probabilities = np.array([[0.2, 0.4, 0.4], [0.4, 0.4, 0.2], [0.1] * 3])
    assert _score(probabilities, np.array([2, 0, 0]))[1:] == (1, 0)
    many = np.full((1, 8), 1 / 8)
    assert [_score(many, np.array([label]))[1:] for label in (0, 4, 5)] == [(0, 0), (1, 0), (1, 1)]


def test_dense_evaluation_at_the_papers_size_is_the_network_itself(tmp_path, monkeypatch):
    """A VGG whose dense head has become convolutional: one position, where images have the side it was made for."""
    monkeypatch.setenv("CLASSICNETS_DATA", str(tmp_path / "data"))
    class_folders(tmp_path / "source", 2, 8, size=(224, 224))
    prepare("squares", tmp_path / "source")
    model = create("vgg11", width=1 / 64, num_classes=2)
    config = Config(DataConfig("squares", augment=False, validation_size=0), Recipe(epochs=1, batch_size=4))
    run = train(model, config, runs=tmp_path / "runs", experiment="e", name="r", execution=HOW)
    trained = Trained.of(run, model, config)
    dataset = trained.trainer.dataset
    start, size = dataset.span("train")
    whole = dataset.shown(start + np.arange(size))
    softmax = [np.asarray(jax.nn.softmax(trained.logits(x))) for x in (whole, whole[:, :, ::-1])]
    expected = np.mean(softmax, 0)[np.arange(size), dataset.labels[start : start + size]]
    found = evaluate_views(trained, "dense", (224,), ("train",))
    np.testing.assert_allclose(found["train_loss"], -np.log(expected).mean(), rtol=1e-4)
    assert np.isfinite(evaluate_views(trained, "dense", (256,), ("train",))["train_loss"])


def test_refusals(trained, monkeypatch):
    with pytest.raises(ValueError, match=r"scales must be at least 12, the side of the network's images, got \(11,\)"):
        evaluate_views(trained, "ten", (11,))
    with pytest.raises(ValueError, match=r"view must be ten for CifarResNet, whose head 'dense' has no fully"):
        evaluate_views(Trained(trained.run, trained.model.clone(head="dense"), trained.config, 1), "dense")


def test_the_command_gives_both_views(trained, capsys, monkeypatch):
    monkeypatch.setenv("CLASSICNETS_DATA", str(trained.run.path.parents[2] / "data"))
    words = ("eval", trained.run.path)
    centre = json_of(capsys, *words)
    assert centre["test_error"] == trained.run.status["test_error"]
    ten = json_of(capsys, *words, "--view", "ten", "--scales", "14", "17")
    expected = evaluate_views(trained, "ten", (14, 17))
    assert {key: ten[key] for key in expected} == expected
    assert ten["view"] == "ten"
    sentence = refusal_of(capsys, *words, "--scales", "14")
    assert "scales must be empty for view centre" in sentence


@pytest.mark.process
def test_two_processes_share_the_examples(trained, monkeypatch):
    from training.test_processes import finished, free_address, start

    data = {"CLASSICNETS_DATA": str(trained.run.path.parents[2] / "data")}
    words = ["eval", trained.run.path, "--view", "ten", "--json", "--coordinator", free_address(), "--processes", 2]
    several = [start(*words, "--process", i, **data) for i in (0, 1)]
    outputs = [finished(process) for process in several]
    together = json.loads(outputs[0].splitlines()[-1])
    alone = evaluate_views(trained, "ten")
    assert {key: together[key] for key in alone if "error" in key} == {
        key: alone[key] for key in alone if "error" in key
    }
    np.testing.assert_allclose(together["test_loss"], alone["test_loss"], rtol=1e-5)
