"""Attacks on image files: sizes, budgets as read back, records, and runs that go on where they stopped."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import small_kl, small_tiny
from heard import Heard
from pipelines import little, sd15
from small import RandomFeatures
from srlvae.attacks import ATTACKS
from srlvae.attacks.engine.pgd import pgd
from srlvae.attacks.engine.trace import Trace
from srlvae.attacks.files import attack_files
from srlvae.attacks.prepared import PreparedAttack, prepare
from srlvae.attacks.request import Request
from srlvae.attacks.written import write_attacked
from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.images import read_image, read_picture, to_tensor
from srlvae.rng import generators

SIZES = {"a.png": (37, 53), "b.jpg": (64, 30), "c.webp": (5, 7)}
EPS = 8 / 255


def save_noise(path: Path, width: int, height: int, seed: int = 0) -> Path:
    """A picture of random levels, with many at 0 and 255."""
    levels = np.random.default_rng(seed).integers(-80, 336, (height, width, 3)).clip(0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    for seed, (name, size) in enumerate(SIZES.items()):
        save_noise(tmp_path / "in" / name, *size, seed)
    return tmp_path / "in"


def attacked(name: str, source: Path, out: Path, model, *, batch=8, resume=True, listener=None, **asked) -> list[dict]:
    attack = prepare(Request(name, **asked), model)
    return attack_files(attack, [source], out, batch=batch, resume=resume, listener=listener)


def run(folder: Path, vae, name: str = "latent", out: str = "out", **options) -> list[dict]:
    return attacked(name, folder, folder.parent / out, vae, **{"eps": EPS, "steps": 2, **options})


def levels_moved(source: Path, attacked: Path) -> int:
    """The largest difference of two files in grey levels."""
    return round((read_image(source) - read_image(attacked)).abs().max().item() * 255)


def rms(source: Path, attacked: Path) -> float:
    """The root mean square of the difference of two files in grey levels."""
    return (read_image(source) - read_image(attacked)).square().mean().sqrt().item() * 255


def times(folder: Path) -> dict[str, int]:
    """When each picture and record was written; the contact sheet and the record of the run are left out."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name not in ("sheet.png", ".attack.json")}


# --- what is written


@pytest.mark.parametrize("name", ATTACKS)
def test_files_of_any_size_keep_it_and_the_budget(name, folder, vae):
    run(folder, vae if ATTACKS[name].needs == "vae" else little(vae), name)
    for path in folder.iterdir():
        file, size = path.name, SIZES[path.name]
        target = folder.parent / "out" / f"{path.stem}.png"
        assert read_image(target).shape == (3, size[1], size[0])
        # Levels are integers: no tolerance.
        moved = levels_moved(folder / file, target) if ATTACKS[name].default.ball.norm == "linf" else rms(folder / file, target)
        assert 0 < moved <= 8


def test_nothing_but_pictures_and_their_records_is_written(folder, vae):
    run(folder, vae)
    written = {path.name for path in (folder.parent / "out").iterdir()}
    made = {f"{Path(file).stem}.{kind}" for file in SIZES for kind in ("png", "json")}
    assert written == made | {"sheet.png", ".attack.json"}


def test_the_record_says_what_was_done_and_measured(folder, vae):
    records = run(folder, vae, seed=3)
    assert [Path(record["source"]).name for record in records] == sorted(SIZES)
    for record in records:
        source = Path(record["source"])
        target = folder.parent / "out" / f"{source.stem}.png"
        assert json.loads(target.with_suffix(".json").read_text(encoding="utf-8")) == record
        said = {key: record[key] for key in ("attack", "vae", "eps", "steps", "seed")}
        assert said == {"attack": "latent", "vae": vae.fingerprint(), "eps": "8/255", "steps": 2, "seed": 3}
        assert (record["width"], record["height"]) == SIZES[source.name]
        assert record["effective_eps"] == f"{levels_moved(source, target)}/255" and record["latent_shift"] > 0


