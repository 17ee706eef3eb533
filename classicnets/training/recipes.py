"""The papers' recipes: every number that a paper states on training, with the place where it stands.

A field that no paper gives a number for, and that training cannot do without, says whose number it is. What a recipe
does not name keeps the default of `Recipe` or `DataConfig`; networks bring their own dropout and initialisation.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from classicnets.system.words import nearest


class Number(NamedTuple):
    """A field's value, and where it stands."""

    value: Any
    place: str


@dataclass(frozen=True)
class Paper:
    """A recipe: {field: Number} of `DataConfig` and of `Recipe`.

    departures: what is done otherwise than in the paper.
    """

    name: str
    source: str
    data: dict[str, Number]
    recipe: dict[str, Number]
    departures: str = ""

    @property
    def numbers(self) -> dict[str, Number]:
        """All fields, those of the data first."""
        return {**self.data, **self.recipe}

    def defaults(self, part: str) -> dict[str, Any]:
        """Return {field: value} of "data" or "recipe"."""
        return {field: number.value for field, number in getattr(self, part).items()}


MEAN = "the mean is each channel's, where the paper takes off that of each pixel, since images have several sizes"
CAFFE = "not stated; Caffe's bvlc_googlenet, quick_solver"
SLIM = "not stated; slim's inception_v3"

