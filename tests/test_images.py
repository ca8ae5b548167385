"""The image contract, odd files, and what writing keeps."""

from __future__ import annotations

import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageFile

from srlvae.errors import InputError
from srlvae.images import (
    check_eps,
    check_images,
    count_others,
    find_images,
    image_size,
    open_rgb,
    pad_to_multiple,
    read_image,
    read_picture,
    read_square,
    tile,
    to_levels,
    write_image,
)
from srlvae.images.write import font_of


@pytest.fixture
def all_levels() -> torch.Tensor:
    """Every 8-bit level once: `3 16 16` in [0,1]."""
    return (torch.arange(256.0) / 255).reshape(1, 16, 16).expand(3, 16, 16).contiguous()


def pixels(path: Path) -> np.ndarray:
    return np.asarray(open_rgb(path))


# --- the contract


@pytest.mark.parametrize(
    ("x", "quoted"),
    [
        (torch.zeros(3, 8, 8), r"\(3, 8, 8\)"),
        (torch.zeros(1, 4, 8, 8), r"\(1, 4, 8, 8\)"),
        (torch.zeros(0, 3, 8, 8), r"\(0, 3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.float64), "float64"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.full((1, 3, 8, 8), -0.25), "-0.25"),
        (torch.full((1, 3, 8, 8), 1.5), "1.5"),
        (torch.full((1, 3, 8, 8), torch.nan), "nan"),
    ],
)
def test_check_images_quotes_what_breaks_the_contract(x, quoted):
    with pytest.raises(InputError, match=quoted):
        check_images(x)


def test_check_images_returns_what_keeps_the_contract(x):
    assert check_images(x) is x


def test_check_eps_refuses_255ths_and_says_how_to_write_them():
    with pytest.raises(InputError, match="8/255"):
        check_eps(8.0)


@pytest.mark.parametrize("eps", [-0.1, float("nan")])
def test_check_eps_quotes_what_is_no_budget(eps):
    with pytest.raises(InputError, match=str(eps)):
        check_eps(eps)


@pytest.mark.parametrize("eps", [0.0, 8 / 255, 1.0])
def test_check_eps_returns_a_budget(eps):
    assert check_eps(eps) == eps


# --- finding files


def test_find_images_goes_deep_sorts_and_leaves_out_what_is_no_image(tmp_path):
    hidden = (".hidden.png", ".Trash-1000/files/d.png", "a/.thumbnails/c.jpg", "@eaDir/c.jpg", "__MACOSX/a/c.jpg")
    for name in ("b.PNG", "a/c.jpg", "notes.txt", *hidden):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(tmp_path) == [tmp_path / "a/c.jpg", tmp_path / "b.PNG"]
    # What is given itself may be hidden.
    assert find_images(tmp_path / "a/.thumbnails") == [tmp_path / "a/.thumbnails/c.jpg"]


def test_linked_folders_are_entered_once_and_other_files_counted(tmp_path):
    for name in ("in/a.png", "in/notes.doc", "in/.hidden.png", "in/else/b.avif", "in/else/c.jfif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "in" / "else")
    (tmp_path / "in" / "else" / "back").symlink_to(tmp_path / "in")
    names = ["a.png", "else/b.avif", "else/c.jfif"]
    assert [path.relative_to(tmp_path / "in").as_posix() for path in find_images(tmp_path / "in")] == names
    assert count_others(tmp_path / "in") == {".doc": 1}


def test_find_images_takes_a_single_file(tmp_path):
    (tmp_path / "a.png").touch()
    assert find_images(tmp_path / "a.png") == [tmp_path / "a.png"]


def test_find_images_names_the_folder_that_is_missing_or_empty(tmp_path):
    with pytest.raises(InputError, match="no such folder.*nowhere"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no images below"):
        find_images(tmp_path)


# --- odd files


def test_of_a_png_the_size_is_read_without_its_pixels(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png", exif=exif)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("pixels were decoded"))
    assert image_size(tmp_path / "a.png") == (20, 30)


def test_pillows_warnings_are_ignored_while_threads_read_and_heard_afterwards(tmp_path):
    # Pillow warns of EXIF that ends too early.
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0" + b"\xff" * 40)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(read_picture, [tmp_path / "a.jpg"] * 200))) == 200
    assert warnings.filters == before
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_a_truncated_jpeg_is_refused_by_name(tmp_path, all_levels):
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(InputError, match="cut.jpg.*truncated"):
        open_rgb(path)


@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n\0\0\0\0"])
def test_broken_bytes_are_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match="broken.png: not a readable image"):
        open_rgb(path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="gone.png"):
        open_rgb(tmp_path / "gone.png")


def test_a_single_pixel_is_an_image(tmp_path):
    Image.new("RGB", (1, 1), (255, 0, 51)).save(tmp_path / "dot.png")
    assert read_image(tmp_path / "dot.png").flatten().tolist() == pytest.approx([1.0, 0.0, 0.2])


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path):
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(levels * 257).save(tmp_path / "deep.png")
    assert (pixels(tmp_path / "deep.png") == levels[..., None]).all()


def test_a_cmyk_jpeg_keeps_its_colour(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "print.jpg")
    # JPEG's own rounding of a flat colour, a few levels.
    assert np.abs(pixels(tmp_path / "print.jpg").astype(int) - (255, 0, 0)).max() <= 4


def test_a_palette_is_looked_up(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "palette.png")
    assert pixels(tmp_path / "palette.png").tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_a_transparent_palette_entry_is_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "palette.png", transparency=0)
    assert pixels(tmp_path / "palette.png").tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_transparency_is_laid_on_white(tmp_path):
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 55))
    image.putpixel((2, 0), (7, 8, 9, 255))
    image.save(tmp_path / "glass.png")
    assert pixels(tmp_path / "glass.png").tolist() == [[[255, 255, 255], [200, 200, 200], [7, 8, 9]]]


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    red.save(tmp_path / "film.gif", save_all=True, append_images=[blue])
    assert (pixels(tmp_path / "film.gif") == (255, 0, 0)).all()