def test_a_budget_by_distortion_is_said_to_be_one(tmp_path, vae):
    source = save_noise(tmp_path / "in" / "a.png", 32, 36)
    (record,) = run(source.parent, vae, "dct-shield", eps=9 / 255, steps=3)
    found = rms(source, tmp_path / "out" / "a.png")
    assert record["eps"] == "9/255 (rms)" and record["effective_eps"] == f"{found:.3g}/255 (rms)" and 0 < found <= 9


@pytest.mark.parametrize("given", [True, False])
def test_a_budget_in_lpips_holds_where_lpips_is_given(given, tmp_path, vae, x):
    pipeline, features = little(vae), RandomFeatures() if given else None
    attack = PreparedAttack(Request("glaze", steps=1), pipeline, features)
    assert (attack.ball.perceptual is not None) == given and (attack.settings()["perceptual"] is not None) == given
    assert attack.settings().get("features") == ("random" if given else None)
    open_ended = PreparedAttack(Request("glaze", preset="open"), pipeline)
    assert open_ended.settings()["features"] == "efficientnet-lite0, whose scale is not that of LPIPS"


def test_a_second_vae_is_named_in_the_record_and_has_to_fit(tmp_path, vae):
    source, twin = save_noise(tmp_path / "in" / "a.png", 16, 16), small_kl(channels=16)
    twin.save(tmp_path / "twin")
    (record,) = run(source.parent, vae, also=str(tmp_path / "twin"))
    assert record["also"] == [{"vae": twin.fingerprint(), **twin.settings()}]
    with pytest.raises(InputError, match="reduces images by 8 and the first by 4"):
        prepare(Request("latent", also="tiny"), vae)
    with pytest.raises(InputError, match="takes one VAE; leave out --also"):
        Request("advdm", also="tiny")


def test_attacks_that_hold_networks_for_each_image_take_one_at_a_time_and_tell_of_all(x, vae, monkeypatch):
    sizes, attack = [], prepare(Request("anti-dreambooth", steps=2), little(vae))
    plain = ATTACKS["anti-dreambooth"].run
    monkeypatch.setattr(
        "srlvae.attacks.papers.antidreambooth.antidreambooth", lambda x, **options: sizes.append(len(x)) or plain(x, **options)
    )
    trace = Trace()
    together = attack.perturb(x, ["a", "b"], trace)
    assert sizes == [1, 1] and [value.shape for value in trace.values] == [(2,), (2,)] and len(trace.doubts(2)) == 2
    assert torch.equal(together[1:], attack.perturb(x[1:], ["b"]))


def test_the_latent_shift_is_measured_on_the_file(tmp_path, vae):
    source = save_noise(tmp_path / "in" / "a.png", 32, 36)
    (record,) = run(source.parent, vae)
    x, back = read_image(source)[None], read_image(tmp_path / "out" / "a.png")[None]
    expected = (vae.mean(back) - vae.mean(x)).square().mean().sqrt().item()
    # The same float32 sums.
    assert record["latent_shift"] == pytest.approx(expected, rel=1e-5)


def test_the_published_setting_is_the_default_and_its_step_scales_with_the_radius(tmp_path, vae):
    source, entry = save_noise(tmp_path / "a.png", 16, 16), ATTACKS["latent"].default.ball
    (default,) = attacked("latent", source, tmp_path / "default", vae)
    (half,) = attacked("latent", source, tmp_path / "half", vae, eps=entry.eps / 2)
    assert [default[key] for key in ("eps", "steps", "step_size")] == ["8/255", entry.steps, entry.step_size]
    # One product and one quotient in float64.
    assert half["step_size"] == pytest.approx(entry.step_size / 2, rel=1e-12)


def test_no_budget_writes_the_picture_as_it_is(folder, vae):
    records = run(folder, vae, eps=0.0)
    assert levels_moved(folder / "a.png", folder.parent / "out" / "a.png") == 0
    assert all("no pixel has changed: the budget is 0" in record["doubts"] for record in records)


