"""What a file carries beside its pixels: converted, carried over or named, never lost in silence."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from broken import chunk, picture
from conftest import small_kl
from pipelines import little
from srlvae.attacks.files import attack_files
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.edits import edit_files
from srlvae.errors import InputError
from srlvae.images import LeftOut, image_size, open_rgb, read_picture, set_max_pixels
from srlvae.models.edit_settings import EditSettings

Tag = ExifTags.Base


def matrix_profile(name: str, gamma: float, red: tuple, green: tuple, blue: tuple) -> bytes:
    """A colour profile of a display, version 2: three primaries in XYZ (D50) and one gamma."""

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name.encode() + b"\0" + b"\0" * 78
    parts = {b"desc": text, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz(0.9642, 1, 0.8249)}
    parts |= {b"rXYZ": xyz(*red), b"gXYZ": xyz(*green), b"bXYZ": xyz(*blue)}
    parts |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body, start = struct.pack(">I", len(parts)), b"", 132 + 12 * len(parts)
    for key, data in parts.items():
        data += b"\0" * (-len(data) % 4)
        table += key + struct.pack(">II", start + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header += b"\0" * 12 + b"acsp" + b"\0" * 28 + struct.pack(">iii", *(round(v * 65536) for v in (0.9642, 1, 0.8249)))
    return header + b"\0" * (128 - len(header)) + table + body


def grey_profile(gamma: float) -> bytes:
    """A colour profile of grey."""
    whole = bytearray(matrix_profile("grey", gamma, *PRIMARIES))
    whole[16:20] = b"GRAY"
    return bytes(whole).replace(b"rTRC", b"kTRC")


# Adobe RGB (1998), its primaries adapted to D50.
PRIMARIES = (0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)
ADOBE = matrix_profile("Adobe RGB", 2.19921875, *PRIMARIES)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def opened(path: Path) -> Image.Image:
    """A picture as Pillow has it, its file closed."""
    with Image.open(path) as image:
        image.load()
        image.getexif()
    return image


def as_a_viewer_shows(path: Path) -> np.ndarray:
    """The levels of a file in sRGB, by its profile."""
    image = opened(path)
    profile = image.info.get("icc_profile")
    if profile:
        image = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), SRGB, outputMode="RGB")
    return np.asarray(image.convert("RGB")).astype(int)


def attack(source: Path, out: Path) -> tuple[Path, dict]:
    (record,) = attack_files(prepare(Request("latent", eps=8 / 255, steps=2), small_kl()), [source], out)
    return out / f"{source.stem}.png", record


# --- colour profiles


def test_an_adobe_rgb_picture_is_attacked_within_the_budget_as_a_viewer_shows_it(tmp_path):
    picture(0, 48).save(tmp_path / "a.png", icc_profile=ADOBE)
    written, record = attack(tmp_path / "a.png", tmp_path / "out")
    before, after = as_a_viewer_shows(tmp_path / "a.png"), as_a_viewer_shows(written)
    assert 0 < np.abs(after - before).max() <= 8
    # Without the conversion the colours themselves would have changed by more.
    assert np.abs(np.asarray(picture(0, 48)).astype(int) - before).max() > 20
    assert record["converted"] == ["colours converted from Adobe RGB to sRGB"]


def test_a_profile_that_is_srgb_changes_no_level(tmp_path):
    image = picture(0, 48)
    image.save(tmp_path / "a.png", icc_profile=SRGB.tobytes())
    found = read_picture(tmp_path / "a.png")
    assert (np.asarray(found.rgb) == np.asarray(image)).all() and found.converted == ()


def test_a_profile_for_colours_holds_for_a_grey_picture_too(tmp_path):
    picture().convert("L").save(tmp_path / "a.png", icc_profile=ADOBE)
    found = np.asarray(read_picture(tmp_path / "a.png").rgb)
    assert (found == as_a_viewer_shows_grey(tmp_path / "a.png")).all()


def as_a_viewer_shows_grey(path: Path) -> np.ndarray:
    image = opened(path).convert("RGB")
    return np.asarray(ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(ADOBE)), SRGB, outputMode="RGB"))


def test_transparency_stays_beside_converted_colours(tmp_path):
    image = picture().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "a.png", icc_profile=ADOBE)
    found = read_picture(tmp_path / "a.png")
    assert found.alpha.tobytes() == image.getchannel("A").tobytes()
    picture().save(tmp_path / "b.png", icc_profile=ADOBE)
    assert found.rgb.tobytes() == read_picture(tmp_path / "b.png").rgb.tobytes()


def test_a_profile_that_moves_colours_by_several_levels_is_converted(tmp_path):
    # Of sRGB's own primaries, with a plain power of 2.2: dark tones move by up to six levels.
    near = matrix_profile("power", 2.19921875, (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
    picture(0, 48).save(tmp_path / "a.png", icc_profile=near)
    found = read_picture(tmp_path / "a.png")
    moved = np.abs(np.asarray(found.rgb).astype(int) - np.asarray(picture(0, 48)))
    assert found.converted == ("colours converted from power to sRGB",) and 2 < moved.max() < 15


@pytest.mark.parametrize("profile", [b"no profile", ADOBE[:200]])
def test_a_broken_profile_is_named_and_the_picture_used(profile, tmp_path):
    picture().save(tmp_path / "a.png", icc_profile=profile)
    left_out = LeftOut()
    found = read_picture(tmp_path / "a.png", left_out=left_out)
    assert (np.asarray(found.rgb) == np.asarray(picture())).all()
    (one,) = left_out.found
    assert "its colour profile, which cannot be used" in one.reason and not one.whole


# --- transparency, depth, orientation, texts


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_carried_through_an_attack(mode, tmp_path):
    if mode == "P":
        image = picture().convert("P")
        image.save(tmp_path / "a.png", transparency=3)
    else:
        image = picture().convert(mode)
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(tmp_path / "a.png")
    written, _ = attack(tmp_path / "a.png", tmp_path / "out")
    before, after = (np.asarray(opened(path).convert("RGBA")).astype(int) for path in (tmp_path / "a.png", written))
    assert opened(written).mode == "RGBA" and (before[..., 3] == after[..., 3]).all()
    assert 0 < np.abs(after - before).max() <= 8


def test_sixteen_bits_are_rounded_and_the_record_says_so(tmp_path):
    levels = np.arange(576, dtype=np.uint16).reshape(24, 24) * 100
    Image.fromarray(levels).save(tmp_path / "a.png")
    written, record = attack(tmp_path / "a.png", tmp_path / "out")
    assert np.abs(np.asarray(open_rgb(written))[..., 0] - levels / 257).max() <= 8.5
    assert record["converted"] == ["16 bits rounded to 8"]


def test_sixteen_bits_of_colour_are_cut_and_the_record_says_so(tmp_path):
    levels = (np.arange(24 * 24 * 3).reshape(24, 72) * 30).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", 24, 24, 16, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    written = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))
    picture = read_picture(tmp_path / "a.png")
    assert picture.converted == ("16 bits cut to 8",)
    assert (np.asarray(picture.rgb) == (levels >> 8).reshape(24, 24, 3)).all()


def png(path: Path, shape: tuple[int, int], bits: int, colour: int, row: bytes, key: bytes) -> Path:
    """Write a PNG of equal rows, with a level or colour that is transparent."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", shape[1], shape[0], bits, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * shape[0]))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", key) + pixels + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(
    ("bits", "colour", "row", "key"),
    [
        (1, 0, b"\x10", b"\0\1"),
        (2, 0, b"\x1b", b"\0\3"),
        (4, 0, b"\x01\x2f", b"\0\x0f"),
        (8, 0, b"\0\1\2\3", b"\0\3"),
        (16, 2, b"\0" * 18 + b"\x12\x34\x56\x78\x9a\xbc", b"\x12\x34\x56\x78\x9a\xbc"),
    ],
)
def test_a_transparent_level_is_one_at_every_depth(bits, colour, row, key, tmp_path):
    found = read_picture(png(tmp_path / "a.png", (2, 4), bits, colour, row, key))
    assert (np.asarray(found.alpha) == [255, 255, 255, 0]).all() and found.lost == ()


