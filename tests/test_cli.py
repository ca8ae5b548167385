"""The command line: what a user types, and what bad input gets: exit code 2, a sentence, nothing written."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image

from conftest import small_kl
from pipelines import little
from srlvae.attacks import ATTACKS
from srlvae.cli import main
from srlvae.finetune import CHECKPOINT
from srlvae.images import read_image
from srlvae.models.noise import denoising_loss
from srlvae.models.vae import load_vae

pytestmark = pytest.mark.usefixtures("short_scores")


@pytest.fixture
def folder(tmp_path):
    return filled(tmp_path)


def filled(folder: Path) -> Path:
    """The folder with a VAE and photographs in it."""
    small_kl().save(folder / "vae")
    (folder / "photographs").mkdir()
    for i in range(12):
        levels = torch.randint(0, 256, (8, 8, 3), generator=torch.Generator().manual_seed(i), dtype=torch.uint8)
        Image.fromarray(levels.numpy()).resize((64, 64)).save(folder / "photographs" / f"{i}.png")
    return folder


def run(monkeypatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["srlvae", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def harden_words(folder, *more: object) -> tuple[object, ...]:
    words = ("--images", folder / "photographs", "--out", folder / "out", "--workers", 0, "--features", "none")
    return "harden", folder / "vae", *words, "--resolution", 32, "--steps", 2, "--batch-size", 2, "--precision", "no", *more


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, str]:
    """A folder with a VAE, photographs and the hardened VAE, of which tests only read, and what the command said."""
    folder, said = filled(tmp_path_factory.mktemp("done")), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        assert run(patch, *harden_words(folder)) == 0
    return folder, said.getvalue()


def test_harden_then_attack(done, tmp_path, monkeypatch):
    folder, said = done
    assert "bench reconstruction" in said
    words = ("attack", "latent", folder / "photographs" / "0.png", "--vae", folder / "out", "--eps", "8/255", "--steps", 3)
    assert run(monkeypatch, *words, "--out", tmp_path / "attacked") == 0
    moved = (read_image(tmp_path / "attacked" / "0.png") - read_image(folder / "photographs" / "0.png")).abs().max() * 255
    assert 0 < moved.round() <= 8
    assert json.loads((tmp_path / "attacked" / "0.json").read_text())["effective_eps"] == f"{moved.round():.0f}/255"


def test_a_hardened_vae_is_exported_by_the_command_that_harden_names(done, tmp_path, monkeypatch, capsys):
    folder, said = done
    assert f"srlvae export {folder / 'out'} --to ldm --out out.safetensors" in said.replace("\n", "")
    words = ("export", folder / "out", "--to", "ldm", "--dtype", "float16")
    assert run(monkeypatch, *words, "--out", tmp_path / "out.safetensors") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "its layers differ from those of the published models" in shown
    again, hardened = load_vae(tmp_path / "out.safetensors"), load_vae(folder / "out", dtype=torch.float16)
    assert again.fingerprint() == hardened.fingerprint()
    assert run(monkeypatch, *words, "--out", tmp_path / "out.safetensors") == 2
    assert "exists already" in " ".join(capsys.readouterr().err.split())
    words = ("export", folder / "out", "--to", "ldm", "--dtype", "fp8", "--out", tmp_path / "other.safetensors")
    assert run(monkeypatch, *words) == 2
    assert "no dtype 'fp8'" in capsys.readouterr().err


def test_an_export_says_where_it_is_loaded(tmp_path, monkeypatch, capsys):
    AutoencoderTiny().save_pretrained(tmp_path / "tiny")
    words = ("export", tmp_path / "tiny", "--to", "taesd", "--name", "taesdxl", "--out", tmp_path / "pair")
    assert run(monkeypatch, *words) == 0
    assert "models/vae_approx of ComfyUI, and choose taesdxl" in " ".join(capsys.readouterr().out.split())
    assert (
        load_vae(tmp_path / "pair" / "taesdxl_decoder.safetensors").fingerprint() == load_vae(tmp_path / "tiny").fingerprint()
    )


def test_apply_puts_an_encoder_onto_its_base_and_onto_no_other(done, tmp_path, monkeypatch, capsys):
    folder, _ = done
    assert run(monkeypatch, "apply", folder / "out", "--to", folder / "vae", "--out", tmp_path / "applied") == 0
    hardened = load_vae(folder / "out").fingerprint()
    assert load_vae(tmp_path / "applied").fingerprint() == hardened and hardened in capsys.readouterr().out
    encoder = folder / "out" / "encoder.safetensors"
    assert run(monkeypatch, "apply", encoder, "--to", folder / "vae", "--out", tmp_path / "applied") == 2
    assert "has something in it" in " ".join(capsys.readouterr().err.split())
    assert run(monkeypatch, "apply", encoder, "--to", folder / "out", "--out", tmp_path / "twice") == 2
    assert "belongs to another base" in " ".join(capsys.readouterr().err.split()) and not (tmp_path / "twice").exists()


@pytest.fixture(scope="module")
def plain() -> dict[int, str]:
    """What comes out without an option, by the number of words of the settings; every test has the same photographs."""
    return {}


@pytest.mark.parametrize(
    "more",
    [
        ("--objective", "fare"),
        ("--closeness", "0.3"),
        ("--eps", "2/255"),
        ("--steps", "3"),
        ("--batch-size", "3"),
        ("--resolution", "64"),
        ("--learning-rate", "1e-3"),
        ("--seed", "1"),
    ],
    ids=lambda more: more[0],
)
def test_an_option_of_harden_changes_what_comes_out(folder, monkeypatch, more, plain):
    # Batches are few and soon replaced by new ones, by which closeness is steered.
    (folder / "quick.toml").write_text("workers = 0\n[objective]\nturns = 4\nvisits = 2\n")
    settings = () if more[0] == "--objective" else ("--config", folder / "quick.toml")

    def hardened(out: str, *words: object) -> str:
        options = ("--steps", 6, *settings, "--out", folder / out, *words)
        assert run(monkeypatch, *harden_words(folder, *options)) == 0
        return json.loads((folder / out / "srlvae.json").read_text())["hardened"]

    if len(settings) not in plain:
        plain[len(settings)] = hardened("plain")
    assert hardened("changed", *more) != plain[len(settings)]


@pytest.mark.parametrize(
    "more, message",
    [
        (("--eps", "8"), "8/255"),
        (("--eps", "eight"), "fraction"),
        (("--images", "nowhere"), "no such folder"),
        (("--resolution", "30"), "multiples of 4"),
        (("--preset", "gpu"), "unknown preset"),
        (("--features", "vgg"), "must be one of"),
        (("--config", "nowhere.toml"), "cannot read settings"),
        (("--config", "nowhere.toml", "--objective", "fare"), "neither --preset nor --objective"),
    ],
)
def test_bad_words_exit_with_2_and_write_nothing(folder, monkeypatch, capsys, more, message):
    assert run(monkeypatch, *harden_words(folder, *more)) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (folder / "out").exists()


def test_a_folder_without_images_or_a_vae_exits_with_2(folder, monkeypatch, capsys):
    (folder / "empty").mkdir()
    assert run(monkeypatch, *harden_words(folder, "--images", folder / "empty")) == 2
    assert "no images below" in capsys.readouterr().err.replace("\n", " ")
    assert run(monkeypatch, "harden", folder / "empty", *harden_words(folder)[2:]) == 2
    assert "no config.json" in " ".join(capsys.readouterr().err.split())


def test_a_full_disk_exits_with_2(folder, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("srlvae.training.checkpoint.save_file", full)
    assert run(monkeypatch, *harden_words(folder)) == 2
    assert "No space left" in capsys.readouterr().err
    assert not list((folder / "out").rglob("*.partial*"))


def test_the_list_of_attacks(monkeypatch, capsys):
    assert run(monkeypatch, "attack", "--list") == 0
    shown = capsys.readouterr().out
    # In 80 columns, which the terminal of a test has, nothing is cut or wrapped: a line for each attack and each preset.
    names = {name for name in ATTACKS} | {f"  {preset}" for attack in ATTACKS.values() for preset in attack.presets}
    assert {line[2:].split(" │")[0].split("│")[0].rstrip() for line in shown.splitlines() if line.startswith("│")} >= names
    assert all(word in shown for word in (*ATTACKS, "notebook-inpainting", "7.65/255", "8 (ℓ2)"))


def test_a_preset_and_an_attack_on_a_pipeline(folder, monkeypatch, capsys):
    little(small_kl()).pipe.save_pretrained(folder / "pipeline")
    photograph = folder / "photographs" / "0.png"
    words = ("attack", "mist-fused", photograph, "--pipeline", folder / "pipeline", "--steps", 2, "--prompt", "a cat")
    assert run(monkeypatch, *words, "--out", folder / "misted") == 0
    said = json.loads((folder / "misted" / "0.json").read_text())
    assert said["pipeline"] == str(folder / "pipeline") and said["options"] == {"prompt": "a cat"}
    words = ("attack", "photoguard-encoder", photograph, "--vae", folder / "vae", "--preset", "app", "--steps", 2)
    assert run(monkeypatch, *words, "--out", folder / "guarded") == 0
    assert json.loads((folder / "guarded" / "0.json").read_text())["eps"] == "15.3/255"
    assert "sheet.png" in capsys.readouterr().out and (folder / "guarded" / "sheet.png").exists()


def test_an_attack_through_the_edit_says_what_memory_it_needs(folder, monkeypatch, capsys):
    little(small_kl()).pipe.save_pretrained(folder / "pipeline")
    words = ("attack", "photoguard-diffusion", folder / "photographs" / "0.png", "--pipeline", folder / "pipeline")
    assert run(monkeypatch, *words, "--steps", 1, "--out", folder / "out") == 0
    assert "GB at the peak (weights" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "words, message",
    [
        (("latent", "--preset", "v9"), "latent has no preset 'v9'"),
        (("latent", "--prompt", "a cat"), "latent takes no prompt"),
        (("advdm", "--pipeline", "nowhere"), "not a folder, hub id, bundled pipeline"),
        (("latent", "--mask", "nowhere.png"), "nowhere.png"),
    ],
)
def test_a_bad_attack_exits_with_2(words, message, folder, monkeypatch, capsys):
    more = ("--vae", folder / "vae") if words[0] == "latent" else ()
    photograph = folder / "photographs" / "0.png"
    assert run(monkeypatch, "attack", words[0], photograph, *words[1:], *more, "--out", folder / "out") == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_finetune_then_generate(folder, monkeypatch, capsys):
    little(small_kl()).pipe.save_pretrained(folder / "pipe")
    words = ("finetune", "--images", folder / "photographs", "--pipeline", folder / "pipe", "--steps", 1, "--batch-size", 2)
    words += ("--precision", "no", "--out", folder / "tuned")
    assert run(monkeypatch, *words) == 2 and "or --prompt" in capsys.readouterr().err
    assert run(monkeypatch, *words, "--prompt", "a cat") == 0
    words = ("generate", "--pipeline", folder / "tuned", "--prompt", "a cat", "--steps", 1, "--n", 1, "--out", folder / "made")
    assert run(monkeypatch, *words) == 0 and (folder / "made" / "sheet.png").exists()


def test_a_signal_stops_after_the_step_and_the_end_says_how_to_go_on(folder, monkeypatch, capsys):
    little(small_kl()).pipe.save_pretrained(folder / "pipe")
    words = ("finetune", "--images", folder / "photographs", "--pipeline", folder / "pipe", "--steps", 3, "--batch-size", 2)
    words += ("--prompt", "a cat", "--precision", "no", "--out", folder / "tuned")
    loss = denoising_loss

    def signalled(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        return loss(*given)

    with monkeypatch.context() as patched:
        patched.setattr("srlvae.finetune.loop.denoising_loss", signalled)
        assert run(patched, *words) == 130 and "resumes the run" in capsys.readouterr().err
    assert (folder / "tuned" / CHECKPOINT).exists()
    assert run(monkeypatch, *words) == 0 and (folder / "tuned" / "model_index.json").exists()


def test_scan_writes_a_table_and_a_page(folder, monkeypatch, capsys):
    other = small_kl()
    other.model.encoder.conv_in.weight.mul_(1.2)
    other.save(folder / "other")
    (folder / "photographs" / "notes.doc").write_text("no image")
    words = ("scan", folder / "photographs", "--clean", folder / "photographs", "--original", folder / "vae")
    words += ("--hardened", folder / "other", "--out", folder / "scanned")
    assert run(monkeypatch, *words) == 2 and "99 or more" in capsys.readouterr().err
    assert run(monkeypatch, *words, "--image-column", "jpg") == 2 and "has single images" in capsys.readouterr().err
    assert run(monkeypatch, *words, "--rate", 0.1) == 0
    assert "not those of images: 1 file (1 .doc)" in capsys.readouterr().out
    assert len((folder / "scanned" / "scan.csv").read_text(encoding="utf-8").splitlines()) == 13
    assert (folder / "scanned" / "scan.html").exists()


def test_an_error_is_printed_as_it_is(monkeypatch, capsys):
    assert run(monkeypatch, "report", "no[where]/[/x]") == 2
    assert "no[where]/[/x]" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ("report", "nowhere"),
        ("bench", "editing", "--protocol", "fast", "--images", "x", "--out", "y"),
        ("bench", "reconstruction", "--eps", "15", "--original", "tiny", "--hardened", "tiny", "--images", "x", "--out", "y"),
    ],
)
def test_benchmarks_refuse_what_is_not_there(words, monkeypatch, capsys):
    assert run(monkeypatch, *words) == 2 and "error:" in capsys.readouterr().err


def test_a_protocol_of_ones_own_is_sent_to_the_benchmark_that_reads_it(tmp_path, monkeypatch, capsys):
    words = ("--vae", "tiny-srl", "--images", tmp_path, "--out", tmp_path / "out", "--protocol", "own.toml")
    assert run(monkeypatch, "bench", "all", *words) == 2
    assert "a file of your own goes to bench editing or bench reconstruction" in " ".join(capsys.readouterr().err.split())
