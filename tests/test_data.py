"""Crops as a function of seed and number, whatever the photographs are like and wherever a run begins."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from heard import Heard
from small import Pictures, flat_pictures, level
from srlvae.errors import InputError
from srlvae.harden.apart import set_apart
from srlvae.harden.crops import Crops, batches, faults_of_workers, readers, training_crop
from srlvae.harden.photographs import FolderPhotographs, HubPhotographs, open_photographs
from srlvae.images import find_images, to_tensor

SIZE = 16


def noisy_pictures(count: int) -> Pictures:
    levels = np.random.default_rng(0).integers(0, 256, (count, 40, 50, 3), np.uint8)
    return Pictures([Image.fromarray(image) for image in levels])


def crops(count: int = 7, seed: int = 0, broken: tuple[int, ...] = ()) -> Crops:
    """Of flat pictures, so that the grey level is the number of the picture."""
    return Crops(flat_pictures(count, broken=broken), list(range(count)), SIZE, seed)


def ramp(width: int, height: int) -> Image.Image:
    """Dark at the left, bright at the right."""
    row = np.linspace(0, 255, width).round().astype(np.uint8)
    return Image.fromarray(np.broadcast_to(row[None, :, None], (height, width, 3)).copy())


# --- samples by number


def test_a_sample_is_a_function_of_seed_and_number():
    pictures = noisy_pictures(5)
    one, other = (Crops(pictures, range(5), SIZE, seed=3) for _ in range(2))
    forward = {n: one[n][0] for n in range(12)}
    backward = {n: other[n][0] for n in reversed(range(12))}
    assert all(torch.equal(forward[n], backward[n]) for n in range(12))


def test_other_seeds_and_other_numbers_are_other_crops():
    pictures = noisy_pictures(1)
    first = Crops(pictures, [0], SIZE, seed=3)[0][0]
    assert not torch.equal(first, Crops(pictures, [0], SIZE, seed=4)[0][0])
    assert not torch.equal(first, Crops(pictures, [0], SIZE, seed=3)[1][0])


def test_every_epoch_has_every_photograph_once_in_an_order_of_its_own():
    samples = crops(7)
    orders = [[level(samples[n][0]) for n in range(7 * epoch, 7 * epoch + 7)] for epoch in range(3)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_only_the_chosen_photographs_are_seen():
    samples = Crops(flat_pictures(9), [8, 2, 5], SIZE, 0)
    assert {level(samples[n][0]) for n in range(9)} == {8, 2, 5}


def test_a_resumed_sequence_is_the_tail_of_the_whole():
    numbers = [[2 * i, 2 * i + 1] for i in range(6)]
    pictures = noisy_pictures(5)
    whole, tail = (list(batches(Crops(pictures, list(range(5)), SIZE, 0), part, 0)) for part in (numbers, numbers[3:]))
    assert [b.numbers for b in tail] == numbers[3:]
    assert all(torch.equal(a.x, b.x) for a, b in zip(whole[3:], tail, strict=True))


def test_other_batches_have_the_same_samples():
    pictures = noisy_pictures(5)
    small = batches(Crops(pictures, list(range(5)), SIZE, 0), [[0], [1], [2], [3]], 0)
    (large,) = batches(Crops(pictures, list(range(5)), SIZE, 0), [[0, 1, 2, 3]], 0)
    assert large.x.shape == (4, 3, SIZE, SIZE) and large.x.dtype == torch.float32
    assert torch.equal(torch.cat([b.x for b in small]), large.x)


def test_the_global_generators_are_untouched():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    noisy = Crops(noisy_pictures(3), list(range(3)), SIZE, 0)
    assert noisy[5][0].shape == (3, SIZE, SIZE)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert numpy_state[2] == np.random.get_state()[2] and (numpy_state[1] == np.random.get_state()[1]).all()


# --- photographs that cannot be used


def test_an_unreadable_photograph_is_replaced_by_the_next_and_reported():
    whole, holed = crops(7), crops(7, broken=(2,))
    for n in range(14):
        crop, number, skipped = holed[n]
        assert number == n
        if level(whole[n][0]) == 2:
            assert skipped == [("photograph 2", "picture 2 is broken")] and level(crop) == level(whole[n + 1][0])
        else:
            assert skipped == [] and torch.equal(crop, whole[n][0])


def test_a_photograph_that_is_too_small_is_replaced_and_reported():
    pictures = Pictures([Image.new("RGB", (7, 100)), Image.new("RGB", (20, 20), "white")])
    found = [Crops(pictures, [0, 1], SIZE, 0)[n] for n in range(4)]
    assert all((crop == 1).all() for crop, _, _ in found)
    reasons = {entry for _, _, skipped in found for entry in skipped}
    assert reasons == {("photograph 0", "7 x 100 pixels: too small for crops of 16")}


def test_a_batch_reports_what_was_skipped_for_any_of_its_samples():
    (batch,) = batches(crops(4, broken=(1, 3)), [[0, 1, 2, 3]], 0)
    assert set(batch.skipped) == {(f"photograph {n}", f"picture {n} is broken") for n in (1, 3)}


def test_photographs_that_are_all_broken_end_the_run_with_the_last_reason():
    with pytest.raises(InputError, match="6 tries in a row.*is broken"):
        crops(3, broken=(0, 1, 2))[0]


# --- the crop


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("shape", [(16, 16), (8, 8), (8, 300), (300, 9), (17, 40), (31, 33), (100, 100), (1000, 333)])
def test_a_crop_has_its_size_and_range_whatever_the_picture(shape):
    crop = training_crop(ramp(*shape), SIZE, rng())
    assert crop.shape == (3, SIZE, SIZE) and crop.dtype == torch.float32
    assert crop.min() >= 0 and crop.max() <= 1


@pytest.mark.parametrize("shape", [(7, 100), (100, 7), (1, 1)])
def test_a_picture_under_half_the_crop_is_refused_with_its_size(shape):
    with pytest.raises(InputError, match=f"{shape[0]} x {shape[1]} pixels: too small for crops of 16"):
        training_crop(ramp(*shape), SIZE, rng())


def test_a_picture_between_once_and_twice_the_crop_is_cut_and_not_resized():
    levels = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)
    crop, whole = training_crop(Image.fromarray(levels), SIZE, rng()), to_tensor(Image.fromarray(levels))
    windows = whole.unfold(1, SIZE, 1).unfold(2, SIZE, 1).permute(1, 2, 0, 3, 4).reshape(-1, 3, SIZE, SIZE)
    assert any(torch.equal(w, crop) or torch.equal(w.flip(2), crop) for w in windows)


def test_a_large_picture_is_reduced_to_twice_the_crop():
    crop = training_crop(ramp(400, 400), SIZE, rng())
    # 16 of 32 columns: half of the ramp, less a column.
    assert (crop.max() - crop.min()).item() == pytest.approx(15 / 31, abs=0.03)


def test_crops_are_flipped_half_of_the_time_and_reach_every_place():
    found = [training_crop(ramp(32, 32), SIZE, rng(seed)) for seed in range(300)]
    flipped = sum(bool(crop[0, 0, 0] > crop[0, 0, -1]) for crop in found)
    # Binomial of 300: three standard deviations are 26.
    assert 124 <= flipped <= 176
    assert len({round(crop.min().item() * 255) for crop in found}) == 32 - SIZE + 1


# --- the photographs set apart


def test_the_photographs_set_apart_are_not_trained_on():
    held_out, _, chosen = set_apart(flat_pictures(50), 5, SIZE, seed=0)
    assert held_out.shape == (5, 3, SIZE, SIZE)
    apart = {level(image) for image in held_out}
    assert len(apart) == 5 and apart.isdisjoint(chosen) and apart | set(chosen) == set(range(50))


def test_they_depend_on_the_seed_alone():
    first, again, other = (set_apart(flat_pictures(50), 5, SIZE, seed) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0]) and first[2] == again[2]
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize(("photographs", "expected"), [(50, 5), (19, 1), (2, 1)])
def test_at_most_a_tenth_is_set_apart_and_at_least_one(photographs, expected):
    held_out, _, chosen = set_apart(flat_pictures(photographs), 32, SIZE, seed=0)
    assert len(held_out) == expected and len(chosen) == photographs - expected


def with_copies(tmp_path) -> FolderPhotographs:
    for i in range(12):
        for name in (f"{i}a", f"{i}b"):
            Image.new("RGB", (32, 32), (i, i, i)).save(tmp_path / f"{name}.png")
    return FolderPhotographs(tmp_path, SIZE)


@pytest.mark.parametrize("kind", ["folder", "table"])
def test_copies_of_photographs_that_are_set_apart_are_not_trained_on(kind, tmp_path):
    photographs = with_copies(tmp_path)
    if kind == "table":
        cells = [{"image": {"bytes": path.read_bytes(), "path": None}} for path in photographs.paths]
        photographs = HubPhotographs(cells, "image")
    held_out, left, chosen = set_apart(photographs, 2, SIZE, seed=0)
    apart, crops = {level(image) for image in held_out}, Crops(left, chosen, SIZE, 0)
    found = [crops[n] for n in range(60)]
    assert len(apart) == 2 and {level(x) for x, _, _ in found} == set(range(12)) - apart
    assert {reason for _, _, skipped in found for _, reason in skipped} == {"a copy of a photograph that is set apart"}


def test_what_cannot_be_read_or_is_too_small_is_not_set_apart():
    pictures = flat_pictures(40, broken=tuple(range(0, 40, 2)))
    pictures.images[1] = Image.new("RGB", (3, 3))
    for seed in range(10):
        held_out, _, chosen = set_apart(pictures, 4, SIZE, seed)
        apart = {level(image) for image in held_out}
        assert all(i % 2 and i != 1 for i in apart) and apart.isdisjoint(chosen)


@pytest.mark.parametrize(("count", "broken"), [(1, ()), (12, tuple(range(12)))])
def test_too_few_readable_photographs_are_refused(count, broken):
    with pytest.raises(InputError, match="too few readable images"):
        set_apart(flat_pictures(count, broken=broken), 4, SIZE, seed=0)


def test_what_a_folder_did_not_let_in_is_named_where_too_few_are_left(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "in" / "a.png")
    Image.new("RGB", (20, 20)).save(tmp_path / "out.png")
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "out.png")
    with pytest.raises(InputError, match=r"1 more were left out, such as .*b\.png: .*follow-links"):
        set_apart(open_photographs(str(tmp_path / "in"), SIZE), 4, SIZE, seed=0)


# --- folders and datasets


@pytest.fixture
def folder(tmp_path):
    for i in range(4):
        Image.new("RGB", (20, 20), (i, i, i)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_a_folder_is_read_in_order_and_its_broken_files_by_name(folder):
    (folder / "2.png").write_bytes(b"broken")
    photographs = open_photographs(str(folder), SIZE)
    assert isinstance(photographs, FolderPhotographs) and len(photographs) == 4
    assert photographs[3].getpixel((0, 0)) == (3, 3, 3)
    with pytest.raises(InputError, match="2.png"):
        photographs[2]


def test_a_large_jpeg_is_decoded_small_but_large_enough(tmp_path):
    Image.new("RGB", (640, 480)).save(tmp_path / "a.jpg")
    assert min(open_photographs(str(tmp_path), 2 * SIZE)[0].size) == 60


@pytest.mark.parametrize("source", ["nowhere", "./no/where", "/no/where"])
def test_a_missing_folder_is_named(source):
    with pytest.raises(InputError, match=f"no such folder: {source}"):
        open_photographs(source, SIZE)


def test_a_pattern_where_a_folder_is_needed_is_told_so(tmp_path):
    with pytest.raises(InputError, match="not a pattern"):
        find_images(tmp_path / "*.png")


def rows(pictures: Pictures) -> list[dict]:
    return [{"image": image} for image in pictures.images]


def test_the_image_column_of_a_dataset_is_read():
    photographs = HubPhotographs(rows(flat_pictures(3)), "image")
    assert len(photographs) == 3 and photographs[2].getpixel((0, 0)) == (2, 2, 2)


def test_a_row_without_an_image_is_refused_by_its_number():
    with pytest.raises(InputError, match="row 0"):
        HubPhotographs([{"image": None}], "image")[0]


def test_a_dataset_saved_to_disk_is_opened(tmp_path):
    datasets = pytest.importorskip("datasets")
    images = datasets.Dataset.from_dict({"n": [0, 1], "picture": flat_pictures(2).images})
    images.cast_column("picture", datasets.Image()).save_to_disk(tmp_path / "saved")
    photographs = open_photographs(str(tmp_path / "saved"), SIZE)
    assert len(photographs) == 2 and photographs[1].getpixel((0, 0)) == (1, 1, 1)


def test_a_dataset_without_images_is_refused_with_its_columns(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match="no image column, only text"):
        open_photographs(str(tmp_path / "saved"), SIZE)


def test_what_goes_wrong_in_a_process_that_reads_is_told_in_a_sentence():
    told = "Caught InputError in DataLoader worker process 0.\nOriginal Traceback:\nsrlvae.errors.InputError: a.png: bad\n"
    for error, said in (
        (InputError(told), "^a.png: bad$"),
        (InputError("a.png: bad"), "^a.png: bad$"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "give fewer --workers"),
    ):
        with pytest.raises(InputError, match=said), faults_of_workers():
            raise error
    with pytest.raises(RuntimeError, match="another"), faults_of_workers():
        raise RuntimeError("another fault")


def test_where_shared_memory_is_short_fewer_processes_read(tmp_path, monkeypatch):
    pictures, heard = flat_pictures(4), Heard()
    room = SimpleNamespace(free=3 * 4 * 3 * 16 * 16 * 2 - 1)
    monkeypatch.setattr("srlvae.harden.crops.shutil.disk_usage", lambda folder: room)
    monkeypatch.setattr("srlvae.harden.crops.SHARED", str(tmp_path))
    assert readers(Crops(pictures, range(4), 16, 0), 2, 2, heard) == 0
    assert heard.texts == [
        "the shared memory of this machine has room for 0 processes that read photographs, not 2; a container is given more by "
        "--shm-size"
    ]


def test_few_photographs_are_not_tried_for_ever():
    with pytest.raises(InputError, match="4 tries in a row found no image that can be used"):
        Crops(flat_pictures(2, broken=(0, 1)), range(2), 16, 0)[0]


def test_a_signal_to_all_processes_ends_no_worker():
    """A launcher's SIGTERM reaches the workers, too, and what they read is still handed over."""
    crops = Crops(flat_pictures(4), range(4), 16, 0)
    samples = batches(crops, [[n % 4] for n in range(12)], 1)
    next(samples)
    for child in psutil.Process().children():
        child.send_signal(signal.SIGTERM)
        child.send_signal(signal.SIGINT)
    assert len(list(samples)) == 11