def test_a_budget_between_two_levels_is_kept_on_the_file(folder, vae):
    run(folder, vae, eps=2.6 / 255)
    assert levels_moved(folder / "a.png", folder.parent / "out" / "a.png") <= 2


def test_the_global_generator_is_untouched(folder, vae):
    state = torch.get_rng_state()
    run(folder, vae)
    assert torch.equal(state, torch.get_rng_state())


# --- a second run


def test_a_second_run_makes_nothing_anew_and_returns_the_same(folder, vae):
    first, before = run(folder, vae), times(folder.parent / "out")
    assert run(folder, vae) == first and times(folder.parent / "out") == before


@pytest.mark.parametrize("change", [{"seed": 1}, {"eps": 4 / 255}, {"steps": 3}, {"name": "reconstruction"}])
def test_another_setting_is_another_run_which_wants_a_folder_of_its_own(change, folder, vae):
    run(folder, vae)
    before = times(folder.parent / "out")
    with pytest.raises(InputError, match="begun with other settings.*give a new folder"):
        run(folder, vae, **change)
    assert times(folder.parent / "out") == before


def test_another_vae_is_another_run(folder, vae):
    run(folder, vae)
    vae.model.encoder.conv_in.weight.mul_(1.1)
    with pytest.raises(InputError, match="vae was"):
        run(folder, vae)


@pytest.mark.parametrize("name", ["advdm", "photoguard-encoder"])
def test_another_sampling_is_another_run(name):
    first = sd15(small_kl(), little=True)
    second = sd15(small_kl(), "v_prediction" if name == "advdm" else "epsilon", little=True)
    if name != "advdm":
        second.pipe.vae.register_to_config(shift_factor=0.2)
    attacks = [prepare(Request(name, steps=1), pipeline) for pipeline in (first, second)]
    assert attacks[0].settings() != attacks[1].settings() and attacks[0].made_from() != attacks[1].made_from()


def test_an_image_of_another_folder_replaces_none_of_the_same_name(folder, vae):
    run(folder, vae)
    before = times(folder.parent / "out")
    other = save_noise(folder.parent / "elsewhere" / "a.png", 16, 16, 5)
    with pytest.raises(InputError, match="a.png was made from .*in/a.png, not from .*elsewhere/a.png"):
        attacked("latent", other, folder.parent / "out", vae, eps=EPS, steps=2)
    assert times(folder.parent / "out") == before
    # One that has only moved is the same.
    moved = folder.rename(folder.parent / "moved")
    run(moved, vae)
    assert times(folder.parent / "out") == before


def test_pictures_of_something_else_are_left_alone(folder, vae):
    mine = save_noise(folder.parent / "out" / "a.png", 16, 16, 5)
    before = mine.read_bytes()
    with pytest.raises(InputError, match="something else in it"):
        run(folder, vae)
    assert mine.read_bytes() == before and [path.name for path in mine.parent.iterdir()] == ["a.png"]


def test_a_picture_that_was_changed_since_is_made_again(folder, vae):
    run(folder, vae)
    target = folder.parent / "out" / "b.png"
    whole = target.read_bytes()
    save_noise(target, 16, 16, 7)
    run(folder, vae)
    assert target.read_bytes() == whole


@pytest.mark.parametrize("lost", ["b.png", "b.json"])
def test_a_lost_file_is_made_again_as_it_was_and_the_others_are_left(lost, folder, vae):
    run(folder, vae)
    out = folder.parent / "out"
    before, levels = times(out), read_image(out / "b.png")
    (out / lost).unlink()
    run(folder, vae)
    assert torch.equal(read_image(out / "b.png"), levels)
    assert {name for name, time in times(out).items() if time == before[name]} == {"a.png", "a.json", "c.png", "c.json"}