def test_a_grey_picture_with_a_transparent_level_keeps_its_grey_profile(tmp_path):
    grey = ImageCms.ImageCmsProfile(io.BytesIO(grey_profile(1.0))).tobytes()
    levels = np.full((24, 24), 128, dtype=np.uint8)
    for name, key in (("a.png", None), ("b.png", 3)):
        Image.fromarray(levels).save(tmp_path / name, icc_profile=grey, **({} if key is None else {"transparency": key}))
    without, with_key = (read_picture(tmp_path / name) for name in ("a.png", "b.png"))
    assert without.rgb.tobytes() == with_key.rgb.tobytes() and with_key.lost == () and np.asarray(with_key.rgb)[0, 0, 0] > 180


def test_a_transparent_level_of_sixteen_bits_is_transparent(tmp_path):
    levels = np.full((24, 24), 40000, dtype=np.uint16)
    levels[:8] = 1000
    Image.fromarray(levels).save(tmp_path / "a.png", transparency=1000)
    alpha = read_picture(tmp_path / "a.png").alpha
    assert alpha is not None and (np.asarray(alpha) == np.where(levels == 1000, 0, 255)).all()


@pytest.mark.parametrize("kind", ["jpg", "webp", "tif", "png"])
def test_author_and_copyright_are_carried_and_the_orientation_is_applied_once(kind, tmp_path):
    exif = Image.Exif()
    exif[Tag.Artist], exif[Tag.Copyright], exif[Tag.Orientation] = "A. Author", "© A. Author".encode(), 6
    image = picture(0, 48).crop((0, 0, 48, 32))
    image.save(tmp_path / f"a.{kind}", exif=exif)
    for target, name in ((attack, "attacked"), (edit, "edited")):
        written, _ = target(tmp_path / f"a.{kind}", tmp_path / name)
        kept = opened(written).getexif()
        # Pillow reads texts as Latin-1.
        assert kept[Tag.Artist] == "A. Author" and kept[Tag.Copyright].encode("latin-1") == "© A. Author".encode()
        assert kept.get(Tag.Orientation, 1) == 1
    assert opened(tmp_path / "attacked" / "a.png").size == (32, 48)
    before, after = (
        np.asarray(open_rgb(path)).astype(int) for path in (tmp_path / f"a.{kind}", tmp_path / "attacked" / "a.png")
    )
    assert np.abs(before - after).max() <= 8


