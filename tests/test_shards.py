"""Shards: read by hardening, as a whole and as a stream; refused at once by what needs files."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from broken import picture
from conftest import small_kl
from small import flat_pictures
from srlvae.errors import InputError
from srlvae.harden import harden, preset
from srlvae.harden.apart import set_apart
from srlvae.harden.crops import Crops
from srlvae.harden.photographs import HubPhotographs, StreamPhotographs, open_photographs
from srlvae.images import LeftOut, find_images
from srlvae.images.shards import read_samples
from srlvae.scan.shards import shards_in

SIZE = 16
BROKEN = 3


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def encoded(count: int) -> list[bytes]:
    """Flat pictures as PNGs, so that the level is the number; one is broken."""
    found = []
    for i, image in enumerate(flat_pictures(count).images):
        file = io.BytesIO()
        image.save(file, "PNG")
        found.append(b"broken" if i == BROKEN else file.getvalue())
    return found


def write_tar(path: Path, count: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i, content in enumerate(encoded(count)):
            parts = {"png": content, "txt": b"a cat", "json": json.dumps({"caption": "a cat"}).encode()}
            for suffix, data in parts.items():
                member = tarfile.TarInfo(f"{i:05d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def write_parquet(path: Path, count: int = 30, column: str = "jpg") -> Path:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"key": str(i), "caption": "a cat", column: content} for i, content in enumerate(encoded(count))]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_a_folder_of_pictures_and_archives_is_refused_and_one_of_pictures_and_tables_is_not(tmp_path):
    write_tar(tmp_path / "in" / "00000.tar")
    Image.new("RGB", (64, 64)).save(tmp_path / "in" / "stray.png")
    with pytest.raises(InputError, match=r"in has pictures and 1 archives such as .*00000\.tar; give .*\*\.tar in quotes"):
        open_photographs(str(tmp_path / "in"), SIZE)
    with pytest.raises(InputError, match="has pictures and 1 archives"):
        shards_in(str(tmp_path / "in"))
    (tmp_path / "in" / "00000.tar").unlink()
    write_parquet(tmp_path / "in" / "00000.parquet")
    assert len(open_photographs(str(tmp_path / "in"), SIZE)) == 1 and shards_in(str(tmp_path / "in")) == []


def test_pictures_that_a_run_draws_into_the_folder_are_not_trained_on(tmp_path):
    for name in ("a.png", "run/before_after.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    assert open_photographs(str(tmp_path), SIZE, out=tmp_path / "run").paths == [tmp_path / "a.png"]
    with pytest.raises(InputError, match="the only images below .* are those of the output folder"):
        (tmp_path / "a.png").unlink()
        open_photographs(str(tmp_path), SIZE, out=tmp_path / "run")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("write", [write_tar, write_parquet])
def test_a_shard_is_read_with_its_broken_rows_named(write, streaming, tmp_path):
    shard = write(tmp_path / "in" / f"00000.{'tar' if write is write_tar else 'parquet'}")
    for source in (shard, shard.parent, shard.parent / "0*"):
        photographs = open_photographs(str(source), SIZE, streaming=streaming)
        assert isinstance(photographs, StreamPhotographs if streaming else HubPhotographs)
        assert [photographs[i].getpixel((0, 0)) for i in (0, 1, 5)] == [(i, i, i) for i in (0, 1, 5)]
    left_out = LeftOut()
    _, left, chosen = set_apart(photographs, 3, SIZE, 0, left_out)
    samples = Crops(left, chosen, SIZE, 0)
    seen = {f"{name}: {reason}" for n in range(27) for name, reason in samples[n][2]}
    seen |= {f"{o.file}: {o.reason}" for o in left_out.files}
    assert len(seen) == 1 and all(reason.startswith(f"row {BROKEN}: not a readable image") for reason in seen)


def test_a_name_that_looks_like_a_pattern_is_none(tmp_path):
    shard = write_parquet(tmp_path / "[red]" / "a.parquet")
    assert len(open_photographs(str(shard), SIZE)) == 30


def test_hardening_takes_a_shard_and_names_what_it_left_out(tmp_path):
    shard = write_tar(tmp_path / "in" / "00000.tar")
    settings = {"steps": 8, "batch_size": 4, "micro_batch": 4, "resolution": SIZE, "features": "none", "held_out": 2}
    config = preset("cpu").changed(**settings, precision="no", workers=0)
    harden(small_kl(), open_photographs(str(shard), SIZE), tmp_path / "out", config)
    assert f"row {BROKEN}," in (tmp_path / "out" / "left-out.csv").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out" / "srlvae.json").read_text())["images_skipped"] == 1


def test_a_column_can_be_named_and_otherwise_the_columns_are_listed(tmp_path):
    shard = write_parquet(tmp_path / "a.parquet", column="thumbnail")
    assert len(open_photographs(str(shard), SIZE, column="thumbnail")) == 30
    with pytest.raises(InputError, match="no image column, only key, caption, thumbnail; name one with --image-column"):
        open_photographs(str(shard), SIZE)
    with pytest.raises(InputError, match="no column image, only key, caption, thumbnail"):
        open_photographs(str(shard), SIZE, column="image")


def test_a_shard_that_is_none_is_an_error(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot load the dataset .*a.parquet"):
        open_photographs(str(tmp_path / "a.parquet"), SIZE)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.parquet"])
def test_where_files_are_needed_a_shard_is_refused_at_once(name, tmp_path):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(InputError, match=f"{name} is an archive, not an image; unpack it"):
        find_images(tmp_path / name)
    with pytest.raises(InputError, match="no images below .*archives have to be unpacked first"):
        find_images(tmp_path)
    picture().save(tmp_path / "b.png")
    assert find_images(tmp_path) == [tmp_path / "b.png"]


def test_what_macos_adds_to_an_archive_is_no_picture(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("./a.png", "./._a.png", "__MACOSX/._b.png", ".hidden/c.png", "d/e.png"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"png"))
    assert [sample.name for sample in read_samples(str(tmp_path / "a.tar"))] == ["./a.png", "d/e.png"]


@pytest.mark.parametrize("kind", ["new_stream", "new_file"])
def test_a_scan_reads_arrow_as_a_stream_and_as_a_file(kind, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"image": [{"bytes": b"one", "path": "a.png"}, {"bytes": b"two", "path": None}], "key": ["a", None]})
    with getattr(pyarrow.ipc, kind)(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    found = [(sample.name, sample.data) for sample in read_samples(str(tmp_path / "a.arrow"))]
    assert found == [("a", b"one"), ("row 1", b"two")]