def test_runs_of_one_seed_are_the_same_and_of_two_differ(folder, vae):
    run(folder, vae, out="one")
    run(folder, vae, out="again")
    run(folder, vae, out="other", seed=1)
    one, again, other = (read_image(folder.parent / out / "a.png") for out in ("one", "again", "other"))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_every_picture_has_a_random_start_of_its_own(tmp_path, vae):
    for name in ("a.png", "b.png"):
        save_noise(tmp_path / "in" / name, 16, 16)
    run(tmp_path / "in", vae, steps=0)
    assert not torch.equal(read_image(tmp_path / "out" / "a.png"), read_image(tmp_path / "out" / "b.png"))


def test_an_image_is_attacked_alike_alone_and_among_others(tmp_path, vae):
    for name in ("a.png", "b.png"):
        save_noise(tmp_path / "in" / name, 16, 16)
    run(tmp_path / "in", vae)
    attacked("latent", tmp_path / "in" / "b.png", tmp_path / "alone", vae, eps=EPS, steps=2)
    assert (tmp_path / "alone" / "b.png").read_bytes() == (tmp_path / "out" / "b.png").read_bytes()


def test_a_listener_hears_of_images_made_or_found_and_of_steps(folder, vae):
    heard, again = Heard(), Heard()
    run(folder, vae, listener=heard)
    # Three sizes, so that each is a batch of its own.
    assert heard.bars == {"images": [(1, 3), (2, 3), (3, 3)], "steps": [(1, 2), (2, 2)] * 3}
    run(folder, vae, listener=again)
    assert again.bars == {"images": heard.bars["images"]}


@pytest.mark.parametrize(("name", "steps"), [("worst-case", 10), ("blurguard", 3)])
def test_the_bar_counts_all_steps_of_an_attack_in_several_parts(name, steps, tmp_path, vae):
    if name == "blurguard":
        pytest.importorskip("skimage")
    heard, per = Heard(), {"worst-case": 2, "blurguard": 3}[name]
    attacked(name, save_noise(tmp_path / "a.png", 32, 32), tmp_path / "out", vae, steps=per, listener=heard)
    assert heard.bars["steps"] == [(number, steps) for number in range(1, steps + 1)]


def test_a_stop_is_heard_in_the_last_attack_of_several(tmp_path, vae):
    heard = Heard(stop_at=9)
    with pytest.raises(KeyboardInterrupt):
        attacked("worst-case", save_noise(tmp_path / "a.png", 16, 16), tmp_path / "out", vae, steps=2, listener=heard)
    assert heard.bars["steps"][-1] == (9, 10)


def test_images_between_grey_levels_are_attacked_from_the_nearest(vae):
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    whole = (x * 255).round() / 255
    for name, eps in (("latent", 4 / 255), ("blurguard", 2 / 255)):
        if name == "blurguard":
            pytest.importorskip("skimage")
        attack = prepare(Request(name, eps=eps, steps=3), vae)
        found = attack.perturb(x, ["a", "b"])
        assert torch.equal(found, attack.perturb(whole, ["a", "b"]))
        assert (found - whole).abs().max() <= eps + 1e-6 and torch.equal(found, (found * 255).round() / 255)


def test_a_network_without_feature_maps_measures_no_budget(tmp_path, monkeypatch):
    network = RandomFeatures()
    monkeypatch.setattr(network, "gives_columns", False)
    monkeypatch.setattr("srlvae.attacks.prepared.load_features", lambda name: network)
    with pytest.raises(InputError, match="gives no feature maps"):
        prepare(Request("glaze", features="inception"), sd15(small_kl()))


def test_a_listener_stops_a_run_and_what_is_done_is_kept(folder, vae):
    class Stopping(Heard):
        def should_stop(self) -> bool:
            return "images" in self.bars

    with pytest.raises(KeyboardInterrupt):
        run(folder, vae, listener=Stopping())
    assert set(times(folder.parent / "out")) == {"a.png", "a.json"}


def test_an_output_folder_below_the_sources_is_not_attacked_in_turn(folder, vae):
    first = attacked("latent", folder, folder / "attacked", vae, eps=EPS, steps=1)
    assert attacked("latent", folder, folder / "attacked", vae, eps=EPS, steps=1) == first