def test_place_and_camera_are_carried_but_for_what_is_no_longer_so(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.IFD.Exif] = {Tag.ExposureTime: 0.5, Tag.ColorSpace: 2, Tag.ExifImageWidth: 99}
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    picture().save(tmp_path / "a.jpg", exif=exif)
    kept = opened(attack(tmp_path / "a.jpg", tmp_path / "out")[0]).getexif()
    assert dict(kept.get_ifd(ExifTags.IFD.Exif)) == {Tag.ExposureTime: 0.5}
    assert dict(kept.get_ifd(ExifTags.IFD.GPSInfo)) == {ExifTags.GPS.GPSLatitudeRef: "N"}


def test_texts_of_the_camera_part_and_of_iptc_are_carried(tmp_path):
    exif = Image.Exif()
    owner = "Jürgen Müller".encode()
    exif.get_ifd(ExifTags.IFD.Exif)[Tag.CameraOwnerName] = owner
    fields = ((80, b"A. Author"), (116, "© A. Author".encode()), (25, b"not kept"))
    records = b"".join(b"\x1c\x02" + struct.pack(">BH", tag, len(text)) + text for tag, text in fields)
    resource = b"8BIM" + struct.pack(">HHI", 0x404, 0, len(records)) + records + b"\0" * (len(records) % 2)
    picture(0, 48).save(tmp_path / "a.jpg", exif=exif)
    whole = (tmp_path / "a.jpg").read_bytes()
    block = b"Photoshop 3.0\0" + resource
    (tmp_path / "a.jpg").write_bytes(whole[:2] + b"\xff\xed" + struct.pack(">H", len(block) + 2) + block + whole[2:])
    written, record = attack(tmp_path / "a.jpg", tmp_path / "out")
    image = opened(written)
    assert image.getexif().get_ifd(ExifTags.IFD.Exif)[Tag.CameraOwnerName] == owner
    assert image.text == {"Author": "A. Author", "Copyright": "© A. Author"} and "left_out" not in record


@pytest.mark.parametrize(("kind", "compression"), [("tif", None), ("tif", "tiff_lzw"), ("png", None)])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16", "RGB"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_a_turned_picture_is_read_upright_in_every_mode(mode, orientation, kind, compression, tmp_path):
    if kind == "png" and mode == "CMYK":
        pytest.skip("PNG has no inks")
    exif = Image.Exif()
    exif[Tag.Orientation] = orientation
    image = picture(0, 48).crop((0, 0, 48, 32)).convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    image = image.convert(mode)
    options = {"compression": compression} if compression else {}
    image.save(tmp_path / f"turned.{kind}", exif=exif, **options)
    image.save(tmp_path / f"plain.{kind}", **options)
    way = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270}[orientation]
    found = open_rgb(tmp_path / f"turned.{kind}")
    assert found.tobytes() == open_rgb(tmp_path / f"plain.{kind}").transpose(way).tobytes()
    assert image_size(tmp_path / f"turned.{kind}") == found.size


