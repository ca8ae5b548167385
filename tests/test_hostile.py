"""What else comes from others: links, names in tables and terminals, records, and sound files with some bytes changed."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from broken import encoded, make_names, picture
from conftest import small_kl
from heard import Heard
from srlvae.config import read_toml
from srlvae.errors import InputError, UnreadableError
from srlvae.files import read_record, shown
from srlvae.finetune.captions import read_captions
from srlvae.harden.settings import HardenConfig
from srlvae.images import LeftOut, find_images, image_size, read_picture
from srlvae.links import is_below, set_follow_links
from srlvae.models.vae import load_vae
from srlvae.report.page import write_report
from srlvae.runs import earlier_record, kept_record
from srlvae.scan import Encoders, scan
from srlvae.scan.folder import read_evidence
from srlvae.trust.cells import plain_cell, read_cell
from test_left_out import other, run

RESULTS = Path(__file__).parents[1] / "results"


# --- links


@pytest.fixture(autouse=True)
def not_followed():
    yield
    set_follow_links(False)


@pytest.fixture
def linked(tmp_path):
    """A folder with links within it and out of it, and a folder beside it."""
    inside, private = tmp_path / "in", tmp_path / "private"
    for place in (inside / "a", private):
        place.mkdir(parents=True)
        picture().save(place / "one.png")
    (inside / "again.png").symlink_to("a/one.png")
    (inside / "b").symlink_to("a")
    (inside / "out.png").symlink_to("../private/one.png")
    (inside / "elsewhere").symlink_to(private)
    (inside / "long way").symlink_to("b/../../private")
    return inside


def found(folder: Path) -> tuple[list[str], list[str]]:
    left_out = LeftOut()
    names = [path.relative_to(folder).as_posix() for path in find_images(folder, left_out)]
    return names, sorted(Path(one.file).name for one in left_out.files)


def test_links_that_lead_out_are_left_out_and_named_unless_they_are_let_in(linked, tmp_path):
    assert found(linked) == (["a/one.png", "again.png"], ["elsewhere", "long way", "out.png"])
    (tmp_path / "given").symlink_to(linked)
    assert found(tmp_path / "given")[0] == ["a/one.png", "again.png"]
    assert find_images(linked / "out.png") == [linked / "out.png"]
    set_follow_links(True)
    assert found(linked) == (["a/one.png", "again.png", "elsewhere/one.png", "out.png"], [])


def test_a_command_says_how_links_are_let_in(linked, tmp_path, monkeypatch, capsys):
    small_kl().save(tmp_path / "vae")
    words = ("attack", "latent", linked, "--vae", tmp_path / "vae", "--steps", 1, "--out", tmp_path / "out")
    assert run(monkeypatch, *words) == 3
    assert "out.png: a link that leads out of the folder; --follow-links lets it in" in capsys.readouterr().out
    assert not (tmp_path / "out" / "out.png").exists()
    assert run(monkeypatch, *words, "--follow-links") == 0 and (tmp_path / "out" / "out.png").exists()


@pytest.mark.parametrize("name", ["one.txt", "metadata.jsonl"])
def test_captions_are_not_taken_from_links_that_lead_out(name, tmp_path):
    (tmp_path / "in").mkdir()
    picture().save(tmp_path / "in" / "one.png")
    (tmp_path / "secret").write_text('{"file_name": "one.png", "text": "a secret"}')
    (tmp_path / "in" / name).symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match=f"{name}: a link that leads out"):
        read_captions(tmp_path / "in")
    (tmp_path / "in" / name).unlink()
    os.mkfifo(tmp_path / "in" / name)
    with pytest.raises(InputError, match="no caption|is not a file"):
        read_captions(tmp_path / "in")


def test_what_is_below_a_folder(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "ab").mkdir()
    assert is_below(tmp_path / "a" / "b", tmp_path / "a") and is_below("/etc", "/")
    assert not is_below(tmp_path / "ab", tmp_path / "a") and not is_below(tmp_path / "a" / ".." / "ab", tmp_path / "a")


# --- names


@given(st.text(alphabet="=+-@\t\r\n',;|ax\uff1d\u202e", max_size=8))
def test_a_cell_is_no_formula_and_is_read_back_as_it_was(text):
    cell = plain_cell(text)
    assert read_cell(cell) == text and not re.search("(\\A|[,;\t\r\n|])[=+\\-@\t\r\n\uff1d]", cell)


@given(st.text(max_size=20))
def test_other_text_stays_as_it_is(text):
    assert plain_cell(f"x{text}").replace("'", "") == f"x{text}".replace("'", "") and read_cell(plain_cell(text)) == text
    assert all(c.isprintable() for c in shown(text))


def test_nothing_that_a_terminal_or_a_console_obeys_is_printed(tmp_path, monkeypatch, capsys):
    small_kl().save(tmp_path / "vae")
    (tmp_path / "in").mkdir()
    make_names(tmp_path / "in", lambda path, i: picture(i).save(path) if i % 2 else path.write_bytes(b"\x1b[31m"))
    words = ("attack", "latent", tmp_path / "in", "--vae", tmp_path / "vae", "--steps", 1, "--out", tmp_path / "out")
    assert run(monkeypatch, *words) == 3
    said = capsys.readouterr()
    assert all(c.isprintable() or c == "\n" for c in said.out + said.err)
    # A sentence quotes a name of its own, too.
    for name in ("[/red]\x1b[2J\u202e", "a\nb"):
        assert run(monkeypatch, "attack", "latent", tmp_path / name, "--out", tmp_path / "other") == 2
        said = capsys.readouterr()
        assert all(c.isprintable() or c == "\n" for c in said.err) and name[0] in said.err


def test_paths_that_are_exported_are_printed_as_they_are(tmp_path, monkeypatch, capsys):
    small_kl().save(tmp_path / "vae")
    out = tmp_path / "[/red]\x1b[2J"
    assert run(monkeypatch, "export", tmp_path / "vae", "--to", "ldm", "--out", f"{out}.safetensors") == 0
    assert "[/red]\\x1b[2J.safetensors" in capsys.readouterr().out.replace("\n", "")


# --- pictures


@pytest.mark.parametrize("kind", ["png", "tif", "jpg"])
def test_the_size_of_a_turned_picture_is_that_of_the_upright_one(kind, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (24, 16)).save(tmp_path / f"a.{kind}", exif=exif)
    assert image_size(tmp_path / f"a.{kind}") == read_picture(tmp_path / f"a.{kind}").rgb.size == (16, 24)


def test_a_picture_larger_than_memory_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    picture().save(tmp_path / "a.png")
    assert image_size(tmp_path / "a.png") == (24, 24)
    monkeypatch.setattr("srlvae.images.boundary.free_memory", lambda: 24 * 24 * 24 - 1)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(UnreadableError, match="24 x 24 pixels take about .* of memory are free"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("error", [NotImplementedError, SyntaxError, RecursionError, MemoryError, BaseException, StopIteration])
def test_whatever_a_decoder_raises_is_an_error_of_the_file(error, tmp_path, monkeypatch):
    picture().save(tmp_path / "a.png")

    def load(_):
        raise error("\x1b[31m\nx" * 1000)

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(UnreadableError) as raised:
        read_picture(tmp_path / "a.png")
    assert len(raised.value.reason) < 400 and raised.value.reason.isprintable()


def test_an_interruption_is_none(tmp_path, monkeypatch):
    picture().save(tmp_path / "a.png")

    def load(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(KeyboardInterrupt):
        read_picture(tmp_path / "a.png")


# --- scans


def test_a_file_that_was_replaced_is_looked_at_anew_whatever_its_size_and_time_say(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for i in range(3):
        picture(i).save(folder / f"{i}.bmp")
    before = scan(Encoders(small_kl(), other()), folder, out)
    about = (folder / "1.bmp").stat()
    picture(7).save(folder / "1.bmp")
    os.utime(folder / "1.bmp", ns=(about.st_atime_ns, about.st_mtime_ns))
    os.utime(folder / "2.bmp")
    assert (folder / "1.bmp").stat().st_size == about.st_size
    lines = len(list(read_evidence(out)))
    after = scan(Encoders(small_kl(), other()), folder, out)
    assert [one.evidence != two.evidence for one, two in zip(before, after, strict=True)] == [False, True, False]
    assert len(list(read_evidence(out))) == lines + 1


@pytest.mark.parametrize("cell", ["nan", "inf", "", "x", "1e999"])
def test_evidence_that_is_no_number_is_looked_for_anew(cell, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    picture().save(folder / "a.png")
    (before,) = scan(Encoders(small_kl(), other()), folder, out)
    table = out / "evidence-0.csv"
    header, row = csv.reader(io.StringIO(table.read_text()))
    row[header.index("parting")] = cell
    table.write_text(f"{','.join(header)}\n{','.join(row)}\n" + "\0garbage\n,,,\n" + '"' + "x" * 200_000)
    (after,) = scan(Encoders(small_kl(), other()), folder, out)
    assert after.evidence == before.evidence


# --- records


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 100_000, "\0"])
def test_records_of_runs_that_are_none_are_a_sentence(content, tmp_path, monkeypatch, capsys):
    for name in ("scan.json", "editing.json", "poisoning.json", "mimicry.json", "reconstruction.json", "hardening.json"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_text(content)
        with pytest.raises(InputError, match=re.escape(name)):
            earlier_record(tmp_path / "out", name, {})
        if name != "scan.json":
            assert run(monkeypatch, "report", tmp_path / "out") == 2
            assert name in capsys.readouterr().err.replace("\n", "")
        shutil.rmtree(tmp_path / "out")
    picture().save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(content)
    assert kept_record(tmp_path / "a.png", {}) is None


def spoilt(value, draw: random.Random):
    """`value` with one thing in it replaced by another, taken away or of another type."""
    odd = [
        None,
        [],
        {},
        "",
        "../../x",
        "$\\frac{",
        "<script>x",
        -1,
        10**400,
        float("nan"),
        float("inf"),
        True,
        [[[]]],
        {"a": {}},
    ]
    if isinstance(value, dict | list) and value and draw.random() < 0.8:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key, changed = draw.choice(keys), dict(value) if isinstance(value, dict) else list(value)
        changed[key] = spoilt(value[key], draw)
        return changed
    return draw.choice(odd)


@pytest.mark.parametrize(
    "source, name",
    [
        ("editing-tiny-sd-purifiers", "editing.json"),
        ("poisoning-tiny-sd-quick", "poisoning.json"),
        ("mimicry-tiny-sd-quick", "mimicry.json"),
        ("reconstruction-tiny-srl", "reconstruction.json"),
    ],
)
def test_a_report_on_a_spoilt_result_is_a_page_or_a_sentence(source, name, tmp_path):
    sound, draw = read_record(RESULTS / f"{source}.json"), random.Random(0)
    for key in ("rows", "floor", "reconstruction", "rendered", "untuned"):
        sound |= {key: sound[key][:6]} if key in sound else {}
    picture().save(tmp_path / "grid.png")
    for _ in range(8):
        (tmp_path / name).write_text(json.dumps(spoilt(spoilt(sound, draw), draw)))
        try:
            page = write_report([tmp_path]).read_text(encoding="utf-8")
            assert "<script>x" not in page
        except InputError as error:
            assert str(tmp_path) in str(error) or "rows" in str(error)


def test_a_report_shows_no_picture_from_elsewhere(tmp_path):
    shutil.copy(RESULTS / "reconstruction-tiny-srl.json", tmp_path / "reconstruction.json")
    picture().save(tmp_path.parent / "private.png")
    (tmp_path / "grid.png").symlink_to("../private.png")
    with pytest.raises(InputError, match=r"grid\.png leads out of"):
        write_report([tmp_path])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.dictionaries(
        st.sampled_from([*HardenConfig.__dataclass_fields__, "x"]),
        st.recursive(
            st.integers(-(10**400), 10**400) | st.floats() | st.text('a/8.é"', max_size=4) | st.booleans(),
            lambda inner: (
                st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["eps", "kind", "srl"]), inner, max_size=2)
            ),
            max_leaves=4,
        ),
        max_size=2,
    )
)
def test_settings_of_any_type_are_taken_or_refused_with_a_sentence(tmp_path_factory, given):
    file = tmp_path_factory.getbasetemp() / "hostile.toml"
    file.write_text("".join(f"{key} = {in_toml(value)}\n" for key, value in given.items()), encoding="utf-8")
    try:
        read_toml(file, HardenConfig).check()
    except InputError as error:
        assert len(str(error)) < 2000


def in_toml(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {in_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(in_toml, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)


@pytest.mark.parametrize(
    "content", ["a = " + "[" * 100_000, "a = " + "{a = " * 10_000, "\0", "seed = " + "9" * 5000, "[[[a]]]"]
)
def test_settings_that_are_none_are_refused(content, tmp_path):
    (tmp_path / "a.toml").write_text(content)
    with pytest.raises(InputError, match=r"a\.toml"):
        read_toml(tmp_path / "a.toml", HardenConfig)


# --- sound files with some bytes changed


def mutants(sound: bytes, count: int, draw: random.Random):
    """Copies of `sound` with a few bytes changed, taken away, doubled or cut off."""
    for _ in range(count):
        content = bytearray(sound)
        for _ in range(draw.randint(1, 6)):
            place = draw.randrange(len(content)) if draw.random() < 0.5 else draw.randrange(min(len(content), 80))
            kind = draw.randrange(5)
            if kind < 2:
                content[place] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
            elif kind == 2:
                del content[place : place + draw.randint(1, 8)]
            elif kind == 3:
                content[place:place] = content[place : place + draw.randint(1, 40)]
            else:
                content[place:] = content[place:][: max(1, len(content) // 2)]
        yield bytes(content)


KINDS: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: encoded("PNG", icc_profile=profile(), exif=exif()),
    "JPEG": lambda: encoded("JPEG", icc_profile=profile(), exif=exif(), comment=b"a comment"),
    "WEBP": lambda: encoded("WEBP", lossless=True, icc_profile=profile(), exif=exif(), xmp=b"<x/>"),
    "TIFF": lambda: encoded("TIFF", compression="tiff_lzw", exif=exif()),
    "GIF": lambda: encoded("GIF", save_all=True, append_images=[Image.new("RGB", (64, 64))]),
    "BMP": lambda: encoded("BMP"),
    "JPEG2000": lambda: encoded("JPEG2000"),
    "AVIF": lambda: encoded("AVIF", exif=exif()),
    "PPM": lambda: encoded("PPM"),
}


def profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif() -> bytes:
    tags = Image.Exif()
    tags[0x112], tags[0x13B], tags[0x9286] = 6, "someone", b"ASCII\0\0\0a comment"
    return tags.tobytes()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_with_changed_bytes_is_read_or_is_an_error_of_that_file(kind, tmp_path):
    read = 0
    for number, content in enumerate(mutants(KINDS[kind](), 60, random.Random(kind))):
        path = tmp_path / f"{number}.png"
        path.write_bytes(content or b"\0")
        image_size(path)
        try:
            taken = read_picture(path)
            assert taken.rgb.mode == "RGB" and taken.carried.options() is not None
            read += 1
        except UnreadableError as error:
            assert error.name == str(path) and error.reason.isprintable() and len(error.reason) < 500
    assert read < 60


@pytest.mark.filterwarnings("ignore")
def test_weights_with_changed_bytes_load_or_are_refused_with_a_sentence(tmp_path):
    small_kl().save(tmp_path / "vae")
    file, draw = tmp_path / "vae" / "diffusion_pytorch_model.safetensors", random.Random(0)
    sound = file.read_bytes()
    for content in mutants(sound, 25, draw):
        file.write_bytes(content)
        alone = tmp_path / "one.safetensors"
        alone.write_bytes(content)
        for place in (tmp_path / "vae", alone):
            try:
                load_vae(place)
            except InputError as error:
                assert len(str(error)) < 3000
    file.write_bytes(sound)
    config = (tmp_path / "vae" / "config.json").read_bytes()
    for content in mutants(config, 25, draw):
        (tmp_path / "vae" / "config.json").write_bytes(content)
        try:
            assert torch.is_tensor(load_vae(tmp_path / "vae").mean(torch.zeros(1, 3, 64, 64)))
        except InputError as error:
            assert len(str(error)) < 3000


def test_a_configuration_with_changed_values_loads_or_is_refused_with_a_sentence(tmp_path):
    small_kl().save(tmp_path / "vae")
    path, draw = tmp_path / "vae" / "config.json", random.Random(1)
    sound, loaded = json.loads(path.read_text()), 0
    for _ in range(60):
        path.write_text(json.dumps(spoilt(sound, draw)))
        try:
            assert load_vae(tmp_path / "vae").channels == 4
            loaded += 1
        except InputError as error:
            assert len(str(error)) < 3000
    assert 0 < loaded < 60


def test_a_strict_listener_hears_of_links(linked):
    heard = Heard()
    find_images(linked, LeftOut(heard))
    assert len(heard.omissions) == 3