PAPERS = {
    paper.name: paper
    for paper in (
        Paper(
            "alexnet2012",
            "Krizhevsky et al. 2012, ImageNet classification with deep convolutional neural networks, NIPS",
            {
                "image_size": Number(224, "section 4.1"),
                "crop": Number("scale", "section 4.1: 224x224 patches"),
                "scales": Number((256,), "section 2: the shorter side is 256"),
                "flip": Number(True, "section 4.1: horizontal reflections"),
                "colour": Number("pca", "section 4.1"),
                "test_side": Number(256, "section 2"),
            },
            {
                "epochs": Number(90, "section 5: roughly 90 cycles"),
                "batch_size": Number(128, "section 5"),
                "optimizer": Number("sgd", "section 5"),
                "learning_rate": Number(0.01, "section 5"),
                "schedule": Number("plateau", "section 5: when the validation error stopped improving"),
                "step_factor": Number(0.1, "section 5: divide by 10"),
                "momentum": Number(0.9, "section 5"),
                "weight_decay": Number(0.0005, "section 5"),
            },
            f"{MEAN}; the rate falls after plateau_epochs without improvement, where the authors did it by hand",
        ),
        Paper(
            "vgg2015",
            "Simonyan & Zisserman 2015, Very deep convolutional networks for large-scale image recognition, ICLR",
            {
                "image_size": Number(224, "section 2.1"),
                "crop": Number("scale", "section 3.1"),
                "scales": Number((256, 512), "section 3.1: S in [256, 512]"),
                "flip": Number(True, "section 3.1"),
                "colour": Number("pca", "section 3.1: random RGB colour shift (Krizhevsky et al. 2012)"),
                "test_side": Number(384, "section 4.1: Q = 0.5 (256 + 512)"),
            },
            {
                "epochs": Number(74, "section 3.1: 370K iterations (74 epochs)"),
                "batch_size": Number(256, "section 3.1"),
                "optimizer": Number("sgd", "section 3.1"),
                "learning_rate": Number(0.01, "section 3.1"),
                "schedule": Number("plateau", "section 3.1: when the validation accuracy stopped improving"),
                "step_factor": Number(0.1, "section 3.1: by a factor of 10"),
                "momentum": Number(0.9, "section 3.1"),
                "weight_decay": Number(0.0005, "section 3.1"),
            },
            "the rate falls after plateau_epochs without improvement, where the paper gives no number; evaluation sees "
            "the central square, `classicnets eval --view dense` the whole image as section 3.2",
        ),
        Paper(
            "googlenet2015",
            "Szegedy et al. 2015, Going deeper with convolutions, CVPR",
            {
                "image_size": Number(224, "section 5"),
                "crop": Number("area", "section 6: 8 % to 100 % of the area, aspect 3/4 to 4/3"),
                "colour": Number("photometric", "section 6: the photometric distortions of Howard 2013"),
                "test_side": Number(256, "section 7: the shorter side is 256 to 352"),
            },
            {
                "epochs": Number(60, CAFFE),
                "batch_size": Number(32, CAFFE),
                "optimizer": Number("sgd", "section 6"),
                "learning_rate": Number(0.01, CAFFE),
                "schedule": Number("exponential", "section 6: a fixed schedule"),
                "decay_every": Number(8, "section 6: every 8 epochs"),
                "step_factor": Number(0.96, "section 6: by 4 %"),
                "momentum": Number(0.9, "section 6"),
                "weight_decay": Number(0.0002, CAFFE),
                "ema_decay": Number(0.9999, "section 6: Polyak averaging; its number is slim's"),
                "auxiliary_weight": Number(0.3, "section 5"),
            },
            "synchronous, where the paper's descent is asynchronous",
        ),
        Paper(
            "inception_v3",
            "Szegedy et al. 2016, Rethinking the Inception architecture for computer vision, CVPR",
            {
                "image_size": Number(299, "section 6, Table 1"),
                "crop": Number("area", "not stated; as Szegedy et al. 2015, section 6"),
                "colour": Number("photometric", "not stated; as Szegedy et al. 2015, section 6"),
            },
            {
                "epochs": Number(100, "section 8"),
                "batch_size": Number(32, "section 8: of each of 50 replicas"),
                "optimizer": Number("rmsprop", "section 8"),
                "learning_rate": Number(0.045, "section 8"),
                "schedule": Number("exponential", "section 8"),
                "decay_every": Number(2, "section 8: every two epochs"),
                "step_factor": Number(0.94, "section 8"),
                "momentum": Number(0.9, "section 8, of the earlier experiments"),
                "rmsprop_decay": Number(0.9, "section 8"),
                "rmsprop_epsilon": Number(1.0, "section 8"),
                "weight_decay": Number(0.00004, SLIM),
                "clip_norm": Number(2.0, "section 8"),
                "ema_decay": Number(0.9999, "section 8: a running average of the parameters; its number is slim's"),
                "label_smoothing": Number(0.1, "section 7"),
                "auxiliary_weight": Number(0.4, SLIM),
            },
            "one batch of 32 a step, where the paper has 50 replicas of 32",
        ),
        Paper(
            "resnet2016",
            "He et al. 2016, Deep residual learning for image recognition, CVPR",
            {
                "image_size": Number(224, "section 3.4"),
                "crop": Number("scale", "section 3.4"),
                "scales": Number((256, 480), "section 3.4"),
                "flip": Number(True, "section 3.4"),
                "colour": Number("pca", "section 3.4: the standard colour augmentation of Krizhevsky et al. 2012"),
                "test_side": Number(256, "section 3.4: standard 10-crop testing of Krizhevsky et al. 2012"),
            },
            {
                "epochs": Number(120, "section 3.4: 60 x 10^4 iterations of 256 images"),
                "batch_size": Number(256, "section 3.4"),
                "optimizer": Number("sgd", "section 3.4"),
                "learning_rate": Number(0.1, "section 3.4"),
                "schedule": Number("plateau", "section 3.4: when the error plateaus"),
                "step_factor": Number(0.1, "section 3.4: divided by 10"),
                "momentum": Number(0.9, "section 3.4"),
                "weight_decay": Number(0.0001, "section 3.4"),
            },
            MEAN,
        ),
        Paper(
            "cifar_resnet2016",
            "He et al. 2016, Deep residual learning for image recognition, CVPR",
            {
                "validation_size": Number(5_000, "section 4.2: a 45k/5k split"),
                "normalise": Number("pixel", "section 4.2: per-pixel mean subtracted"),
                "crop": Number("shift", "section 4.2: 4 pixels are padded on each side"),
                "flip": Number(True, "section 4.2"),
            },
            {
                "steps": Number(64_000, "section 4.2"),
                "batch_size": Number(128, "section 4.2"),
                "optimizer": Number("sgd", "section 4.2"),
                "learning_rate": Number(0.1, "section 4.2"),
                "schedule": Number("step", "section 4.2"),
                "boundaries": Number((32_000, 48_000), "section 4.2: at 32k and 48k iterations"),
                "step_factor": Number(0.1, "section 4.2: divided by 10"),
                "momentum": Number(0.9, "section 4.2"),
                "weight_decay": Number(0.0001, "section 4.2"),
            },
            "110 layers take --warmup-steps 400 beside it (section 4.2)",
        ),
        Paper(
            "preact2016",
            "He et al. 2016, Identity mappings in deep residual networks, ECCV",
            {
                "crop": Number("shift", "appendix: translation"),
                "flip": Number(True, "appendix: flipping"),
            },
            {
                "steps": Number(64_000, "by the reference to He et al. 2016 (CVPR), section 4.2"),
                "batch_size": Number(128, "appendix"),
                "optimizer": Number("sgd", "appendix"),
                "learning_rate": Number(0.1, "appendix"),
                "schedule": Number("step", "appendix"),
                "boundaries": Number((32_000, 48_000), "appendix: at 32k and 48k iterations"),
                "step_factor": Number(0.1, "appendix: divided by 10"),
                "warmup_steps": Number(400, "appendix"),
                "warmup_rate": Number(0.01, "appendix"),
                "momentum": Number(0.9, "appendix"),
                "weight_decay": Number(0.0001, "appendix"),
            },
        ),
        Paper(
            "wrn2016",
            "Zagoruyko & Komodakis 2016, Wide residual networks, BMVC",
            {
                "normalise": Number("channel", "section 3"),
                "crop": Number("shift", "section 3: 4 pixels are padded on each side"),
                "flip": Number(True, "section 3"),
            },
            {
                "epochs": Number(200, "section 3"),
                "batch_size": Number(128, "section 3"),
                "optimizer": Number("sgd", "section 3"),
                "learning_rate": Number(0.1, "section 3"),
                "schedule": Number("step", "section 3"),
                "boundaries": Number((60, 120, 160), "section 3"),
                "step_factor": Number(0.2, "section 3"),
                "momentum": Number(0.9, "section 3"),
                "nesterov": Number(True, "section 3"),
                "weight_decay": Number(0.0005, "section 3"),
            },
            "padding is black after normalisation, where the paper reflects; dropout is the network's: --dropout 0.3",
        ),
    )
}


def paper(name: str) -> Paper:
    """Return a paper's recipe; raise ValueError with the nearest name if there is none of that name."""
    if name not in PAPERS:
        raise ValueError(f"unknown recipe {name!r}{nearest(name, PAPERS)}; `classicnets recipes` lists them")
    return PAPERS[name]
