"""What a benchmark keeps is checked when it is read: what is broken, another's or beyond its budget is made again, and told."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from heard import Heard
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.bench import cache
from srlvae.bench.attacked import attacked_images, noisy_images, photograph_set
from srlvae.bench.cache import Cache, key_of
from srlvae.bench.kept import read_kept, read_kept_record, write_kept, write_kept_record
from srlvae.errors import InputError
from srlvae.images import write_image
from srlvae.training import processes

X = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(0)).mul(255).round() / 255
KEYS = [key_of("noisy", number=i) for i in range(3)]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def flipped(path: Path) -> None:
    """One level of one pixel is another."""
    image = Image.open(path)
    image.load()
    info, (red, green, blue) = image.text["srlvae"], image.getpixel((1, 1))
    image.putpixel((1, 1), (red ^ 1, green, blue))
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    texts.add_itxt("srlvae", info)
    image.save(path, pnginfo=texts)


def unmarked(path: Path) -> None:
    write_image(path, X)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_note(path: Path) -> None:
    write_kept(path, "another key", X, {"doubts": []})


SPOIL = (cut, flipped, unmarked, empty, other_note)


@pytest.mark.parametrize("spoil", SPOIL)
def test_an_image_that_was_spoilt_is_made_again_and_told(spoil, tmp_path):
    made: list[int] = []

    def make(part: list[int]):
        made.extend(part)
        return torch.stack([X] * len(part)), [{"doubts": [f"of {i}"]} for i in part]

    first = Cache(tmp_path, 2).images(KEYS, make)
    assert torch.equal(first, torch.stack([X] * 3)) and made == [0, 1, 2]
    spoil(Cache(tmp_path, 2).path(KEYS[1]))
    made.clear()
    heard = Heard()
    kept = Cache(tmp_path, 2, heard)
    assert torch.equal(kept.images(KEYS, make), first) and made == [1]
    assert len(heard.texts) == 1 and "broken" in heard.texts[0] and KEYS[1] in heard.texts[0]
    assert kept.notes(KEYS) == [{"doubts": [f"of {i}"]} for i in range(3)]


def test_an_image_under_another_key_is_none_of_it(tmp_path):
    kept = Cache(tmp_path, 2)
    kept.images(KEYS[:1], lambda part: (X[None], [None]))
    other = X.flip(2)
    kept.path(KEYS[1]).parent.mkdir(exist_ok=True)
    shutil.copy(kept.path(KEYS[0]), kept.path(KEYS[1]))
    assert torch.equal(kept.images(KEYS[1:2], lambda part: (other[None], [None]))[0], other)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"psnr": 3}', '{"sha256": "0", "note": {"psnr": 99}}'])
def test_a_record_that_was_changed_is_made_again(text, tmp_path):
    heard = Heard()
    kept, key = Cache(tmp_path, 2, heard), key_of("compared", edits=["a"])
    kept.record(key, lambda: {"psnr": 20.5})
    kept.path(key, ".json").write_text(text)
    assert kept.record(key, lambda: {"psnr": 21.5}) == {"psnr": 21.5} and len(heard.texts) == 1


def test_a_record_with_a_picture_needs_it(tmp_path):
    kept, key, picture = Cache(tmp_path, 2), key_of("compared", edits=["a"]), tmp_path / "sheet.webp"

    def make() -> dict:
        write_image(picture, X)
        return {"psnr": 20.5}

    kept.record(key, make, picture)
    picture.unlink()
    assert not kept.has_record(key, picture) and kept.has_record(key)
    kept.record(key, make, picture)
    assert kept.has_record(key, picture)


def test_an_image_that_is_asked_for_several_times_is_made_once(tmp_path):
    made = []

    def make(part):
        made.extend(part)
        return torch.stack([X * i / 4 for i in part]), [None] * len(part)

    found = Cache(tmp_path, 2).images(["a", "b", "a", "c", "b"], make)
    assert made == [0, 1, 3] and torch.equal(found[0], found[2]) and torch.equal(found[1], found[4])
    assert not torch.equal(found[0], found[1])


def test_what_is_kept_comes_back(tmp_path):
    write_kept(tmp_path / "a.png", "key", X, {"λ": [1, None]})
    image, note = read_kept(tmp_path / "a.png", "key")
    assert torch.equal(image, X) and note == {"λ": [1, None]}
    write_kept_record(tmp_path / "a.json", "key", [1.5, None])
    assert read_kept_record(tmp_path / "a.json", "key") == [1.5, None]
    with pytest.raises(InputError, match="has changed since it was written"):
        read_kept_record(tmp_path / "a.json", "other")


# --- budgets


def test_kept_images_beyond_their_budget_are_attacked_again(vae, x, tmp_path):
    clean, heard = photograph_set((x * 255).round() / 255), Heard()
    kept = Cache(tmp_path, 2, heard)
    attack = prepare(Request("latent", eps=8 / 255, steps=1), vae)
    attacked = attacked_images(attack, clean, kept)
    noisy = noisy_images(clean, "uniform-noise", 8 / 255, 0, kept)
    for made in (attacked, noisy):
        far = (made.images[0] + 20 / 255).clamp(0, 1)
        # As this program would keep it: nothing but the budget is wrong.
        write_kept(kept.path(made.keys[0]), made.keys[0], far, kept.notes(made.keys[:1])[0])
    assert torch.equal(attacked_images(attack, clean, kept).images, attacked.images)
    assert torch.equal(noisy_images(clean, "uniform-noise", 8 / 255, 0, kept).images, noisy.images)
    assert len(heard.texts) == 2 and all("not within its budget" in text for text in heard.texts)


def test_an_attack_beyond_its_budget_is_kept_nowhere(vae, x, tmp_path, monkeypatch):
    clean = photograph_set((x * 255).round() / 255)
    monkeypatch.setattr("srlvae.attacks.prepared.PreparedAttack.perturb", lambda self, x, names, trace: 1 - x)
    with pytest.raises(AssertionError, match="beyond its budget"):
        attacked_images(prepare(Request("latent", eps=8 / 255, steps=1), vae), clean, Cache(tmp_path, 2))


# --- several processes


def test_processes_that_see_different_things_say_so_in_place_of_waiting(tmp_path, monkeypatch):
    import threading

    who = threading.local()
    monkeypatch.setattr(cache, "processes", lambda: SimpleNamespace(process_index=who.number, num_processes=2))

    def process(number: int) -> str:
        who.number = number
        keys = [key_of("noisy", number=i, precision=number) for i in range(4)]
        try:
            Cache(tmp_path, 2).images(keys, lambda part: (torch.stack([X] * len(part)), [None] * len(part)))
        except InputError as error:
            return str(error)
        return "met"

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(process, range(2)))
    assert all("it works on other photographs, models or settings than this one" in text for text in said)


def test_a_broken_image_of_another_process_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "processes", lambda: SimpleNamespace(process_index=0, num_processes=2))
    kept = Cache(tmp_path, 2)
    kept.path(KEYS[1]).parent.mkdir(parents=True)
    kept.path(KEYS[1]).write_bytes(b"broken")
    with ThreadPoolExecutor(1) as pool:
        later = pool.submit(lambda: (__import__("time").sleep(0.3), write_kept(kept.path(KEYS[1]), KEYS[1], X)))
        found = kept.images(KEYS[:2], lambda part: (torch.stack([X] * len(part)), [None] * len(part)))
        later.result()
    assert torch.equal(found, torch.stack([X, X]))


def test_what_the_main_process_works_out_holds_for_all(monkeypatch):
    assert processes.told([3, 1]) == [3, 1]
    monkeypatch.setattr(processes, "processes", lambda: SimpleNamespace(num_processes=2))
    monkeypatch.setattr(processes, "_group", lambda: None)

    def silent(*_, **__):
        raise RuntimeError("[Rank 1] is gone\nand more")

    monkeypatch.setattr(processes.distributed, "monitored_barrier", silent)
    with pytest.raises(InputError, match="while they were scoring: .*again to resume the run .*Rank 1.* is gone.$"):
        processes.meet("scoring")


# --- whose a folder is


def test_a_benchmark_claims_its_folder(tmp_path):
    from srlvae.bench.output import claim_output

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "plot.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="something else in it"):
        claim_output(tmp_path / "mine", "editing", "editing.json")
    claim_output(tmp_path / "out", "editing", "editing.json")
    (tmp_path / "out" / "editing.json").write_text("{}")
    claim_output(tmp_path / "out", "editing", "editing.json")
    with pytest.raises(InputError, match="benchmark was editing, is poisoning"):
        claim_output(tmp_path / "out", "poisoning", "poisoning.json")
    # One from before there were records goes on.
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "editing.json").write_text("{}")
    claim_output(tmp_path / "old", "editing", "editing.json")
    assert json.loads((tmp_path / "old" / "benchmark.json").read_text()) == {"benchmark": "editing"}
    assert not os.path.exists(tmp_path / "old" / ".alive-0")
