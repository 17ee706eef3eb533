"""Where crops lie: by hand, by their bounds and by counts; what they draw is theirs alone."""

import math

import numpy as np
import pytest
from PIL import Image

from classicnets.data import crops
from classicnets.data.crops import Box


def test_what_is_drawn_is_of_seed_step_and_example_alone():
    first = crops.uniform(1, 2, 3, 5)
    np.testing.assert_array_equal(first, crops.uniform(1, 2, 3, 8)[:5])
    others = [crops.uniform(*key, 5) for key in ((0, 2, 3), (1, 3, 3), (1, 2, 4), (2, 1, 3), (3, 2, 1))]
    assert all((first != other).all() for other in others)
    # A change of Philox, or of how its bits become numbers, changes every run.
    assert first[:2].tolist() == [0.14851378225857015, 0.007648062986675863]


def test_draws_are_uniform():
    draws = np.array([crops.uniform(7, step, example, 4) for step in range(50) for example in range(20)]).ravel()
    assert 0 <= draws.min() < draws.max() < 1
    counts = np.histogram(draws, 10, (0, 1))[0]
    assert abs(counts - 400).max() < 5 * math.sqrt(400)


def test_scaled_sizes_keep_the_aspect():
    assert crops.scaled_size(375, 500, 256) == (256, 341)
    assert crops.scaled_size(500, 375, 256) == (341, 256)
    assert crops.scaled_size(32, 32, 37) == (37, 37)


def test_the_central_box_is_in_the_middle():
    # Of 375 x 500 at 256 x 341, rows 16 to 240 and columns 58 to 282.
    box = crops.central_box(375, 500, 224, 256)
    np.testing.assert_allclose(box, (58 * 500 / 341, 16 * 375 / 256, 282 * 500 / 341, 240 * 375 / 256))


def test_scaled_crops_reach_both_edges():
    low = crops.scaled_box(375, 500, 224, 256, (0.0, 0.0))
    high = crops.scaled_box(375, 500, 224, 256, (0.9999, 0.9999))
    np.testing.assert_allclose(low, (0, 0, 224 * 500 / 341, 224 * 375 / 256))
    np.testing.assert_allclose(high, (117 * 500 / 341, 32 * 375 / 256, 500, 375))


def test_every_short_side_of_a_range_is_drawn():
    sides = set()
    for example in range(2000):
        draws = crops.uniform(0, 0, example, 40)
        box = crops.training_box("scale", 300, 400, 224, (256, 266), draws)
        sides.add(round(224 * 300 / (box.bottom - box.top)))
        assert 0 <= box.left < box.right <= 400 + 1e-9
        assert 0 <= box.top < box.bottom <= 300 + 1e-9
    assert sides == set(range(256, 267))


@pytest.mark.parametrize("size", [(375, 500), (500, 375), (64, 64)])
def test_area_crops_have_the_papers_bounds(size):
    height, width = size
    boxes = [crops.area_box(height, width, crops.uniform(3, 0, i, 40)) for i in range(3000)]
    areas = np.array([(b.right - b.left) * (b.bottom - b.top) for b in boxes]) / (height * width)
    aspects = np.array([(b.right - b.left) / (b.bottom - b.top) for b in boxes])
    slack = 2 / min(size) * 3
    assert 0.08 * (1 - slack) <= areas.min() < 0.1 and 0.9 < areas.max() <= 1
    assert 3 / 4 * (1 - slack) <= aspects.min() < 0.8 and 1.28 < aspects.max() <= 4 / 3 * (1 + slack)
    assert abs(np.log(aspects).mean()) < 0.06
    assert all(b.left >= 0 and b.top >= 0 and b.right <= width and b.bottom <= height for b in boxes)


def test_an_image_in_which_no_area_fits_gives_its_largest_part():
    assert crops.area_box(10, 1000, np.full(40, 0.999)) == Box(493, 0, 506, 10)
    assert crops.area_box(1000, 10, np.full(40, 0.999)) == Box(0, 493, 10, 506)


def test_resizing_is_pillows_of_the_part():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    np.testing.assert_array_equal(crops.resized(image, Box(3, 5, 13, 25), 20, 10), image[5:25, 3:13])
    part = Image.fromarray(image[5:25, 3:43]).resize((16, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(crops.resized(image, Box(3, 5, 43, 25), 8, 16), np.asarray(part))
    whole = Image.fromarray(image).resize((9, 9), Image.Resampling.BILINEAR, box=(0.5, 1.5, 30.5, 31.5))
    np.testing.assert_array_equal(crops.resized(image, Box(0.5, 1.5, 30.5, 31.5), 9, 9), np.asarray(whole))
    grey = image[..., :1]
    np.testing.assert_array_equal(
        crops.resized(grey, Box(0.5, 1.5, 30.5, 31.5), 9, 9),
        np.asarray(Image.fromarray(grey[..., 0]).resize((9, 9), Image.Resampling.BILINEAR, box=(0.5, 1.5, 30.5, 31.5)))[
            ..., None
        ],
    )