def tiff(path: Path, levels: np.ndarray, **tags: int) -> Path:
    """Write an uncompressed TIFF of 12 packed bits or of 16 bits, with these values of tags."""
    known = {"bits": 258, "photometric": 262, "planar": 284, "samples": 277, "format": 339}
    height, width = levels.shape[-2:]
    if tags["bits"] == 12:
        pairs = levels.reshape(-1, 2).astype(int)
        data = b"".join(int(a << 12 | b).to_bytes(3, "big") for a, b in pairs)
    else:
        data = levels.astype("<u2").tobytes()
    values = {256: width, 257: height, 259: 1, 278: height, 262: 1} | {known[name]: value for name, value in tags.items()}
    planes = levels.shape[0] if levels.ndim == 3 else 1
    start = 8 + 2 + 12 * (len(values) + 2) + 4
    rows = {tag: (1, value) for tag, value in values.items()}
    rows |= {273: (planes, start), 279: (planes, len(data) // planes)}
    body = b""
    if planes > 1:
        sizes, starts = [len(data) // planes] * planes, [start + 24 + n * (len(data) // planes) for n in range(planes)]
        rows |= {273: (planes, start), 279: (planes, start + 4 * planes)}
        body = struct.pack(f"<{2 * planes}I", *starts, *sizes)
    entries = b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, (count, value) in sorted(rows.items()))
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(rows)) + entries + struct.pack("<I", 0) + body + data)
    return path


def test_grey_of_twelve_bits_has_all_its_levels(tmp_path):
    levels = np.linspace(0, 4095, 24 * 24).round().reshape(24, 24)
    found = read_picture(tiff(tmp_path / "a.tif", levels, bits=12))
    assert found.converted == ("12 bits rounded to 8",)
    assert (np.asarray(found.rgb)[..., 0] == (levels / 4095 * 255).round()).all()


def test_sixteen_bits_whose_zero_is_white_are_no_negative(tmp_path):
    levels = np.linspace(0, 65535, 24 * 24).round().reshape(24, 24)
    found = np.asarray(open_rgb(tiff(tmp_path / "a.tif", levels, bits=16, photometric=0)))
    assert (found[..., 0] == (255 - levels / 257).round()).all()


def test_levels_with_a_sign_are_refused_and_not_read_at_half_their_brightness(tmp_path):
    path = tiff(tmp_path / "a.tif", np.linspace(0, 32767, 24 * 24).round().reshape(24, 24), bits=16, format=2)
    with pytest.raises(InputError, match=r"a\.tif: .*levels with a sign"):
        open_rgb(path)


def test_planes_of_sixteen_bits_are_refused_and_not_read_as_noise(tmp_path):
    path = tiff(tmp_path / "a.tif", np.zeros((3, 24, 24)), bits=16, photometric=2, planar=2, samples=3)
    with pytest.raises(InputError, match=r"a\.tif: .*planes of 16 bits; save it with compression"):
        open_rgb(path)


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        (b"gAMA", struct.pack(">I", 100000), "gamma 1"),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000), "primaries of another display"),
    ],
)
def test_colours_that_are_not_srgb_are_named_though_there_is_no_profile(kind, data, said, tmp_path):
    for name, of in (("other.png", data), ("srgb.png", SAID[kind])):
        info = PngInfo()
        info.add(kind, of)
        picture().save(tmp_path / name, pnginfo=info)
    (lost,) = read_picture(tmp_path / "other.png").lost
    assert said in lost and read_picture(tmp_path / "srgb.png").lost == ()


SAID = {b"gAMA": struct.pack(">I", 45455), b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)}


