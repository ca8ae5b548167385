"""Memory of attacks: said before it is taken, and never more than there is."""

from __future__ import annotations

import pytest

from broken import picture
from conftest import small_kl, small_tiny
from heard import Heard
from pipelines import little
from srlvae.attacks import ATTACKS
from srlvae.attacks.files import attack_files
from srlvae.attacks.memory import plan
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.errors import InputError
from srlvae.models.memory import saved_bytes


@pytest.mark.parametrize("build", [small_kl, small_tiny])
def test_the_estimate_grows_with_the_pixels_as_what_is_kept_does(build, monkeypatch, x):
    vae = build()
    attack = prepare(Request("latent"), vae)
    large = x.repeat(1, 1, 4, 4)[:1].requires_grad_()
    kept = saved_bytes(lambda: vae.mean(large))
    monkeypatch.setattr("srlvae.attacks.memory.free_memory", lambda device: round(10.5 * 1.5 * kept / 0.9))
    # Convolutions keep as much a pixel at every size, but for the edges.
    assert plan(attack, {picture_path(i): (128, 128) for i in range(30)}, 30, Heard()) == {(128, 128): 10}


def picture_path(number: int):
    from pathlib import Path

    return Path(f"{number}.png")


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_says_what_it_takes_before_it_starts(name, tmp_path):
    vae = small_kl()
    picture(0, 64).save(tmp_path / "a.png")
    heard = Heard()
    attack = prepare(Request(name), vae if ATTACKS[name].needs == "vae" else little(vae))
    assert plan(attack, {tmp_path / "a.png": (64, 64)}, 8, heard) == {(64, 64): 8}
    assert heard.texts[-1].startswith("memory: about") and "1 image of 64 x 64 pixels at once" in heard.texts[-1]


def test_an_image_that_does_not_fit_is_left_out_and_the_others_are_attacked(tmp_path, monkeypatch):
    for i, side in enumerate((16, 160, 16)):
        (tmp_path / "in").mkdir(exist_ok=True)
        picture(i, side).save(tmp_path / "in" / f"{i}.png")
    monkeypatch.setattr("srlvae.attacks.memory.free_memory", lambda device: 10**6)
    attack, heard = prepare(Request("latent", steps=1), small_kl()), Heard()
    assert len(attack_files(attack, [tmp_path / "in"], tmp_path / "out", listener=heard)) == 2
    ((file, reason, _),) = heard.omissions
    assert file.endswith("1.png") and "160 x 160 pixels take more memory than is free; give a smaller copy" in reason
    with pytest.raises(InputError, match="more memory than is free"):
        attack_files(attack, [tmp_path / "in" / "1.png"], tmp_path / "alone")


def test_an_image_for_which_memory_runs_out_all_the_same_is_left_out(tmp_path, monkeypatch):
    for i in range(2):
        (tmp_path / "in").mkdir(exist_ok=True)
        picture(i, 16).save(tmp_path / "in" / f"{i}.png")

    def hungry(x, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("srlvae.attacks.papers.latent.latent", hungry)
    with pytest.raises(InputError, match="none of the 2 images can be used.*more memory than is free"):
        attack_files(prepare(Request("latent", steps=1), small_kl()), [tmp_path / "in"], tmp_path / "out")