def test_a_photograph_is_turned_upright_by_its_exif(tmp_path):
    image = Image.new("L", (32, 16), 255)
    image.paste(0, (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn clockwise: the left half is up
    image.save(tmp_path / "turned.jpg", exif=exif)
    upright = pixels(tmp_path / "turned.jpg")
    assert upright.shape == (32, 16, 3)
    assert upright[:16].max() < 20 and upright[16:].min() > 235


def test_draft_decoding_stays_above_the_size_asked_for(tmp_path):
    Image.new("RGB", (400, 300)).save(tmp_path / "large.jpg")
    assert open_rgb(tmp_path / "large.jpg", at_least=70).size == (100, 75)
    assert open_rgb(tmp_path / "large.jpg", at_least=80).size == (200, 150)


def png_that_declares(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


# Pillow only warns of the first.
@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_decompression_bomb_is_refused_before_any_pixel_is_decoded(tmp_path, monkeypatch, side):
    def load(self):
        raise AssertionError("pixels were allocated")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    (tmp_path / "bomb.png").write_bytes(png_that_declares(side, side))
    with pytest.raises(InputError, match="bomb.png: refused as too large"):
        open_rgb(tmp_path / "bomb.png")


def test_read_square_takes_the_middle(tmp_path):
    image = Image.new("RGB", (30, 10), "black")
    image.paste("white", (10, 0, 20, 10))
    image.save(tmp_path / "wide.png")
    assert torch.equal(read_square(tmp_path / "wide.png", 10), torch.ones(3, 10, 10))


# --- writing


def test_every_level_survives_writing_and_reading(tmp_path, all_levels):
    write_image(tmp_path / "out.png", all_levels)
    assert torch.equal(read_image(tmp_path / "out.png"), all_levels)


def test_truncation_shifts_levels_where_rounding_does_not(all_levels):
    passed = (all_levels * 2 - 1 + 1) / 2  # through [-1,1] and back, with nothing done to it
    wanted = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).expand(3, 16, 16)
    truncated = (passed * 255).to(torch.uint8)
    assert (truncated != wanted).float().mean() > 0.1
    assert torch.equal(to_levels(passed), wanted)


def test_levels_outside_the_range_are_clamped_and_do_not_wrap():
    assert to_levels(torch.tensor([-0.1, 1.1])).tolist() == [0, 255]


@pytest.mark.parametrize("eps", [1, 8, 15])
def test_a_budget_on_an_8_bit_image_is_kept_exactly_by_the_file(tmp_path, all_levels, eps):
    signs = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)).sub(0.5).sign()
    write_image(tmp_path / "out.png", (all_levels + eps / 255 * signs).clamp(0, 1))
    change = (to_levels(read_image(tmp_path / "out.png")).int() - to_levels(all_levels).int()).abs()
    assert change.max() == eps


def test_padding_repeats_the_edge_at_right_and_bottom():
    x = torch.arange(30.0).reshape(1, 1, 5, 6).expand(1, 3, 5, 6)
    padded = pad_to_multiple(x, 4)
    assert padded.shape == (1, 3, 8, 8)
    assert torch.equal(padded[..., :5, :6], x)
    assert torch.equal(padded[..., 5:, :6], x[..., 4:, :].expand(1, 3, 3, 6))
    assert torch.equal(padded[..., :, 6:], padded[..., :, 5:6].expand(1, 3, 8, 2))


def test_padding_leaves_multiples_as_they_are(x):
    assert torch.equal(pad_to_multiple(x, 8), x)


def test_tile_lays_rows_and_columns_on_white(x):
    grid = tile([[x[0], x[1], x[0]], [x[1], x[0], x[1]]], gap=4)
    assert grid.shape == (3, 2 * 40, 3 * 40)
    assert torch.equal(grid[:, 4:36, 44:76], x[1]) and (grid[:, :4] == 1).all()


def test_captions_stand_above_the_columns(x):
    grid = tile([[x[0], x[1]]], ["clean", "attacked"])
    assert grid.shape[2] == 2 * 40 and grid.shape[1] > 40
    assert (grid[:, :-40, :40] < 0.5).any() and (grid[:, :-40, 40:] < 0.5).any()


def test_signs_and_letters_of_captions_are_drawn_and_no_boxes_and_long_ones_are_smaller():
    font, none = font_of("a", 12, 128), "\uffff"
    assert font.size == 12
    assert all(bytes(font.getmask(letter)) != bytes(font.getmask(none)) for letter in "×→εéЖ")
    assert font_of("a caption that is too long", 12, 100).getlength("a caption that is too long") <= 100


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("level", [2**30, 100, -5])
def test_grey_of_32_bits_is_refused_as_nothing_says_what_is_white(tmp_path, level, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new("I", (4, 4), level).save(tmp_path / "a.tif", exif=exif)
    with pytest.raises(InputError, match="32-bit grey pixels; save it with 8 or 16 bits"):
        read_image(tmp_path / "a.tif")


def test_float_pixels_are_refused_and_not_read_as_black(tmp_path):
    Image.new("F", (4, 4), 0.5).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="float pixels"):
        open_rgb(tmp_path / "a.tif")