@pytest.mark.parametrize("cut", [3, 4])
def test_a_run_that_was_cut_off_goes_on_with_the_same_files(cut, tmp_path, vae):
    for number in range(4):
        save_noise(tmp_path / "in" / f"{number}.png", 16, 16, number)
    run(tmp_path / "in", vae, batch=3)
    whole = {name: (tmp_path / "out" / name).read_bytes() for name in times(tmp_path / "out")}

    class Killed(Exception):
        pass

    class Killing(Listener):
        def at(self, bar, number, total=None, note=""):
            if (bar, number) == ("images", cut):
                raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "in", vae, batch=3, out="cut", listener=Killing())
    # What a kill between two files of a batch leaves.
    (tmp_path / "cut" / "1.json").unlink()
    before, heard = times(tmp_path / "cut"), Heard()
    run(tmp_path / "in", vae, batch=3, out="cut", listener=heard)
    # A batch is attacked as a whole, and only what is missing of it is written.
    assert heard.bars["steps"] == [(1, 2), (2, 2)] * (2 if cut == 3 else 1)
    after = times(tmp_path / "cut")
    rewritten = {name for name in after if after[name] != before.get(name)}
    assert rewritten == {"1.png", "1.json"} | ({"3.png", "3.json"} if cut == 3 else set())
    assert {name: (tmp_path / "cut" / name).read_bytes() for name in whole} == whole


def test_files_do_not_depend_on_the_size_of_batches(tmp_path, vae):
    for number in range(4):
        save_noise(tmp_path / "in" / f"{number}.png", 24, 16, number)
    run(tmp_path / "in", vae, batch=1)
    run(tmp_path / "in", vae, batch=4, out="four")
    for number in range(4):
        one, four = (read_image(tmp_path / out / f"{number}.png") for out in ("out", "four"))
        # Sums in another order may turn the sign of a gradient that is nearly zero.
        assert (one != four).float().mean() < 0.001


def test_where_memory_runs_out_batches_are_halved(tmp_path, vae, monkeypatch):
    for number in range(4):
        save_noise(tmp_path / "in" / f"{number}.png", 16, 16, number)
    sizes, latent = [], ATTACKS["latent"].run

    def hungry(x, **options):
        sizes.append(len(x))
        if len(x) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return latent(x, **options)

    monkeypatch.setattr("srlvae.attacks.papers.latent.latent", hungry)
    assert len(run(tmp_path / "in", vae, batch=4)) == 4
    assert sizes == [4, 2, 2]


def test_images_can_all_be_made_anew(folder, vae):
    run(folder, vae)
    before = times(folder.parent / "out")
    run(folder, vae, resume=False)
    after = times(folder.parent / "out")
    assert all(after[name] != before[name] for name in before)


# --- presets, targets, masks, views


def test_a_preset_is_the_published_setting(tmp_path, vae):
    source = save_noise(tmp_path / "a.png", 16, 16)
    (record,) = attacked("photoguard-encoder", source, tmp_path / "out", vae, preset="app", steps=2)
    assert record["eps"] == "15.3/255" and record["options"] == {"grey": True}
    # The file holds whole levels.
    assert record["effective_eps"] in {f"{k}/255" for k in range(1, 16)}


def test_an_l2_budget_is_kept_on_the_file(tmp_path, vae):
    source, pipeline = save_noise(tmp_path / "a.png", 16, 16), little(vae)
    mask = tmp_path / "mask.png"
    Image.new("L", (16, 16), 255).save(mask)
    setting = {"preset": "notebook", "steps": 2, "eps": 0.4, "mask": mask}
    (record,) = attacked("photoguard-diffusion", source, tmp_path / "out", pipeline, **setting)
    moved = (read_image(tmp_path / "out" / "a.png") - read_image(source)).norm().item()
    # The budget is 0.4 for the whole image; the norm is a sum in float32.
    assert 0.1 < moved <= 0.4 + 1e-6 and record["effective_eps"] == f"{moved:.4g} (ℓ2)"


