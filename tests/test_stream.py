"""Streams: shards are dealt out to processes, every row is read once an epoch, and nothing is read from the start again."""

from __future__ import annotations

import functools
import io
import multiprocessing
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from conftest import small_kl
from heard import Heard
from small import flat_pictures, level
from srlvae.errors import InputError
from srlvae.harden import InnerAttack, Interrupted, harden
from srlvae.harden.apart import set_apart
from srlvae.harden.crops import Crops, batches, readers
from srlvae.harden.memory import Fit
from srlvae.harden.photographs import open_photographs
from srlvae.harden.stream import Deal, StreamPhotographs
from srlvae.harden.trainer import Trainer
from srlvae.training.processes import gathered
from test_harden import CONFIG, WEIGHTS, as_one_of_two, free_port
from test_shards import write_parquet, write_tar

SIZE = 16


class Shards:
    """As a streamed dataset: rows in shards; counts how often each is begun, and breaks one after its rows."""

    def __init__(self, shards: list[list[dict]], begun: Counter[int] | None = None, broken: int | None = None):
        self.shards, self.begun, self.broken = shards, Counter() if begun is None else begun, broken

    @property
    def num_shards(self) -> int:
        return len(self.shards)

    def shard(self, num_shards: int, index: int) -> Shards:
        assert num_shards == len(self.shards)
        self.begun[index] += 1
        return Shards([self.shards[index]], self.begun, 0 if index == self.broken else None)

    def __iter__(self):
        yield from (row for shard in self.shards for row in shard)
        if self.broken is not None:
            raise OSError("cut off")


def shards(count: int, each: int = 4, broken: int | None = None) -> Shards:
    """Flat pictures, whose levels are their numbers, in shards of `each`."""
    images = flat_pictures(count * each).images
    return Shards([[{"image": image} for image in images[i : i + each]] for i in range(0, count * each, each)], broken=broken)


def read(dataset, count: int, deal: Deal | None = None, apart: frozenset[str] = frozenset()) -> list[int]:
    """The levels at the first positions of a stream."""
    stream = StreamPhotographs(dataset, "image", deal=deal, apart=apart)
    return [stream[n].getpixel((0, 0))[0] for n in range(count)]


# --- who reads what


@pytest.mark.parametrize(("count", "processes"), [(10, 1), (10, 2), (10, 3), (7, 4), (1, 2), (2, 3)])
def test_every_shard_is_read_once_an_epoch_by_one_process(count, processes):
    deals = [Deal(0, rank, processes) for rank in range(processes)]
    parts = deals[0].parts(count)
    turns = 6 * parts * count // processes
    # In the order in which they are dealt out.
    dealt = [deal.dealt(turn, count) for turn in range(turns) for deal in deals]
    epochs = [dealt[start : start + count * parts] for start in range(0, len(dealt) - count * parts + 1, count * parts)]
    assert len(epochs) >= 5 and all(len(set(epoch)) == count * parts for epoch in epochs)
    assert count * parts == 1 or epochs[0] != epochs[1]


def test_the_seed_chooses_the_order_and_without_one_it_is_their_own():
    orders = [[Deal(seed).dealt(turn, 10)[0] for turn in range(20)] for seed in (None, 0, 0, 1)]
    assert orders[0] == [*range(10)] * 2 and orders[1] == orders[2] != orders[3]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_positions_of_a_process_ascend_without_gaps(processes):
    together, batch = 2, 2 * processes
    for rank in range(processes):
        own = [b * batch + rank * together + j for b in range(5) for j in range(together)]
        assert [Deal(0, rank, processes, together).position(n) for n in own] == list(range(10))


