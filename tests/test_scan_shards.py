"""Scans of shards: what is read of them, by which engine, and that each is looked at once."""

from __future__ import annotations

import base64
import functools
import io
import os
import re
import signal
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image

from archives import BROKEN, as_png, write_tar
from conftest import small_kl
from heard import Heard
from srlvae.errors import InputError, UnreadableError
from srlvae.harden.photographs import open_photographs
from srlvae.images import to_pil, to_tensor, write_image
from srlvae.images.left_out import Omission
from srlvae.images.shards import find_shards, read_samples
from srlvae.report.scan import write_shards_page
from srlvae.scan import Calibration, Encoders, Score, calibrate_looks, scan, scan_shards, write_verdicts
from srlvae.scan import score as score_all
from srlvae.scan.engines import look_here
from srlvae.scan.files import GROUP, File, Group, look_at_files
from srlvae.scan.highest import LEAST, MOST, OTHERS, Highest
from srlvae.scan.reading import TOGETHER, WAITING, Pictures, Unreadable, read_ahead
from srlvae.scan.shard_tables import SCORES, read_seen
from srlvae.scan.shards import ShardsFound

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
arrow = pytest.importorskip("pyarrow")


def noise(seed: int, side: int = 32) -> torch.Tensor:
    return torch.rand(3, side, side, generator=torch.Generator().manual_seed(seed))


def twin():
    other = small_kl()
    other.model.encoder.conv_in.weight.mul_(1.2)
    return other


@pytest.fixture(scope="module")
def encoders() -> Encoders:
    return Encoders(small_kl(), twin())


@pytest.fixture(scope="module")
def calibration(encoders):
    return calibrate_looks(encoders.look(torch.stack([noise(1000 + i) for i in range(30)])), 0.1)


@pytest.fixture
def shards(tmp_path) -> Path:
    for number in range(3):
        pictures = {f"{number}{i:03}.png": as_png(noise(10 * number + i, 32 + 8 * (i % 2))) for i in range(4)}
        also = {f"{number}000.txt": b"a caption", "notes/readme.md": b"text"}
        write_tar(tmp_path / "shards" / f"{number:05}.tar", {**pictures, **also, f"{number}999.png": BROKEN})
        table = arrow.table({"key": [f"{number}000"], "url": ["https://"]})
        parquet.write_table(table, tmp_path / "shards" / f"{number:05}.parquet")
    return tmp_path / "shards"


def rows(out: Path) -> list[dict]:
    found = parquet.read_table(out / SCORES).to_pylist()
    return sorted(found, key=lambda row: (row["shard"], row["file"]))


# --- reading


def test_pictures_of_an_archive_are_its_images_in_order(shards):
    found = list(read_samples(str(shards / "00001.tar")))
    assert [sample.name for sample in found] == ["1000.png", "1001.png", "1002.png", "1003.png", "1999.png"]
    assert found[0].data == as_png(noise(10)) and found[-1].data == BROKEN


def test_tables_of_what_is_known_of_an_archive_are_no_shards(shards):
    assert [Path(shard).name for shard in find_shards(str(shards))] == ["00000.tar", "00001.tar", "00002.tar"]
    assert find_shards(str(shards / "*1.tar")) == find_shards(str(shards / "00001.tar"))
    assert find_shards(str(shards / "none")) == [] and find_shards("owner/name") == []
    with pytest.raises(InputError, match=r"no file matches .*none\*\.tar; check the folder"):
        find_shards(str(shards / "none*.tar"))


def test_shards_are_read_in_a_store(shards):
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe("/bucket/00000.tar", (shards / "00000.tar").read_bytes())
    found = find_shards("memory://bucket/*.tar")
    assert found == ["memory:///bucket/00000.tar"] or found == ["memory://bucket/00000.tar"]
    assert list(read_samples(found[0])) == list(read_samples(str(shards / "00000.tar")))
    with pytest.raises(InputError, match="needs a package|cannot open"):
        find_shards("nowhere://bucket/*.tar")


@pytest.mark.parametrize("source", ["hf://", "hf://a", "github://", "zip://", "zip://x.tar::none.zip"])
def test_a_store_that_is_named_in_half_is_an_error_that_names_it(source):
    for asked in (find_shards, functools.partial(open_photographs, at_least=64)):
        with pytest.raises(InputError, match=re.escape(source)):
            asked(source)


