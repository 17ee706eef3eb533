"""What images go through, pixel by pixel as each source has it, and what cannot be taken for it."""

import json

import numpy as np
import pytest
from PIL import Image

from classicnets.weights.preprocessing import Preprocessing, central, unsmoothed
from classicnets.weights.sources import SOURCES

PHOTO = np.random.default_rng(0).integers(0, 256, (61, 97, 3)).astype("u1")
RESAMPLING = Image.Resampling


def resized(image, width, height, how=RESAMPLING.BILINEAR):
    return np.asarray(Image.fromarray(image).resize((width, height), how), np.float64)


def imagenet(x):
    return (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]


def of_vgg(x, mean=(103.939, 116.779, 123.68)):
    return x[..., ::-1] - np.array(mean)


def by_loops(image, height, width):
    """TensorFlow 1's resize_bilinear, align_corners=False: y * h / height, between the pixels above and below."""
    h, w, _ = image.shape
    out = np.zeros((height, width, 3))
    for y in range(height):
        for x in range(width):
            at, to = y * h / height, x * w / width
            top, left = int(at), int(to)
            below, right = min(top + 1, h - 1), min(left + 1, w - 1)
            dy, dx = at - top, to - left
            upper = image[top, left] * (1 - dx) + image[top, right] * dx
            lower = image[below, left] * (1 - dx) + image[below, right] * dx
            out[y, x] = upper * (1 - dy) + lower * dy
    return out


# (source, network) -> what its images are, written out: 61x97 pixels, so that each rounding counts.
EXPECTED = {
    # torchvision.transforms: Resize(256) -> 256x407, CenterCrop(224) -> top round(32 / 2), left round(183 / 2).
    ("torchvision", "resnet18"): lambda: imagenet(resized(PHOTO, 407, 256)[16:240, 92:316]),
    ("torchvision", "inception_v3"): lambda: resized(PHOTO, 543, 342)[22:321, 122:421] / 127.5 - 1,
    # timm 1.0's default_cfg of a1_in1k: crop_pct 0.95, int(224 / 0.95) = 235; resnetv2's moments are 0.5.
    ("timm", "resnet18"): lambda: imagenet(resized(PHOTO, 373, 235, RESAMPLING.BICUBIC)[6:230, 74:298]),
    ("timm", "resnet50_v2"): lambda: resized(PHOTO, 373, 235, RESAMPLING.BICUBIC)[6:230, 74:298] / 127.5 - 1,
    ("timm", "wide_resnet50_2"): lambda: imagenet(resized(PHOTO, 407, 256, RESAMPLING.BICUBIC)[16:240, 92:316]),
    ("timm", "vgg16"): lambda: imagenet(resized(PHOTO, 407, 256)[16:240, 92:316]),
    # load_img(target_size=(224, 224)), the nearest pixel; preprocess_input "caffe" and "tf".
    ("keras", "vgg16"): lambda: of_vgg(resized(PHOTO, 224, 224, RESAMPLING.NEAREST)),
    ("keras", "resnet50"): lambda: of_vgg(resized(PHOTO, 224, 224, RESAMPLING.NEAREST)),
    ("keras", "resnet50_v2_slim"): lambda: resized(PHOTO, 224, 224, RESAMPLING.NEAREST) / 127.5 - 1,
    ("keras", "inception_v3"): lambda: resized(PHOTO, 299, 299, RESAMPLING.NEAREST) / 127.5 - 1,
    # central_crop 0.875: int(61 * 0.125 / 2) = 3 rows, int(97 * 0.125 / 2) = 6 columns go on each side.
    ("slim", "inception_v3"): lambda: by_loops(PHOTO[3:58, 6:91].astype(float), 299, 299) / 127.5 - 1,
    ("slim", "resnet50_v2_slim"): lambda: by_loops(PHOTO[3:58, 6:91].astype(float), 299, 299) / 127.5 - 1,
    # Shorter side 256: 97 * 256 / 61 = 407.08.
    ("slim", "vgg16"): lambda: (
        by_loops(PHOTO.astype(float), 256, 407)[16:240, 92:316] - np.array([123.68, 116.779, 103.939])
    ),
    # crop_img to 61x61 from column (97 - 61) / 2, then 224.
    ("tensorflow-vgg", "vgg16"): lambda: of_vgg(resized(PHOTO[:, 18:79], 224, 224)),
    ("caffe", "vgg16"): lambda: of_vgg(resized(PHOTO, 407, 256)[16:240, 92:316]),
    ("caffe", "alexnet"): lambda: of_vgg(resized(PHOTO, 256, 256)[14:241, 14:241], (104, 117, 123)),
    ("caffe", "inception_v1"): lambda: of_vgg(resized(PHOTO, 256, 256)[16:240, 16:240], (104, 117, 123)),
    ("akamaster", "cifar_resnet"): lambda: imagenet(resized(PHOTO[:, 18:79], 32, 32)),
}