@pytest.mark.parametrize(("count", "each"), [(10, 4), (1, 12)])
def test_two_processes_read_each_row_once_an_epoch(count, each):
    rows = count * each
    found = [read(shards(count, each), rows, Deal(5, rank, 2)) for rank in range(2)]
    for epoch in range(2):
        half = slice(epoch * rows // 2, (epoch + 1) * rows // 2)
        assert sorted(found[0][half] + found[1][half]) == list(range(rows))
    assert found[0][: rows // 2] != found[0][rows // 2 :]


# --- reading


def test_a_stream_is_read_on_wrapped_around_and_begun_again():
    photographs = StreamPhotographs(shards(1, 3), "image")
    found = [photographs[n].getpixel((0, 0))[0] for n in (0, 1, 4, 5, 6, 1, 2)]
    assert found == [0, 1, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("empty", [[[]], [[], []]])
def test_an_empty_stream_is_refused(empty):
    with pytest.raises(InputError, match="no rows"):
        StreamPhotographs(Shards(empty), "image")[0]


def test_rows_without_an_image_are_named_by_number_and_shard():
    for names, said in (((), "row 1 of shard 1"), (("a.tar", "b.tar"), "row 1 of b.tar")):
        stream = StreamPhotographs(Shards([[{"image": None}] * 3] * 2), "image", names=names)
        with pytest.raises(InputError, match=f"{said}: "):
            stream[4]
        assert stream.name(4) == said
    with pytest.raises(InputError, match="row 0: "):
        StreamPhotographs(Shards([[{"image": None}]]), "image")[0]


def test_what_is_set_apart_is_passed_over_wherever_it_is_again():
    dataset = shards(4)
    dataset.shards[3].append(dataset.shards[0][1])
    held_out, left, chosen = set_apart(StreamPhotographs(dataset, "image"), 3, SIZE, seed=0)
    assert [level(image) for image in held_out] == [0, 1, 2]
    samples = Crops(left.dealt(Deal(0), left.apart, {}), chosen, SIZE, 0)
    for epoch in (range(13), range(13, 26)):
        assert sorted(level(samples[n][0]) for n in epoch) == list(range(3, 16))


def test_a_stream_that_is_too_short_to_set_photographs_apart_says_so():
    with pytest.raises(InputError, match="has only 12 rows, too few to set 32 apart; give a lower --held-out"):
        set_apart(StreamPhotographs(shards(3), "image"), 32, SIZE, seed=0)


def cut_jpeg() -> Image.Image:
    """Opened, and broken only when its pixels are asked for."""
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "JPEG")
    return Image.open(io.BytesIO(file.getvalue()[:800]))


@pytest.mark.parametrize("broken", [lambda: Image.new("RGB", (3, 3)), cut_jpeg])
def test_broken_rows_do_not_begin_a_shard_again(broken):
    dataset = shards(1, 40)
    for i in range(4, 24):
        dataset.shards[0][i] = {"image": broken()}
    samples = Crops(StreamPhotographs(dataset, "image"), range(40), SIZE, 0)
    assert [level(samples[n][0]) for n in range(26)] == [0, 1, 2, 3, *[24] * 20, 24, 25]
    assert dataset.begun == {0: 1}


def test_a_broken_shard_is_named_once_and_the_others_are_read():
    samples = Crops(StreamPhotographs(shards(3, broken=1), "image", names=["a", "b", "c"]), range(1), SIZE, 0)
    found = [samples[n] for n in range(13)]
    assert [level(crop) for crop, _, _ in found] == [*range(8), 8, *range(8, 12)]
    left_out = [entry for _, _, skipped in found for entry in skipped]
    assert left_out == [("b", "a shard that cannot be read to its end (cut off)")]


# What it finds out about its shards is kept in checkpoints.
def test_a_stream_is_read_in_this_process_whatever_the_workers():
    dataset, heard = shards(1, 6), Heard()
    crops = Crops(StreamPhotographs(dataset, "image"), range(6), SIZE, 0)
    assert readers(crops, 2, 2, heard) == 0 and heard.texts == ["a stream is read by the process that trains, not by 2 others"]
    found = list(batches(crops, [[0, 1], [2, 3]], 0))
    assert [level(crop) for batch in found for crop in batch.x] == [0, 1, 2, 3]
    assert dataset.begun == {0: 1}


def test_a_stream_of_which_nothing_is_left_to_train_on_is_refused():
    photographs = StreamPhotographs(shards(1, 6), "image")
    with pytest.raises(InputError, match="nothing is left to train on: all 6 rows are set apart; give a lower --held-out"):
        set_apart(photographs, 6, SIZE, 0)
    nothing = StreamPhotographs(Shards([[]]), "image")
    for _ in range(2):
        with pytest.raises(InputError, match="has no rows"):
            nothing.name(0)


def test_a_stream_that_was_read_can_be_handed_to_another_process():
    photographs = StreamPhotographs(shards(2), "image", deal=Deal(1))
    before = [photographs[n].getpixel((0, 0)) for n in range(6)]
    handed = pickle.loads(pickle.dumps(photographs))
    assert [handed[n].getpixel((0, 0)) for n in range(6)] == before


# --- going on


def test_going_on_opens_no_shard_that_was_read():
    counts: dict[str, int] = {}
    first = StreamPhotographs(shards(10), "image", deal=Deal(0), counts=counts)
    whole = [first[n].getpixel((0, 0)) for n in range(60)]
    again = shards(10)
    stream = StreamPhotographs(again, "image", deal=Deal(0), counts=counts)
    assert [stream[n].getpixel((0, 0)) for n in (46, 47, 48)] == whole[46:49]
    assert again.begun == {Deal(0).dealt(turn, 10)[0]: 1 for turn in (11, 12)}


def test_what_was_read_is_known_and_an_unknown_beginning_is_read():
    stream = StreamPhotographs(shards(3), "image", deal=Deal(0), counts={str(Deal(0).dealt(0, 3)[0]): 4})
    expected = [level for turn in range(3) for level in range(Deal(0).dealt(turn, 3)[0] * 4, Deal(0).dealt(turn, 3)[0] * 4 + 4)]
    assert [stream[n].getpixel((0, 0))[0] for n in (10, 11)] == expected[10:12]
    assert stream.dataset.begun == {Deal(0).dealt(turn, 3)[0]: 1 for turn in (1, 2)}


@pytest.mark.parametrize(("write", "suffix"), [(write_tar, "tar"), (write_parquet, "parquet")])
def test_shards_on_a_disk_are_dealt_out_and_named(write, suffix, tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    for i in range(3):
        write(tmp_path / "in" / f"{i}.{suffix}", 5)
    stream = open_photographs(str(tmp_path / "in"), SIZE, streaming=True)
    assert isinstance(stream, StreamPhotographs) and stream.shards == 3
    dealt = stream.dealt(Deal(0), frozenset(), {})
    order = [Deal(0).dealt(turn, 3)[0] for turn in range(3)]
    names = []
    for n in range(15):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dealt, "decode", lambda cell: Image.new("RGB", (20, 20)))
            dealt[n]
        names.append(dealt.name(n))
    assert names == [f"row {row} of {tmp_path / 'in' / f'{i}.{suffix}'}" for i in order for row in range(5)]


# --- hardening


def files(folder: Path, count: int = 10, each: int = 4) -> Path:
    """Parquet shards of flat pictures whose levels are their numbers."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder.mkdir()
    for i in range(count):
        rows = []
        for image in flat_pictures(count * each, 40).images[i * each : (i + 1) * each]:
            file = io.BytesIO()
            image.save(file, "PNG")
            rows.append({"image": file.getvalue()})
        parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{i}.parquet")
    return folder


@pytest.fixture
def shown(tmp_path, monkeypatch) -> list[int]:
    """The levels of the images that a run takes, as it takes them; there are ten shards, and memory is not counted."""
    files(tmp_path / "in")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("srlvae.harden.trainer.fit", lambda _, terms, batch: Fit(batch, False, None, 0, True))
    found: list[int] = []

    def take(self, place, batch, *rest, taken=Trainer.take):
        found.extend(level(image) for image in batch.x)
        taken(self, place, batch, *rest)

    monkeypatch.setattr(Trainer, "take", take)
    return found


# A new batch every step.
ONCE = replace(CONFIG, objective=replace(CONFIG.objective, attacks=(InnerAttack(steps=1),), turns=1, visits=1))


def run(folder: Path, out: str, config=ONCE, listener=None) -> None:
    harden(small_kl(), open_photographs(str(folder / "in"), SIZE, streaming=True), folder / out, config, listener=listener)


def run_and_tell(folder: Path, config, found: list[int], told) -> None:
    run(folder, "two", config)
    told.put(gathered(found))


def test_two_processes_that_stream_ten_shards_see_each_row_once_an_epoch(tmp_path, shown):
    context = multiprocessing.get_context("fork")
    told, port = context.SimpleQueue(), free_port()
    work = functools.partial(run_and_tell, tmp_path, ONCE.changed(steps=10), shown, told)
    both = [context.Process(target=as_one_of_two, args=(rank, port, work)) for rank in range(2)]
    for process in both:
        process.start()
    one, other = told.get()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0] and len(one) == len(other) == 20
    # 38 are left of 40, as two are set apart; whoever had these two in its shards has begun the next epoch.
    assert set(one + other) == set(range(2, 40)) and len(set(one) | set(other)) == 38


class Stop(Heard):
    """Asks to stop after step 4."""

    def should_stop(self):
        return self.numbers[-1:] == [4]


# Batches take turns, so that some from before the interruption are read again; or each is new.
@pytest.mark.parametrize(("config", "read_before"), [(CONFIG, 2), (ONCE, 4)])
def test_a_run_over_a_stream_goes_on_where_it_stopped(config, read_before, tmp_path, monkeypatch, shown):
    with pytest.raises(Interrupted):
        run(tmp_path, "cut", config, Stop())
    before = list(shown)
    opened: list[int] = []

    def begin(self, shard, part, reading=StreamPhotographs._read_part):
        opened.append(shard)
        return reading(self, shard, part)

    monkeypatch.setattr(StreamPhotographs, "_read_part", begin)
    run(tmp_path, "cut", config)
    cut = before + shown[len(before) :] if config == ONCE else None
    # Shard 0 is read for what is set apart; of the others none that the batches before the interruption had used up.
    assert opened[0] == 0 and opened[1:] == [Deal(0).dealt(read_before + n, 10)[0] for n in range(len(opened) - 1)]
    shown.clear()
    run(tmp_path, "whole", config)
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    assert cut is None or cut == shown


def test_a_stream_does_not_go_on_in_another_number_of_processes(tmp_path, shown):
    with pytest.raises(Interrupted):
        run(tmp_path, "cut", ONCE, Stop())
    record = tmp_path / "cut" / "checkpoints" / "run.json"
    record.write_text(record.read_text().replace('"processes": 1', '"processes": 2'))
    with pytest.raises(InputError, match="processes was 2, is 1"):
        run(tmp_path, "cut", ONCE)
