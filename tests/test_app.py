"""The page: what its tabs compute, and what they say where something is wrong. No browser and no Gradio is needed here."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from conftest import small_kl
from srlvae.app import attack_tab, compare_tab, edit_tab, scan_tab
from srlvae.app.attacking import asked, offered
from srlvae.app.models import KEPT, Choice, Models
from srlvae.app.page import is_local, serve
from srlvae.app.samples import photographs
from srlvae.app.work import STOPPED, UNKNOWN, Watcher, Work, sentence
from srlvae.cli import app as command_line
from srlvae.errors import InputError, UnreadableError
from srlvae.images import read_square, write_image
from srlvae.models.load import load_pipeline
from srlvae.models.vae import load_vae
from srlvae.rng import generator

STEPS = 2
REQUEST = asked("latent", "8/255", STEPS)


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(Choice(size=64))


@pytest.fixture
def listener() -> Watcher:
    return Watcher(lambda *at, **said: None, threading.Event())


@pytest.fixture
def picture(tmp_path) -> str:
    noise = torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(0))
    write_image(tmp_path / "picture.png", torch.nn.functional.interpolate(noise[None], (90, 120), mode="bilinear")[0])
    return str(tmp_path / "picture.png")


def stopped() -> Watcher:
    asked_to_stop = threading.Event()
    asked_to_stop.set()
    return Watcher(lambda *at, **said: None, asked_to_stop)


# --- attack


def test_an_attack_keeps_its_budget_and_its_numbers_are_those_of_the_encoders(models, listener, picture):
    result = attack_tab.attack(models, listener, picture, REQUEST)
    x = read_square(Path(picture), 64)[None]
    assert torch.equal(result.x, x)
    assert 0 < (result.adversarial - x).abs().max() <= 8 / 255 + 1e-6
    original, hardened = load_vae("tiny"), load_vae("tiny-srl")
    clean = original.mean(x)
    for vae, seen in ((original, result.original), (hardened, result.hardened)):
        assert seen.attacked == pytest.approx(((vae.mean(result.adversarial) - clean).norm() / clean.norm()).item(), rel=1e-4)
        assert seen.clean == pytest.approx(((vae.mean(x) - clean).norm() / clean.norm()).item(), rel=1e-4, abs=1e-6)
        error = (vae.reconstruct(result.adversarial) - x).square().mean()
        assert seen.psnr == pytest.approx(-10 * error.log10().item(), rel=1e-4)
        assert torch.equal(seen.view, vae.reconstruct(result.adversarial))
    assert result.original.clean == 0 < result.hardened.clean


def test_squares_that_the_vae_does_not_take_and_a_missing_folder_are_refused_before_there_is_a_page(tmp_path):
    with pytest.raises(InputError, match="multiples of 8"):
        Models(Choice(None, "tiny", "tiny-srl", size=100)).load()
    with pytest.raises(InputError, match="is not there; --clean"):
        serve(Choice(None, "tiny", "tiny-srl"), "127.0.0.1", 7860, clean=tmp_path / "typo")


def test_an_attacker_who_knows_the_hardened_encoder_makes_another_picture(models, listener, picture):
    made = [attack_tab.attack(models, listener, picture, REQUEST, known).adversarial for known in ("original", "hardened")]
    assert not torch.equal(*made)


def test_the_same_picture_and_settings_give_the_same_result(models, listener, picture):
    first, second = (attack_tab.attack(models, listener, picture, REQUEST) for _ in range(2))
    assert torch.equal(first.adversarial, second.adversarial)


def test_what_the_tab_shows_of_an_attack(models, listener, picture):
    *pictures, table = attack_tab.show(attack_tab.attack(models, listener, picture, REQUEST))
    assert [image.size for image in pictures] == [(64, 64)] * 5
    assert "| shift, clean picture ↓ | 0.000 |" in table and "dB" in table


@pytest.mark.parametrize("name", offered(on_pipelines=False))
def test_every_attack_that_is_offered_can_be_asked_for(name):
    assert asked(name, "4/255", STEPS).attack.needs == "vae"


def test_attacks_on_pipelines_are_offered_where_there_is_one():
    assert "mist-fused" in offered(on_pipelines=True) and "mist-fused" not in offered(on_pipelines=False)


# --- edit


def test_all_edits_start_from_the_same_noise(models, listener, picture):
    wish = edit_tab.Wish("a photo of a sunflower", 0.2, seed=3)
    result = edit_tab.edit(models, listener, picture, wish, REQUEST)
    for vae, (clean, attacked) in (("tiny", result.original), ("tiny-srl", result.hardened)):
        pipeline = load_pipeline("tiny-sd", vae)
        for image, edited in ((result.x, clean), (result.adversarial, attacked)):
            assert torch.equal(pipeline.edit(image, [wish.prompt], [generator(3, 0)], strength=0.2), edited)
    *pictures, table = edit_tab.show(result)
    assert len(pictures) == 6 and "dB" in table


def test_an_edit_stops_at_the_next_step(models, picture):
    heard: list[int] = []
    pipeline, x = models.pipeline(), models.read(picture)
    listener = Watcher(lambda at, **said: heard.append(at[0]) if at else None, threading.Event())

    def stop_at_two(number: int) -> None:
        listener.at("steps", number, 5)
        if number == 2:
            listener.stop.set()
        listener.check()

    with pytest.raises(KeyboardInterrupt):
        pipeline.edit(x, ["a photo of a car"], [generator(0, 0)], strength=0.2, stepped=stop_at_two)
    assert heard == [1, 2]


def test_being_told_of_steps_changes_no_bit_of_an_edit(models, picture):
    x, steps = models.read(picture), []
    made = [
        models.pipeline().edit(x, ["a photo of a car"], [generator(0, 0)], strength=0.2, stepped=stepped)
        for stepped in (None, steps.append)
    ]
    assert torch.equal(*made) and steps == [1, 2, 3, 4, 5]


# --- compare


def test_each_encoder_is_attacked_itself(models, listener, picture):
    first, second = compare_tab.compare(models, listener, picture, ("tiny", "tiny-srl"), REQUEST)
    assert first.from_first == 0 < second.from_first
    x, vae = models.read(picture), load_vae("tiny-srl")
    alone, _ = compare_tab.attacked(listener, REQUEST, vae, x)
    assert second.attacked == pytest.approx(((vae.mean(alone) - vae.mean(x)).norm() / vae.mean(x).norm()).item(), rel=1e-4)
    *pictures, table = compare_tab.show((first, second))
    assert len(pictures) == 4 and "| clean shift from A | 0.000 |" in table


def test_encoders_of_other_shapes_compare(models, listener, picture, vae, tmp_path):
    vae.save(tmp_path / "other")
    first, second = compare_tab.compare(models, listener, picture, ("tiny", str(tmp_path / "other")), REQUEST)
    assert first.clean.shape == second.clean.shape == (1, 3, 64, 64)
    if vae.mean(torch.zeros(1, 3, 64, 64)).shape != load_vae("tiny").mean(torch.zeros(1, 3, 64, 64)).shape:
        assert second.from_first is None and "other shapes" in compare_tab.show((first, second))[-1]


# --- scan


@pytest.fixture
def scanner(models, tmp_path) -> scan_tab.Scanner:
    (tmp_path / "room").mkdir()
    for i in range(9):
        noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(i))
        write_image(tmp_path / "clean" / f"{i}.png", torch.nn.functional.interpolate(noise, 64, mode="bicubic")[0].clamp(0, 1))
    return scan_tab.Scanner(models, tmp_path / "clean", tmp_path / "room")


def test_pictures_of_one_name_and_broken_ones_are_each_in_the_table(scanner, listener, tmp_path):
    for place in "ab":
        (tmp_path / place).mkdir()
        (tmp_path / place / "<b>.png").write_bytes((tmp_path / "clean" / "0.png").read_bytes())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    given = [str(path) for path in (tmp_path / "a" / "<b>.png", tmp_path / "b" / "<b>.png", tmp_path / "broken.png")]
    result = scanner.look(listener, given, [], rate=0.1)
    assert len(result.scores) == 3 and sum(one.value is None for one in result.scores) == 1
    assert result.rests_on == "the photographs in clean"
    said, captions, table = scan_tab.show(result)
    assert len(captions) == 2 and "9 clean pictures" in said
    assert table.count("&lt;b&gt;.png") == 2 and "<b>" not in table and "broken.png" in table and str(tmp_path) not in table
    # Copies of what was uploaded do not stay.
    assert not [path for path in scanner.room.rglob("*.png")]


def test_clean_photographs_of_ones_own_take_the_place_of_the_scanners(scanner, listener, tmp_path):
    own = [str(path) for path in sorted((tmp_path / "clean").glob("*.png"))]
    result = scanner.look(listener, own[:1], own, rate=0.1)
    assert result.rests_on == "the clean photographs that you gave" and result.calibration.images == 9
    with pytest.raises(InputError, match="give 19 or more"):
        scanner.look(listener, own[:1], own, rate=0.05)


def test_the_clean_photographs_are_looked_at_once(scanner, tmp_path):
    heard: list[str] = []
    listener = Watcher(lambda at, desc="", **said: heard.append(desc) if at else None, threading.Event())
    for _ in range(2):
        scanner.look(listener, [str(tmp_path / "clean" / "0.png")], [], rate=0.1)
    evidence = list(scanner.room.glob("clean-*/evidence-0.csv"))
    assert len(evidence) == 1 and len(evidence[0].read_text().splitlines()) == 10


def test_a_scan_stops(scanner, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        scanner.look(stopped(), [str(tmp_path / "clean" / "0.png")], [], rate=0.1)


# --- sentences


def test_no_picture_and_a_broken_one_give_a_sentence(models, listener, tmp_path):
    (tmp_path / "secret-folder").mkdir()
    broken = tmp_path / "secret-folder" / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    for given, said in ((None, "give a picture first"), (str(broken), "broken.png: not a readable image")):
        with pytest.raises(InputError) as caught:
            attack_tab.attack(models, listener, given, REQUEST)
        assert said in sentence(caught.value) and "secret-folder" not in sentence(caught.value)


@pytest.mark.parametrize(("eps", "said"), [("8", "write 8/255"), ("a lot", "the budget must be a number"), ("0.5/255", "PNG")])
def test_a_bad_budget_gives_a_sentence(models, listener, picture, eps, said):
    with pytest.raises(InputError, match=said):
        attack_tab.attack(models, listener, picture, asked("latent", eps, STEPS))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UnreadableError("/tmp/abc/photo.png", "not a readable image"), "photo.png: not a readable image"),
        (InputError("too few"), "too few"),
        (KeyboardInterrupt(), STOPPED),
        (KeyError("inner"), UNKNOWN),
    ],
)
def test_errors_become_sentences(error, said):
    assert sentence(error) == said


def test_an_attack_stops_at_the_next_step(models, picture):
    with pytest.raises(KeyboardInterrupt):
        attack_tab.attack(models, stopped(), picture, REQUEST)


# --- models and the command


def test_encoders_are_kept_and_the_oldest_forgotten(models, tmp_path):
    own = models.encoder("tiny-srl")
    for i in range(KEPT + 1):
        load_vae("tiny").save(tmp_path / str(i))
    first, *_ = [models.encoder(str(tmp_path / str(i))) for i in range(KEPT)]
    assert models.encoder(str(tmp_path / "0")) is first
    models.encoder(str(tmp_path / str(KEPT)))
    assert models.encoder(str(tmp_path / "0")) is first and str(tmp_path / "1") not in models._encoders
    assert models.encoder("tiny-srl") is own is models.hardened


def test_without_a_pipeline_there_are_no_edits(listener, picture):
    alone = Models(Choice(pipeline=None, vae="tiny", size=64))
    assert not alone.has_pipeline and alone.original.factor == load_vae("tiny").factor
    with pytest.raises(InputError, match="--pipeline"):
        edit_tab.edit(alone, listener, picture, edit_tab.Wish("a car", 0.2, 0), REQUEST)


def test_what_does_not_belong_together_is_told_before_there_is_a_page(tmp_path):
    assert Models(Choice(pipeline=None, vae="tiny", hardened="tiny-srl")).load() == []
    with pytest.raises(InputError, match="nowhere is not a folder"):
        Models(Choice(pipeline=None, vae="tiny", hardened="nowhere")).load()
    small_kl().save(tmp_path / "small")
    with pytest.raises(InputError, match="do not belong together"):
        Models(Choice(pipeline=None, vae="tiny", hardened=str(tmp_path / "small"))).load()


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("somewhere", False)]
)
def test_which_addresses_are_this_machines_own(host, local):
    assert is_local(host) is local


def test_the_samples_are_there():
    assert all(path.is_file() for path in photographs())


def test_the_commands_help_has_examples_and_loads_no_gradio():
    code = "import sys; from srlvae.cli import main; sys.argv = ['srlvae', 'app', '--help']\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "assert not {'gradio', 'torch', 'diffusers'} & set(sys.modules), 'heavy'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "srlvae app --pipeline" in done.stdout and "127.0.0.1" in done.stdout


def test_without_gradio_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = CliRunner().invoke(command_line, ["app"])
    assert isinstance(result.exception, ModuleNotFoundError) and "srlvae[app]" in str(result.exception)


def test_another_original_needs_its_hardened_encoder(tmp_path):
    result = CliRunner().invoke(command_line, ["app", "--vae", str(tmp_path)])
    assert isinstance(result.exception, InputError) and "--hardened" in str(result.exception)


def test_stopping_reaches_everything_that_a_tab_of_a_session_has_under_way():
    pytest.importorskip("gradio", reason="gradio is not installed")
    work, watchers = Work(jobs=2), []
    started, go_on = threading.Barrier(3), [threading.Event() for _ in range(3)]

    def job(watcher, number):
        watchers.append((number, watcher))
        started.wait(10)
        assert go_on[number].wait(10)

    run, session = work._runner("tab", job), SimpleNamespace(session_hash="a")
    threads = [threading.Thread(target=run, args=(session, lambda *_, **__: None, number)) for number in range(2)]
    for thread in threads:
        thread.start()
    started.wait(10)
    go_on[0].set()
    threads[0].join(10)
    work._stopper("tab")(session)
    assert dict(watchers)[1].should_stop() and list(work._stops.values()) == [("a", "tab")]
    go_on[1].set()
    threads[1].join(10)
    assert not work._stops


def test_a_sentence_names_files_without_the_folders_of_the_page(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "page"))
    inside = InputError(f"the first is {tmp_path}/page/ab/pictures/0000/my cat.png: it is empty")
    assert sentence(inside) == "the first is my cat.png: it is empty"


def test_lines_of_a_scan_are_sentences():
    lines = ["2 of 5 images are suspicious", "7 more are unlike the clean images:", "  4: darker", "  3: harder edges", "done"]
    said = "2 of 5 images are suspicious. 7 more are unlike the clean images: 4: darker; 3: harder edges. Done."
    assert scan_tab._sentences(lines) == said


def test_encoders_that_do_not_belong_together_are_noted(models, listener, picture, tmp_path):
    stranger = load_vae("tiny")
    for module in stranger.encoder_modules().values():
        for weight in module.parameters():
            weight.data = weight.data.flip(0)
    stranger.save(tmp_path / "stranger")
    pair = compare_tab.compare(models, listener, picture, ("tiny", str(tmp_path / "stranger")), REQUEST)
    assert "**Note:** the two VAEs write latents of different kinds" in compare_tab.show(pair)[-1]
    same = compare_tab.compare(models, listener, picture, ("tiny", "tiny-srl"), REQUEST)
    assert "Note" not in compare_tab.show(same)[-1]


def test_what_an_edit_would_not_look_at_is_refused(models, listener, picture):
    for wish, message in (
        (edit_tab.Wish("a cat", 0.5, -3), "the seed must be 0 or more, got -3"),
        (edit_tab.Wish("a very " * 90 + "nice sunflower", 0.5, 0), "would not be read: .*nice sunflower"),
    ):
        with pytest.raises(InputError, match=message):
            edit_tab.edit(models, listener, picture, wish, REQUEST)
    with pytest.raises(InputError, match="the budget is 0"):
        asked("latent", "0", 2)