@pytest.mark.parametrize(("source", "name"), EXPECTED)
def test_an_image_is_what_the_source_makes_of_it(source, name):
    before = SOURCES[source].preprocessing(name, "")
    expected = EXPECTED[source, name]()
    (found,) = before([PHOTO])
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=2e-5 * scale)


def test_weights_that_were_trained_for_232_pixels_are_known():
    assert SOURCES["torchvision"].preprocessing("resnet50_v1_5", "11ad3fa6" + "0" * 56).resize == 232
    assert SOURCES["torchvision"].preprocessing("resnet50_v1_5", "0676ba61" + "0" * 56).resize == 256


CFG = {"input_size": [3, 288, 288], "crop_pct": 1.0, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.25] * 3}


def test_timms_configuration_beside_the_file_counts(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet50", "pretrained_cfg": CFG}))
    before = SOURCES["timm"].preprocessing("resnet50_v1_5", "", tmp_path)
    assert (before.side, before.resize, before.interpolation) == (288, 288, "bilinear")
    assert (before.mean, before.deviation) == ((0.5,) * 3, (0.25,) * 3)
    assert SOURCES["torchvision"].preprocessing("resnet18", "", tmp_path).side == 224
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "other"}))
    assert SOURCES["timm"].preprocessing("resnet50_v1_5", "", tmp_path).resize == 235
    for change in ({"crop_mode": "squash"}, {"interpolation": "random"}, {"input_size": [1, 8, 8]}, {"crop_pct": 0}):
        (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": CFG | change}))
        with pytest.raises(ValueError, match=r"config\.json does not say what images go through"):
            SOURCES["timm"].preprocessing("resnet50_v1_5", "", tmp_path)


@pytest.mark.parametrize("source", ["lasagne", "caffe"])
def test_the_mean_of_each_pixel_is_asked_for(source):
    before = SOURCES[source].preprocessing("cifar_resnet", "")
    with pytest.raises(ValueError, match="take off each pixel's mean"):
        before([np.zeros((32, 32, 3), "u1")])


@pytest.mark.parametrize(("height", "width"), [(7, 200), (61, 97), (130, 5)])
def test_tensorflows_resize_by_loops(height, width):
    np.testing.assert_allclose(
        unsmoothed(PHOTO, height, width), by_loops(PHOTO.astype(float), height, width), atol=2e-3
    )


def test_a_centre_rounds_to_even_and_is_filled_up_with_black():
    image = np.arange(5 * 6 * 3, dtype="u1").reshape(5, 6, 3)
    np.testing.assert_array_equal(central(image, 2, 3), image[2:4, 2:5])
    found = central(image, 8, 6)
    assert found.shape == (8, 6, 3)
    np.testing.assert_array_equal(found[1:6], image)
    assert not found[[0, 6, 7]].any()


@pytest.mark.parametrize("how", ["crop", "squash", "fraction", "square", "whole"])
@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 8, 8, 3), "f"),  # in [0, 1] they would be black
        np.zeros((2, 8, 8, 1), "u1"),
        np.zeros((2, 3, 8, 8), "u1"),
        [np.zeros((8, 8), "u1")],
    ],
)
def test_other_images_than_colours_of_8_bits_are_refused(how, images):
    with pytest.raises(ValueError, match="an image must be uint8, height x width x 3, got"):
        Preprocessing(8, how, 10)(images)