def test_only_pixels_in_the_white_of_a_mask_change(tmp_path, vae):
    source, mask = save_noise(tmp_path / "a.png", 32, 16), tmp_path / "mask.png"
    halves = Image.new("L", (32, 16), 0)
    halves.paste(255, (16, 0, 32, 16))
    halves.save(mask)
    attacked("latent", source, tmp_path / "out", vae, mask=mask, steps=2)
    before, after = read_image(source), read_image(tmp_path / "out" / "a.png")
    assert torch.equal(before[..., :16], after[..., :16]) and not torch.equal(before[..., 16:], after[..., 16:])


def test_a_target_is_a_picture_of_any_size(tmp_path, vae):
    source, target = save_noise(tmp_path / "a.png", 16, 16), save_noise(tmp_path / "target.png", 50, 40, 1)
    attacked("photoguard-encoder", source, tmp_path / "zero", vae, steps=2)
    (record,) = attacked("photoguard-encoder", source, tmp_path / "out", vae, target=target, steps=2)
    assert record["target"].startswith(f"{target} ")
    save_noise(target, 50, 40, 2)
    with pytest.raises(InputError, match="target was"):
        attacked("photoguard-encoder", source, tmp_path / "out", vae, target=target, steps=2)
    assert not torch.equal(read_image(tmp_path / "zero" / "a.png"), read_image(tmp_path / "out" / "a.png"))


@pytest.mark.parametrize("through", ["jpeg", "resize", "sampling"])
def test_an_attack_goes_through_a_defence(through, tmp_path, vae):
    source = save_noise(tmp_path / "a.png", 16, 16)
    attacked("latent", source, tmp_path / "plain", vae, eps=EPS, steps=2)
    (record,) = attacked("latent", source, tmp_path / "out", vae, eps=EPS, steps=2, through=through, draws=2)
    assert (record["through"], record["draws"]) == (through, 2)
    # Nor is it two passes of the same.
    attacked("latent", source, tmp_path / "one", vae, eps=EPS, steps=2, through=through, draws=1)
    levels = [read_image(tmp_path / out / "a.png") for out in ("plain", "out", "one")]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(levels, 2))


def test_a_run_without_a_gradient_says_so(tmp_path, vae, monkeypatch):
    source = save_noise(tmp_path / "a.png", 16, 16)

    def flat(x, *, vae, ball, generators, loop):
        return pgd(x, lambda images: 0 * images.sum((1, 2, 3)), ball, generators=generators, loop=loop)

    monkeypatch.setattr("srlvae.attacks.papers.latent.latent", flat)
    (record,) = attacked("latent", source, tmp_path / "out", vae, steps=4)
    assert record["doubts"] == ["the objective did not improve with the steps", "100% of the gradient is zero or not finite"]


# --- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "none"}, "latent has no preset 'none'; choose one of default, fare"),
        ({"prompt": "a cat"}, "latent takes no prompt"),
        ({"target": Path("a.png")}, "latent takes no target"),
        ({"through": "fog"}, "unknown view 'fog'; choose one of resize, jpeg, sampling"),
        ({"features": "lpips-alex"}, "latent takes no features"),
        ({"name": "advdm", "restarts": 2}, "restarts gain nothing"),
        ({"name": "advdm", "through": "sampling"}, "advdm cannot go through sampling"),
        ({"name": "photoguard-encoder", "preset": "notebook-inpainting"}, "needs a picture as --target"),
        ({"name": "photoguard-diffusion", "preset": "notebook"}, "needs a picture as --mask"),
        ({"name": "photoguard-diffusion", "preset": "notebook", "mask": Path("m.png"), "eps": -1.0}, "eps is -1"),
        ({"name": "advdm"}, "advdm attacks a whole pipeline"),
        ({"draws": 8}, "draws are of a view; give --through"),
        ({"name": "nightshade", "features": "lpips-alex"}, "no perceptual budget to measure; leave out --features"),
        ({"name": "glaze", "prompt": "a cat", "target": Path("a.png")}, "would not look at its prompt"),
    ],
)
def test_what_an_attack_has_not_is_refused(options, message, folder, vae):
    with pytest.raises(InputError, match=message):
        run(folder, vae, **options)