def test_a_cameras_adobe_rgb_is_named(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update({Tag.ColorSpace: 65535, ExifTags.IFD.Interop: {1: "R03", 2: b"0100"}})
    picture().save(tmp_path / "a.jpg", exif=exif)
    (lost,) = read_picture(tmp_path / "a.jpg").lost
    assert "Adobe RGB" in lost


def edit(source: Path, out: Path) -> tuple[Path, None]:
    edit_files(little(small_kl()), [source], "a cat", out, EditSettings(steps=2, guidance=1.0))
    return out / f"{source.stem}.png", None


# Pillow turns by what it reads as a digit, whatever follows it.
@pytest.mark.parametrize(
    "said", ['<x tiff:Orientation="6" dc:creator="A. Author"/>', "<x>A. Author<tiff:Orientation>6\n</tiff:Orientation></x>"]
)
def test_texts_and_xmp_are_carried_and_the_picture_is_turned_once(said, tmp_path):
    info = PngInfo()
    info.add_text("parameters", "a photo of a cat\nSteps: 20")
    info.add_itxt("XML:com.adobe.xmp", said)
    picture(0, 48).crop((0, 0, 48, 32)).save(tmp_path / "a.png", pnginfo=info)
    written, _ = attack(tmp_path / "a.png", tmp_path / "out")
    with Image.open(written) as image:
        assert image.text["parameters"] == "a photo of a cat\nSteps: 20" and image.size == (32, 48)
        assert "A. Author" in image.info["xmp"].decode() and image.getexif().get(Tag.Orientation, 1) == 1
    assert open_rgb(written).size == (32, 48)


def test_broken_exif_is_named_and_the_picture_used(tmp_path):
    picture().save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0" + b"\xff" * 40)
    left_out = LeftOut()
    assert read_picture(tmp_path / "a.jpg", left_out=left_out).rgb.size == picture().size
    assert all(not one.whole for one in left_out.found)


def test_an_animation_is_named_in_the_record(tmp_path):
    picture().save(tmp_path / "a.webp", save_all=True, append_images=[picture(1)], lossless=True)
    _, record = attack(tmp_path / "a.webp", tmp_path / "out")
    assert record["left_out"] == ["all but the first of its 2 frames"]
    assert json.loads((tmp_path / "out" / "a.json").read_text(encoding="utf-8")) == record


# --- formats of other packages


@pytest.mark.parametrize(
    ("name", "package", "kind"),
    [("a.heic", "pillow_heif", "HEIF"), ("a.jxl", "pillow_jxl", "JXL"), ("a.jpg", "pillow_heif", "HEIF")],
)
def test_a_format_of_another_package_is_read_where_it_is_installed(name, package, kind, tmp_path):
    module = pytest.importorskip(package, reason="needs an extra")
    if kind == "HEIF":
        module.register_heif_opener()
    image = Image.new("RGB", (48, 32), (200, 100, 50))
    image.save(tmp_path / name, format=kind)
    # Lossy formats.
    assert np.abs(np.asarray(open_rgb(tmp_path / name)).astype(int) - np.asarray(image)).max() <= 6


@pytest.mark.parametrize(("begins", "extra"), [(b"\0\0\0\x18ftypheic", "heif"), (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl")])
def test_where_it_is_not_installed_the_extra_is_named(begins, extra, tmp_path, monkeypatch):
    monkeypatch.setattr("srlvae.images.formats._registered", lambda name, package: False)
    # Phones give such files the suffix of a JPEG, too.
    (tmp_path / "a.jpg").write_bytes(begins + b"\0" * 40)
    with pytest.raises(InputError, match=rf"a\.jpg: .*pip install 'srlvae\[{extra}\]'"):
        open_rgb(tmp_path / "a.jpg")


def test_an_avif_of_the_brand_mif1_is_an_avif(tmp_path):
    image = Image.new("RGB", (48, 32), (200, 100, 50))
    image.save(tmp_path / "a.avif")
    whole = (tmp_path / "a.avif").read_bytes()
    (tmp_path / "a.avif").write_bytes(whole[:8] + b"mif1" + whole[12:])
    assert np.abs(np.asarray(open_rgb(tmp_path / "a.avif")).astype(int) - np.asarray(image)).max() <= 6


def test_jpeg_2000_is_read(tmp_path):
    picture().save(tmp_path / "a.jp2")
    assert (np.asarray(open_rgb(tmp_path / "a.jp2")) == np.asarray(picture())).all()


def test_no_other_limit_of_pixels_than_pillows_is_set_unless_asked(monkeypatch):
    before = Image.MAX_IMAGE_PIXELS
    set_max_pixels(None)
    assert before == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", before)
    set_max_pixels(10)
    assert Image.MAX_IMAGE_PIXELS == 10
