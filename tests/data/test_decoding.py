"""An image file has the same pixels whichever reader is installed; what is no image is said to be none."""

import numpy as np
import pytest
from helpers.images import encoded, picture
from PIL import Image

from classicnets.data import decoding

IMAGE = picture(1)
PILLOW = Image.fromarray(IMAGE)
GREY = PILLOW.convert("L")


def alone(data):
    """The pixels by Pillow."""
    return decoding.by_pillow(data)[0]


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [30, 75, 95])
def test_jpeg_by_simplejpeg_is_bit_equal_to_pillow(subsampling, quality):
    rng = np.random.default_rng(quality)
    for size in ((33, 47), (8, 8), (1, 1), (120, 81)):
        noise = rng.integers(0, 256, (*size, 3), np.uint8)
        data = encoded(noise, "JPEG", quality=quality, subsampling=subsampling)
        assert decoding._by_simplejpeg(data) is not None
        np.testing.assert_array_equal(decoding.decode(data), alone(data))


@pytest.mark.parametrize("progressive", [True, False])
def test_grey_jpeg_has_three_equal_channels(progressive):
    data = encoded(GREY, "JPEG", progressive=progressive)
    pixels = decoding.decode(data)
    np.testing.assert_array_equal(pixels, alone(data))
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


def test_cmyk_and_rgb_coded_jpegs_are_pillows():
    for data in (encoded(PILLOW.convert("CMYK"), "JPEG"), encoded(PILLOW, "JPEG", keep_rgb=True)):
        assert decoding._by_simplejpeg(data) is None
        np.testing.assert_array_equal(decoding.decode(data), np.asarray(Image.open(_file(data)).convert("RGB")))


def _file(data):
    import io

    return io.BytesIO(data)


def test_lossless_forms_keep_every_pixel():
    for form, options in (("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})):
        np.testing.assert_array_equal(decoding.decode(encoded(IMAGE, form, **options)), IMAGE)


def test_alpha_is_left_out_and_palettes_are_looked_up():
    clear = PILLOW.copy()
    clear.putalpha(0)
    np.testing.assert_array_equal(decoding.decode(encoded(clear)), IMAGE)
    palette = PILLOW.quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decoding.decode(encoded(palette)), expected)
    np.testing.assert_array_equal(decoding.decode(encoded(palette, "PNG", transparency=bytes(range(16)))), expected)


def test_of_several_frames_the_first_counts():
    frames = [Image.fromarray(np.full((9, 9, 3), value, np.uint8)) for value in (255, 0)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decoding.decode(data) == 255).all()


def test_of_sixteen_bits_the_upper_eight_are_kept():
    deep = np.array([[0, 255, 256, 511], [512, 32767, 32768, 65535]], np.uint16)
    pixels = decoding.decode(encoded(Image.fromarray(deep)))
    np.testing.assert_array_equal(pixels[..., 1], [[0, 0, 1, 1], [2, 127, 128, 255]])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_turned_upright(orientation):
    """What a viewer shows: the eight placements of an image, each undone."""
    stored = {
        1: IMAGE,
        2: IMAGE[:, ::-1],
        3: IMAGE[::-1, ::-1],
        4: IMAGE[::-1],
        5: IMAGE.transpose(1, 0, 2),
        6: np.rot90(IMAGE, 1),
        7: IMAGE[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(IMAGE, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(np.ascontiguousarray(stored), "PNG", exif=exif)
    pixels, told = decoding.by_pillow(data)
    assert told == orientation
    np.testing.assert_array_equal(pixels, IMAGE)
    np.testing.assert_array_equal(decoding.decode(data, orientation), IMAGE)
    photo = encoded(np.ascontiguousarray(stored), "JPEG", exif=exif, quality=95)
    np.testing.assert_array_equal(decoding.decode(photo, orientation), alone(photo))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's own
def test_an_exif_that_cannot_be_read_leaves_the_image_as_it_is():
    whole = encoded(IMAGE, "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x09\x01\x12")
    pixels, orientation = decoding.by_pillow(whole)
    assert orientation == 1
    np.testing.assert_array_equal(pixels, alone(encoded(IMAGE, "JPEG")))


@pytest.mark.parametrize(
    "data",
    [b"", b"no image", encoded(IMAGE)[:60], encoded(IMAGE, "JPEG")[:200], encoded(IMAGE, "GIF")[:40], b"\xff\xd8\xff"],
    ids=["empty", "text", "png", "jpeg", "gif", "start"],
)
def test_what_is_no_whole_image_is_refused(data):
    for read in (decoding.decode, alone):
        with pytest.raises(ValueError, match="no whole image"):
            read(data)


def test_pixels_without_a_range_are_refused():
    with pytest.raises(ValueError, match="pixels of 32 bits"):
        decoding.decode(encoded(Image.fromarray(np.zeros((3, 3), np.int32)), "TIFF"))