def test_an_id_of_the_hub_is_no_store(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="cannot load the dataset a/b"):
        open_photographs("hf://a/b", 64)


def test_pictures_of_a_table_are_those_of_the_column_with_bytes(tmp_path):
    data = [as_png(noise(i)) for i in range(3)]
    table = arrow.table({"caption": ["a", "b", "c"], "jpg": [*data[:2], None], "key": ["x", None, "z"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert [(s.name, s.data) for s in read_samples(str(tmp_path / "a.parquet"))] == [
        ("x", data[0]),
        ("row 1", data[1]),
        ("z", None),
    ]
    pictures = arrow.array([{"bytes": one, "path": "p.png"} for one in data])
    parquet.write_table(arrow.table({"image": pictures, "photo": data}), tmp_path / "b.parquet")
    assert [s.data for s in read_samples(str(tmp_path / "b.parquet"))] == data
    assert [s.name for s in read_samples(str(tmp_path / "b.parquet"), "photo")] == ["row 0", "row 1", "row 2"]
    with pytest.raises(UnreadableError, match="no column caption with the bytes"):
        list(read_samples(str(tmp_path / "a.parquet"), "caption"))
    parquet.write_table(arrow.table({"text": ["a"]}), tmp_path / "c.parquet")
    with pytest.raises(UnreadableError, match="no column of pictures, only text"):
        list(read_samples(str(tmp_path / "c.parquet")))


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "gone"])
def test_a_broken_shard_is_an_error_that_names_it(shards, damage):
    shard = shards / "00000.tar"
    raw = shard.read_bytes()
    if damage == "gone":
        shard.unlink()
    else:
        shard.write_bytes({"cut": raw[: len(raw) // 2], "empty": b"", "other": b"x" * 5000}[damage])
    with pytest.raises(UnreadableError, match="00000.tar: a shard that cannot be read"):
        list(read_samples(str(shard)))


def test_images_of_one_size_come_together_and_all_come_once():
    sides = [32, 40, 32, 48] * 10
    found = list(read_ahead(range(40), lambda i: to_pil(noise(i, sides[i]))))
    assert all(isinstance(one, Pictures) and len(one.numbers) <= TOGETHER for one in found)
    assert sorted(number for one in found for number in one.numbers) == list(range(40))
    for one in found:
        for number, x in zip(one.numbers, one.x, strict=True):
            torch.testing.assert_close(x, to_tensor(to_pil(noise(number, sides[number]))))
    assert max(len(one.numbers) for one in found) == TOGETHER


def test_few_images_wait_for_others_of_their_size():
    given = []

    def read(i):
        given.append(i)
        return to_pil(torch.zeros(3, 8 + i, 8))

    first = next(iter(read_ahead(range(500), read)))
    assert isinstance(first, Pictures) and first.numbers == [0] and len(given) <= WAITING + 8


def test_an_image_that_cannot_be_read_has_its_number_and_reason():
    def read(i):
        if i == 1:
            raise UnreadableError("one", "no luck")
        return to_pil(noise(i))

    assert Unreadable(1, "no luck") in list(read_ahead(range(3), read))


# --- looking


def test_looks_do_not_depend_on_what_is_looked_at_together():
    encoders = Encoders(small_kl(), twin(), "no")
    x = torch.stack([noise(i) for i in range(3)])
    for together, image in zip(encoders.look(x), x, strict=True):
        alone = encoders.look(image[None])[0]
        assert together.evidence == pytest.approx(alone.evidence, abs=1e-4)  # float32, summed up in another order
        assert together.likeness == pytest.approx(alone.likeness) and together.thumbnail == alone.thumbnail


def test_precisions_agree_and_are_not_mixed():
    x = torch.stack([noise(i) for i in range(3)])
    exact, rough = (Encoders(small_kl(), twin(), precision) for precision in ("no", "bf16"))
    for a, b in zip(exact.look(x), rough.look(x), strict=True):
        assert a.evidence != b.evidence and a.evidence == pytest.approx(b.evidence, abs=0.3)  # eight bits, through logarithms
    assert exact.identity != rough.identity


def test_every_picture_of_every_shard_has_its_verdict(encoders, calibration, shards, tmp_path):
    heard = Heard()
    counted = scan_shards(encoders, str(shards), tmp_path / "out", calibration, heard).counted
    found = rows(tmp_path / "out")
    assert counted.images == 12 and counted.unreadable == 3 and len(found) == 15
    assert [row["file"] for row in found[:5]] == ["0000.png", "0001.png", "0002.png", "0003.png", "0999.png"]
    assert [Path(row["shard"]).name for row in found[::5]] == ["00000.tar", "00001.tar", "00002.tar"]
    assert "not a readable image" in found[4]["error"] and found[4]["score"] is None
    looked = encoders.look(to_tensor(to_pil(noise(13, 40)))[None])[0]
    evidence, traits = (torch.tensor([part]) for part in (looked.evidence, looked.likeness))
    wanted = calibration.judge(evidence, traits)[0].item()
    assert found[8]["file"] == "1003.png" and found[8]["score"] == pytest.approx(wanted, abs=0.2)  # bfloat16, another batch
    assert sum("1 of its pictures" in reason for _, reason, _ in heard.omissions) == 3


def test_a_shard_is_looked_at_once_and_again_when_it_was_replaced(encoders, calibration, shards, tmp_path):
    looked: list[str] = []

    def engine(encoders, todo, look_at, listener):
        looked.extend(Path(shard).name for shard in todo)
        return look_here(encoders, todo, look_at, listener)

    def scanned():
        looked.clear()
        scan_shards(encoders, str(shards), tmp_path / "out", calibration, engine=engine)
        return rows(tmp_path / "out")

    first = scanned()
    assert looked == ["00000.tar", "00001.tar", "00002.tar"]
    assert scanned() == first and looked == []
    write_tar(shards / "00001.tar", {"new.png": as_png(noise(77))})
    second = scanned()
    assert looked == ["00001.tar"] and [row["file"] for row in second if "00001" in row["shard"]] == ["new.png"]


def test_an_interrupted_scan_goes_on_with_the_next_shard(encoders, calibration, shards, tmp_path):
    def engine(encoders, todo, look_at, listener):
        for number, shard in enumerate(todo):
            if number == 1:
                raise KeyboardInterrupt
            yield from look_at(encoders, shard, listener)

    with pytest.raises(KeyboardInterrupt):
        scan_shards(encoders, str(shards), tmp_path / "out", calibration, engine=engine)
    assert len(read_seen(tmp_path / "out", str(shards / "00000.tar"))) == 5
    heard = Heard()
    counted = scan_shards(encoders, str(shards), tmp_path / "out", calibration, heard).counted
    assert counted.images == 12 and heard.bars["shards"] == [(2, 3), (3, 3)]


def test_a_broken_shard_is_named_and_the_others_are_scanned(encoders, calibration, shards, tmp_path):
    (shards / "00001.tar").write_bytes((shards / "00001.tar").read_bytes()[:700])
    heard = Heard()
    counted = scan_shards(encoders, str(shards), tmp_path / "out", calibration, heard).counted
    assert counted.images == 8
    assert [Path(file).name for file, _, whole in heard.omissions if whole] == ["00001.tar"]
    assert "00001.tar" in (tmp_path / "out" / "left-out.csv").read_text()


def test_verdicts_on_shards_that_are_gone_or_broken_are_removed(encoders, calibration, shards, tmp_path):
    scan_shards(encoders, str(shards), tmp_path / "out", calibration)
    before = {row["shard"] for row in rows(tmp_path / "out")}
    (shards / "00002.tar").unlink()
    (shards / "00001.tar").write_bytes((shards / "00001.tar").read_bytes()[:700])
    found = scan_shards(encoders, str(shards), tmp_path / "out", calibration)
    after = {row["shard"] for row in rows(tmp_path / "out")}
    assert {Path(shard).name for shard in before - after} == {"00001.tar", "00002.tar"}
    assert found.counted.images + found.counted.unreadable == len(rows(tmp_path / "out")) > 0


def test_what_another_process_left_out_is_in_the_main_ones_table(encoders, calibration, shards, tmp_path, monkeypatch):
    other = [Omission("elsewhere.tar", "it is broken"), Omission("b.gif", "later frames", whole=False)]
    monkeypatch.setattr("srlvae.scan.folder.gathered", lambda own: [own, other])
    scan_shards(encoders, str(shards), tmp_path / "tables", calibration)
    folder = tmp_path / "pictures"
    write_image(folder / "a.png", noise(0))
    scan(encoders, folder, tmp_path / "files")
    for out in ("tables", "files"):
        assert "elsewhere.tar,all,it is broken" in (tmp_path / out / "left-out.csv").read_text()


def test_of_ten_shards_the_broken_one_is_named_and_nine_have_tables(encoders, calibration, tmp_path):
    for number in range(10):
        write_tar(tmp_path / "shards" / f"{number}.tar", {f"{number}.png": as_png(noise(number))})
    (tmp_path / "shards" / "4.tar").write_bytes((tmp_path / "shards" / "4.tar").read_bytes()[:600])
    heard = Heard()
    found = scan_shards(encoders, str(tmp_path / "shards"), tmp_path / "out", calibration, heard)
    assert [Path(file).name for file, _, _ in heard.omissions] == ["4.tar"]
    assert found.counted.images == 9 == len(list((tmp_path / "out" / SCORES).iterdir()))
    assert {row["file"] for row in rows(tmp_path / "out")} == {f"{i}.png" for i in range(10) if i != 4}


# --- the page


def page_of(out: Path, source: Path, found: ShardsFound, calibration: Calibration) -> str:
    return write_shards_page(out, str(source), found, calibration, "some").read_text(encoding="utf-8")


def test_the_page_has_the_pictures_of_shards_in_the_order_of_their_scores(encoders, calibration, shards, tmp_path):
    found = scan_shards(encoders, str(shards), tmp_path / "out", calibration)
    text = page_of(tmp_path / "out", shards, found, calibration)
    figures = re.findall(r'<img alt="" src="data:image/jpeg;base64,([^"]+)">\s*<figcaption>(.*?)<br>', text)
    assert len(figures) == 12 == text.count("<figure") and "3 files could not be read" in text
    told = {f"{row['shard']}: {row['file']}": row for row in rows(tmp_path / "out")}
    values = [told[name]["score"] for _, name in figures if not told[name]["reason"]]
    assert values == sorted(values, reverse=True)
    for data, name in figures:
        number = int(told[name]["file"][:4])
        number = 10 * (number // 1000) + number % 1000
        x = to_tensor(Image.open(io.BytesIO(base64.b64decode(data))))
        wanted = noise(number, x.shape[-1])
        # JPEG of noise is far off in each pixel, and nearer to its own picture than to any other.
        assert (x - wanted).abs().mean() < 0.1 < (x - noise(number + 5, x.shape[-1])).abs().mean()


def test_a_shard_that_was_replaced_or_removed_has_no_pictures_on_the_page(encoders, calibration, shards, tmp_path):
    found = scan_shards(encoders, str(shards), tmp_path / "out", calibration)
    write_tar(shards / "00001.tar", {"new.png": as_png(noise(77))})
    (shards / "00002.tar").unlink()
    text = page_of(tmp_path / "out", shards, found, calibration)
    assert text.count("<figure") == 12 and text.count("data:image/jpeg") == 4


def test_names_in_shards_are_text_on_the_page(encoders, calibration, tmp_path):
    hostile = "<img src=x onerror=alert(1)>&'.png"
    write_tar(tmp_path / "<b>shards" / "a.tar", {hostile: as_png(noise(0)), "caf\udce9.png": as_png(noise(1))})
    found = scan_shards(encoders, str(tmp_path / "<b>shards"), tmp_path / "out", calibration)
    text = page_of(tmp_path / "out", tmp_path / "<b>shards", found, calibration)
    assert "<img src=x" not in text and "<b>" not in text and "&lt;img src=x" in text
    assert text.count("data:image/jpeg") == 2


def test_a_page_of_many_shards_keeps_the_highest_and_no_more():
    highest = Highest()
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(50, 40, generator=draw).tolist()
    for number, shard in enumerate(values):
        scores = [Score(f"{i}", value, unlike="dark" if i % 4 == 0 else "") for i, value in enumerate(shard)]
        highest.add(f"{number:02}", [*scores, Score("broken", None)])
    like = sorted((v for shard in values for i, v in enumerate(shard) if i % 4), reverse=True)
    assert [one.score.value for one in highest.like] == like[:MOST] and len(highest.others) == OTHERS
    assert all(values[int(one.shard)][one.number] == one.score.value for one in highest.like)
    assert [len(highest.shown(n)) for n in (5, 80, 4000)] == [LEAST, 80, MOST]


def test_a_text_in_the_place_of_a_picture_is_no_path(tmp_path):
    own = tmp_path / "own.png"
    own.write_bytes(as_png(noise(0)))
    cell = arrow.array([{"bytes": str(own), "extra": b"binary"}])
    parquet.write_table(arrow.table({"image": cell}), tmp_path / "a.parquet")
    assert [sample.data for sample in read_samples(str(tmp_path / "a.parquet"))] == [None]


def test_tables_of_another_source_or_precision_are_refused(encoders, calibration, shards, tmp_path):
    scan_shards(encoders, str(shards), tmp_path / "out", calibration)
    with pytest.raises(InputError, match="begun with other settings: folder was"):
        scan_shards(encoders, str(shards / "00001.tar"), tmp_path / "out", calibration)
    with pytest.raises(InputError, match="precision was"):
        precision = "no" if encoders.precision == "bf16" else "bf16"
        scan_shards(Encoders(small_kl(), twin(), precision), str(shards), tmp_path / "out", calibration)


class Weighed(Heard):
    """Weighs the process after every shard."""

    def __init__(self):
        super().__init__()
        self.bytes: list[int] = []

    def at(self, bar, number, total=None, note=""):
        if bar == "shards":
            self.bytes.append(psutil.Process().memory_info().rss)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_shards(encoders, calibration, tmp_path):
    count, each, side = 60, 16, 64
    for number in range(count):
        pictures = {f"{i:03}.png": as_png(noise(each * number + i, side)) for i in range(each)}
        write_tar(tmp_path / "shards" / f"{number:05}.tar", pictures)
    heard = Weighed()
    found = scan_shards(encoders, str(tmp_path / "shards"), tmp_path / "out", calibration, heard)
    assert found.counted.images == count * each
    late = heard.bytes[count // 4 :]
    # Half of what the images alone would take if they were kept.
    assert max(late) - min(late) < min(0.1 * min(late), 0.5 * count * each * 3 * side * side * 4)


def test_a_folder_that_a_worker_does_not_have_is_an_error_that_says_what_to_do(encoders, tmp_path):
    group = Group(tmp_path / "none", (File(tmp_path / "none" / "a.png"),))
    with pytest.raises(InputError, match="none is not on .*; put the folder on a file system that all machines share"):
        list(look_at_files(encoders, group, Heard()))


def dying(died: Path) -> Encoders:
    """Encoders that kill their process once, and leave a file behind."""

    # In here, as workers do not find the modules of tests.
    class Dying(Encoders):
        def look(self, x, listener=None):
            if not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().look(x, listener)

    return Dying(small_kl(), twin())


@pytest.mark.slow
# Ray warns of settings of its own.
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_same_table_though_a_worker_dies(encoders, calibration, shards, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed")
    from srlvae.scan.on_ray import ray_engine

    scan_shards(dying(tmp_path / "died"), str(shards), tmp_path / "ray", calibration, engine=ray_engine(2))
    assert (tmp_path / "died").exists()
    scan_shards(encoders, str(shards), tmp_path / "here", calibration)
    assert rows(tmp_path / "ray") == rows(tmp_path / "here")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_same_table_of_a_folder_though_a_worker_dies(encoders, calibration, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed")
    from srlvae.scan.on_ray import ray_engine

    folder = tmp_path / "images"
    for i in range(2 * GROUP + 5):
        write_image(folder / f"{i % 3}" / f"{i}.png", noise(i, 32 + 8 * (i % 2)))
    (folder / "broken.png").write_bytes(BROKEN)
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(as_png(noise(999)))
    tables, heard = {}, {"ray": Heard(), "here": Heard()}
    for name, with_, engine in (("ray", dying(tmp_path / "died"), ray_engine(2)), ("here", encoders, look_here)):
        seen = scan(with_, folder, tmp_path / name, heard[name], engine)
        tables[name] = write_verdicts(tmp_path / name, score_all(seen, calibration), calibration).read_bytes()
    assert (tmp_path / "died").exists() and tables["ray"] == tables["here"] and tables["here"].count(b"\n") == 2 * GROUP + 8
    assert sorted(heard["ray"].omissions) == sorted(heard["here"].omissions) and len(heard["here"].omissions) == 1