def test_draws_of_a_posterior_that_is_not_there_are_refused(vae):
    assert prepare(Request("latent", through="sampling"), vae).settings()["draws"] == 4
    with pytest.raises(InputError, match="no posterior to draw from; leave out --through sampling"):
        prepare(Request("latent", through="sampling"), small_tiny())


def test_a_view_takes_no_repeats_from_a_published_setting(x, vae, tmp_path):
    mask = tmp_path / "mask.png"
    Image.new("L", (32, 32), 255).save(mask)
    attack = prepare(Request("photoguard-diffusion", preset="notebook", mask=mask, through="jpeg"), little(vae))
    assert attack._loop(x, generators(0, [0, 1]), None).repeats == attack.settings()["repeats"] == 10


def test_a_budget_that_rounding_takes_back_is_a_doubt(folder, tmp_path, vae):
    mask = tmp_path / "mask.png"
    Image.new("L", (32, 36), 255).save(mask)
    request = Request("photoguard-diffusion", preset="notebook", mask=mask, eps=1 / 255, steps=1)
    (record, *_) = attack_files(prepare(request, little(vae)), [save_noise(tmp_path / "b.png", 32, 36)], tmp_path / "out")
    assert record["effective_eps"] == "0 (ℓ2)" and "no pixel has changed" in record["doubts"][-1]
    assert "that of the whole image" in record["doubts"][-1]


def test_outputs_lie_in_the_sub_folders_of_their_sources(tmp_path, vae):
    for name in ("cats/1.png", "dogs/1.png", "dogs/1.jpg", "2.png"):
        save_noise(tmp_path / "in" / name, 16, 16)
    records = run(tmp_path / "in", vae, steps=0)
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert written == {"cats/1.png", "dogs/1.png.png", "dogs/1.jpg.png", "2.png", "sheet.png"} and len(records) == 4
    # Their random starts are seeded by names below the folder.
    assert not torch.equal(*(read_image(tmp_path / "out" / name) for name in ("cats/1.png", "dogs/1.png.png")))


def test_two_sources_of_one_name_are_refused_before_anything_is_written(tmp_path, vae):
    twins = [save_noise(tmp_path / name / "a.png", 20, 20) for name in ("one", "two")]
    with pytest.raises(InputError, match=r"one/a\.png and .*two/a\.png would both be written as a\.png"):
        attack_files(prepare(Request("latent"), vae), twins, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_nothing_but_attacked_images_has_none_to_attack(tmp_path, vae):
    (tmp_path / "out").mkdir()
    save_noise(tmp_path / "out" / "a.png", 16, 16)
    with pytest.raises(InputError, match="only images below"):
        attacked("latent", tmp_path, tmp_path / "out", vae, eps=EPS, steps=1)


def test_an_unknown_attack_is_refused_with_the_known_ones(folder, vae):
    with pytest.raises(InputError, match="'mist', perhaps mist-textural or .*; choose one of .*photoguard"):
        run(folder, vae, "mist")


@pytest.mark.parametrize(
    ("eps", "message"),
    [(8.0, "write 8/255"), (-0.1, "eps must lie in .0,1., got -0.1"), (float("nan"), "nan"), (0.5 / 255, "by less than 1/255")],
)
def test_a_budget_outside_0_to_1_or_below_a_level_is_refused(eps, message, folder, vae):
    with pytest.raises(InputError, match=message):
        run(folder, vae, eps=eps)


def test_a_root_mean_square_below_a_level_is_a_budget():
    assert Request("dct-shield", eps=0.5 / 255).eps == 0.5 / 255


def test_a_picture_named_as_the_contact_sheet_is_refused(tmp_path, vae):
    source = save_noise(tmp_path / "sheet.jpg", 16, 16)
    with pytest.raises(InputError, match="would be overwritten by the contact sheet"):
        attacked("latent", source, tmp_path / "out", vae)


def test_the_contact_sheet_of_a_folder_that_is_given_is_left_out(tmp_path, vae):
    save_noise(tmp_path / "clean" / "a.png", 16, 16)
    attacked("latent", tmp_path / "clean", tmp_path / "once", vae)
    assert (tmp_path / "once" / "sheet.png").is_file()
    for folder in (tmp_path / "once", tmp_path):  # also where it lies further down
        records = attacked("latent", folder, tmp_path.parent / f"{tmp_path.name}-of-{folder.name}", vae)
        assert {Path(record["source"]).name for record in records} == {"a.png"}
    # A photograph that somebody called so is not taken for one.
    save_noise(tmp_path / "once" / "sheet.png", 16, 16)
    with pytest.raises(InputError, match="would be overwritten by the contact sheet"):
        attacked("latent", tmp_path / "once", tmp_path / "thrice", vae)


def test_a_mask_of_other_proportions_is_refused(tmp_path, vae):
    source, mask = save_noise(tmp_path / "a.png", 32, 16), save_noise(tmp_path / "mask.png", 16, 32)
    with pytest.raises(InputError, match="same proportions"):
        attacked("latent", source, tmp_path / "out", vae, mask=mask, steps=1)


def test_a_mask_that_is_transparent_in_places_is_refused(tmp_path, vae):
    source, mask = save_noise(tmp_path / "a.png", 16, 16), tmp_path / "mask.png"
    selection = Image.new("RGBA", (16, 16), (255, 255, 255, 255))
    selection.paste((0, 0, 0, 0), (0, 8, 16, 16))
    selection.save(mask)
    with pytest.raises(InputError, match="save it without transparency"):
        attacked("latent", source, tmp_path / "out", vae, mask=mask, steps=1)


def test_another_unet_is_another_run(tmp_path, vae):
    source, pipeline = save_noise(tmp_path / "a.png", 16, 16), little(vae)
    attacked("advdm", source, tmp_path / "out", pipeline, steps=1)
    pipeline.pipe.unet.conv_in.weight.mul_(1.1)
    with pytest.raises(InputError, match="networks was"):
        attacked("advdm", source, tmp_path / "out", pipeline, steps=1)


def test_a_source_with_new_content_is_attacked_anew(tmp_path, vae):
    source = save_noise(tmp_path / "a.png", 16, 16)
    run(source, vae)
    before = read_image(tmp_path / "out" / "a.png")
    save_noise(source, 16, 16, 1)
    run(source, vae)
    assert not torch.equal(before, read_image(tmp_path / "out" / "a.png"))


def test_a_broken_record_is_made_again(folder, vae):
    run(folder, vae)
    record = folder.parent / "out" / "a.json"
    whole = record.read_text()
    record.write_text("{")
    run(folder, vae)
    assert record.read_text() == whole


def test_a_source_is_never_overwritten(tmp_path, vae):
    source = save_noise(tmp_path / "a.png", 16, 16)
    before = source.read_bytes()
    try:
        attacked("latent", source, tmp_path, vae, eps=EPS, steps=1)
    except InputError:
        pass
    assert source.read_bytes() == before


def test_a_file_that_is_beyond_the_budget_is_an_error(tmp_path, vae):
    attack, picture = prepare(Request("latent", eps=EPS), vae), read_picture(save_noise(tmp_path / "a.png", 16, 16))
    x = to_tensor(picture.rgb)
    write_attacked(attack, tmp_path / "within.png", picture, x + (8 / 255) * (1 - 2 * (x > 0.5).float()))
    with pytest.raises(AssertionError, match="moved by 0.035.*, more than the budget of 0.031"):
        write_attacked(attack, tmp_path / "beyond.png", picture, x + (9 / 255) * (1 - 2 * (x > 0.5).float()))
