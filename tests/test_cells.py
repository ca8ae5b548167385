"""Every cell of every benchmark, worked out again from public functions, on models of which no two give the same numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import small_kl
from pipelines import little
from srlvae.attacks import ATTACKS
from srlvae.attacks.contrast import split_contrast
from srlvae.attacks.engine.pgd import Loop
from srlvae.attacks.table import NOISES
from srlvae.bench import distances, estimates
from srlvae.bench import edited as editing_module
from srlvae.bench import mimicry as mimicry_module
from srlvae.bench.cache import key_of_image
from srlvae.bench.cells import Cell
from srlvae.bench.editing import editing
from srlvae.bench.editing_plan import conditions as editing_conditions
from srlvae.bench.hardening import hardening
from srlvae.bench.kinds import KINDS
from srlvae.bench.mimicry import mimicry, mimics
from srlvae.bench.mimicry_protocol import MimicryProtocol
from srlvae.bench.mimics import Mimic
from srlvae.bench.photographs import load_photographs
from srlvae.bench.poisoning import poisoning, tunings
from srlvae.bench.poisons import Poison
from srlvae.bench.protocol import (
    ChosenAttack,
    ChosenPurifier,
    Concept,
    EditingProtocol,
    Pair,
    PoisoningProtocol,
    ReconstructionProtocol,
)
from srlvae.bench.reconstruction import conditions as reconstruction_conditions
from srlvae.bench.reconstruction import reconstruction
from srlvae.bench.rows import VAE_OF, Estimate, access_of, read_rows
from srlvae.bench.styles import Style
from srlvae.finetune import FinetuneConfig, encode_images, tune
from srlvae.images import to_levels, write_image
from srlvae.metrics.bootstrap import bootstrap_interval, interval_about, resamples
from srlvae.metrics.clip import clip_i, clip_t
from srlvae.metrics.frechet import frechet_distance
from srlvae.metrics.judge import fit_probe, soften
from srlvae.metrics.kernel import KernelDistance
from srlvae.metrics.pairwise import feature_distance, psnr, ssim
from srlvae.metrics.projection import Projection
from srlvae.models.encoders import write_encoder
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.purify import PURIFIERS
from srlvae.report.rows import find_row
from srlvae.rng import generators, named_generator, uniform_like
from srlvae.scan import calibrate
from srlvae.scan.evidence import evidence
from twins import NervousFeatures, NervousJudge, PooledFeatures, SmallClip, hardened_twin

RESAMPLES = 20
# Three of the 14 numbers of the feature network.
PROJECTION = Projection(torch.full((14,), 0.1), torch.eye(14)[[2, 5, 11]])
EPS = 15 / 255
# A batch takes all images, so that sums come in one order, here and there.
RECONSTRUCTION = ReconstructionProtocol(
    attacks=("latent", "photoguard-encoder"),
    eps=(EPS,),
    steps=2,
    images=3,
    clean_images=4,
    size=32,
    seed=3,
    pairs="random",
    sets="random",
)
EDITING = EditingProtocol(
    pipeline="sd15",
    hardened="hardened",
    clip="clip",
    prompts=("a photo of a cat", "a photo of a dog", "a house"),
    attacks=(
        ChosenAttack(
            "photoguard-encoder",
            (EPS,),
            steps=2,
            white_box=True,
            also_on=("both", "twin"),
            parts=True,
            through=("jpeg",),
            sweep=(1,),
            starts=(2,),
        ),
        ChosenAttack("advdm", (EPS,), steps=1, white_box=True),
        ChosenAttack("square", (EPS,), steps=3, preset="zero"),
    ),
    purifiers=(ChosenPurifier("jpeg", settings={"quality": 20}, attacks=("photoguard-encoder",), hardened=True),),
    twin="twin",
    images=3,
    prompts_an_image=2,
    strength=0.7,
    steps=3,
    guidance=2.0,
    seed=3,
    pairs="random",
    sets="random",
)
POISONING = PoisoningProtocol(
    pipeline="sd15",
    hardened="hardened",
    concepts=(Concept("cats", "cat"), Concept("dogs", "dog"), Concept("cars", "car")),
    pairs=(Pair("cat", "dog"),),
    counts=(3,),
    eps=(10 / 255,),
    seeds=(5,),
    purifiers=(ChosenPurifier("jpeg", settings={"quality": 20}),),
    scan_rate=0.5,
    clean_each=2,
    attack_steps=2,
    more_steps=1,
    steps=1,
    batch_size=4,
    learning_rate=1e-1,
    generated=3,
    others=2,
    denoising_steps=2,
)
MIMICRY = MimicryProtocol(
    pipeline="sd15",
    hardened="hardened",
    styles=(Style("halftone", 2), Style("pencil sketch", 1)),
    attacks=(
        ChosenAttack("photoguard-encoder", (EPS,), steps=2, white_box=True),
        ChosenAttack("photoguard-encoder", (EPS,), steps=3, preset="app"),
    ),
    concepts=(Concept("cats", "cat"), Concept("dogs", "dog")),
    purifiers=(ChosenPurifier("jpeg", settings={"quality": 20}),),
    each=1,
    judged=3,
    held_out=1,
    seeds=(5,),
    attack_seed=3,
    steps=1,
    batch_size=4,
    learning_rate=1e-2,
    generated=2,
    denoising_steps=2,
)


@pytest.fixture(scope="module", autouse=True)
def networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "load_features", lambda name: PooledFeatures())
        patch.setattr(mimicry_module, "load_features", lambda name: NervousFeatures())
        patch.setattr(editing_module, "load_clip", lambda name, device: SmallClip())
        patch.setattr(estimates, "RESAMPLES", RESAMPLES)
        patch.setattr(distances, "load_projection", lambda name: PROJECTION)
        yield


@pytest.fixture(scope="module")
def vaes() -> dict[str, VAE]:
    return {"original": small_kl(), "hardened": hardened_twin(), "twin": hardened_twin(seed=2)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Photographs of three concepts, each in a folder of its own."""
    folder = tmp_path_factory.mktemp("cells") / "photographs"
    for k, name in enumerate(("cats", "dogs", "cars")):
        for i in range(5):
            draw = torch.Generator().manual_seed(10 * k + i)
            picture = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8, generator=draw), 64, mode="bilinear")
            write_image(folder / name / f"{i}.png", picture[0])
    return folder


def attacked(
    name: str, x: Tensor, model: VAE | Pipeline, seed: int, steps: int, eps: float = EPS, preset: str = "", **options
) -> Tensor:
    """An attack on whole grey levels, image by image from a generator of its own."""
    attack, draws = ATTACKS[name], [named_generator(seed, key_of_image(image)) for image in x]
    if attack.needs == "vae":
        options.setdefault("vae", model.vae if isinstance(model, Pipeline) else model)
    else:
        options["pipeline"] = model
    preset = attack.presets[preset] if preset else attack.default
    found = attack.run(x, ball=preset.ball.resized(eps, steps), generators=draws, **{**preset.options, **options})
    return to_levels(found).float() / 255


def noisy(x: Tensor, name: str, eps: float | Tensor, seed: int) -> Tensor:
    draws = [named_generator(seed, key_of_image(image)) for image in x]
    draw = uniform_like(x, draws)
    draw = draw.sign() if name == "random-signs" else draw
    return to_levels((x + eps * draw).clamp(0, 1)).float() / 255


def part_of(part: str, x: Tensor, whole: Tensor, seed: int) -> Tensor:
    """What one part of the perturbations of `whole` makes of the photographs."""
    delta = whole - x
    if part == "signs":
        levels = 255 * delta.square().mean((1, 2, 3), keepdim=True).sqrt()
        draws = [named_generator(seed, key_of_image(image)) for image in x]
        sign, share = uniform_like(x, draws), (uniform_like(x, draws) + 1) / 2
        # One level more in so many places that the mean square is right.
        more = share * (2 * levels.floor() + 1) < levels**2 - levels.floor() ** 2
        return to_levels((x + sign.sign() * (levels.floor() + more) / 255).clamp(0, 1)).float() / 255
    return to_levels((x + split_contrast(x, delta)[part == "rest"]).clamp(0, 1)).float() / 255


def check(found: Estimate, values: Tensor, seed: int, groups: Tensor | None = None) -> None:
    """An estimate is the mean of the finite values with their interval."""
    kept = values.isfinite()
    values, groups = values[kept], None if groups is None else groups[kept]
    assert found.n == len(values)
    if len(values):
        # Sums of batches of another size, and after an edit a grey level here and there.
        wanted = bootstrap_interval(values, torch.Generator().manual_seed(seed), groups=groups)
        assert (found.value, found.low, found.high) == pytest.approx((values.mean().item(), *wanted), rel=2e-3, abs=1e-6)
    else:
        assert found.value is None


def pairwise(y: Tensor, x: Tensor) -> dict[str, Tensor]:
    columns = PooledFeatures().columns
    return {"psnr": psnr(y, x), "ssim": ssim(y, x), "distance": feature_distance(columns(y), columns(x))}


# --- reconstruction


@pytest.fixture(scope="module")
def reconstructed(vaes, folder) -> dict:
    return reconstruction(vaes["original"], vaes["hardened"], folder, folder.parent / "reconstruction", RECONSTRUCTION)


@pytest.mark.parametrize(("cell", "defence"), reconstruction_conditions(RECONSTRUCTION), ids=str)
def test_a_row_of_reconstruction_is_what_its_vae_makes_of_its_images(cell, defence, reconstructed, vaes, folder):
    seed, x = RECONSTRUCTION.seed, load_photographs(folder, 4, 32, RECONSTRUCTION.seed)[0]
    if cell.attack != "none":
        x = x[:3]
    if cell.attack in NOISES:
        given = noisy(x, cell.attack, EPS, seed)
    else:
        given = x if cell.attack == "none" else attacked(cell.attack, x, vaes[cell.made_on], seed, RECONSTRUCTION.steps)
        given = part_of(cell.part, x, given, seed) if cell.part else given
    vae, rows = vaes[VAE_OF[defence]], read_rows(reconstructed["rows"])
    row = find_row(rows, **cell.condition(), defence=defence, access=access_of(cell.made_on, defence))
    with torch.no_grad():
        moved, there, y = vae.mean(given), vaes["original"].mean(x), vae.reconstruct(given)
    assert row.n == len(x)
    shift = (moved - there).flatten(1).norm(dim=1) / there.flatten(1).norm(dim=1)
    for name, values in (pairwise(y, x) | {"shift": shift}).items():
        check(row.measures[name], values, seed)
    pooled, numbers = PooledFeatures().pooled, torch.arange(len(x))
    assert row.measures["frechet"].value == pytest.approx(frechet_distance(pooled(y), pooled(x)), rel=1e-3, abs=1e-6)
    some = frechet_distance(pooled(y)[:, [2, 5, 11]], pooled(x)[:, [2, 5, 11]])
    assert row.measures["frechet_pca"].value == pytest.approx(some, rel=1e-3, abs=1e-6)
    kid = KernelDistance(pooled(y), pooled(x), (numbers, numbers)).value()
    assert row.measures["kid"].value == pytest.approx(kid, rel=1e-3, abs=1e-6)


def test_no_two_rows_of_reconstruction_are_equal(reconstructed):
    rows = read_rows(reconstructed["rows"])
    assert len({str(row.measures) for row in rows}) == len(rows) == len(reconstruction_conditions(RECONSTRUCTION))


# --- hardening


def test_a_row_of_hardening_is_what_the_encoder_of_its_step_makes_of_its_images(vaes, folder):
    out = folder.parent / "hardening"
    encoders = {step: hardened_twin(seed=step) for step in (1, 2)}
    for step, encoder in encoders.items():
        facts = {"step": step, "images": 8 * step, "seconds": 60.0 * step}
        write_encoder(out / "run" / "snapshots" / f"step-{step:06d}.safetensors", encoder, small_kl(), facts)
    rows = read_rows(hardening(small_kl(), [out / "run"], folder, out / "made", RECONSTRUCTION)["rows"])
    seed, x = RECONSTRUCTION.seed, load_photographs(folder, 4, 32, RECONSTRUCTION.seed)[0]
    there = vaes["original"].mean(x)
    for step, encoder in encoders.items():
        for access, model in (("transfer", vaes["original"]), ("white-box", encoder)):
            given = attacked("latent", x[:3], model, seed, RECONSTRUCTION.steps)
            shift = (encoder.mean(given) - there[:3]).flatten(1).norm(dim=1) / there[:3].flatten(1).norm(dim=1)
            check(find_row(rows, step=step, attack="latent", access=access).measures["shift"], shift, seed)
        clean = find_row(rows, step=step, attack="none", defence="hardened")
        check(clean.measures["psnr"], psnr(encoder.reconstruct(x), x), seed)
        assert (clean.condition["images"], clean.condition["seconds"]) == (8 * step, 60.0 * step)
    own = find_row(rows, attack="latent", defence="none")
    y = vaes["original"].reconstruct(attacked("latent", x[:3], vaes["original"], seed, RECONSTRUCTION.steps))
    check(own.measures["psnr"], psnr(y, x[:3]), seed)


# --- editing


def jpeg_20(x: Tensor) -> Tensor:
    return PURIFIERS["jpeg"](x, [named_generator(0, "none is drawn")] * len(x), None, quality=20)


@dataclasses.dataclass
class Edits:
    """The edits of the photographs, by public functions alone."""

    pipelines: dict[str, Pipeline]
    x: Tensor

    def __post_init__(self):
        each = EDITING.prompts_an_image
        self.photograph = torch.arange(len(self.x)).repeat_interleave(each)
        self.prompts = [EDITING.prompts[k % len(EDITING.prompts)] for k in range(len(self.photograph))]
        self.reference = self.edit(self.x, "original")

    def given(self, cell: Cell) -> Tensor:
        if cell.attack == "none":
            return self.x
        if cell.attack in NOISES:
            return noisy(self.x, cell.attack, EPS, EDITING.seed)
        steps = cell.steps or {chosen.name: chosen.steps for chosen in EDITING.attacks}[cell.attack]
        model, options = self.pipelines["original" if cell.made_on == "both" else cell.made_on], {}
        if cell.made_on == "both":
            options["vae"] = tuple(self.pipelines[name].vae for name in ("original", "hardened"))
        if cell.through:
            # Forward as the JPEG is, backward as the identity.
            options["loop"] = Loop(view=lambda x: x + (jpeg_20(x.detach()) - x).detach())
        if cell.restarts:
            options["loop"] = Loop(restarts=cell.restarts)
        whole = attacked(cell.attack, self.x, model, EDITING.seed, steps, preset=cell.preset, **options)
        return part_of(cell.part, self.x, whole, EDITING.seed) if cell.part else whole

    def edit(self, given: Tensor, vae: str, seed: int = EDITING.seed) -> Tensor:
        names = [key_of_image(self.x[i]) + prompt for i, prompt in zip(self.photograph, self.prompts, strict=True)]
        draws = [named_generator(seed, name) for name in names]
        settings = {"strength": EDITING.strength, "steps": EDITING.steps, "guidance": EDITING.guidance}
        found = self.pipelines[vae].edit(given[self.photograph], self.prompts, draws, **settings)
        return to_levels(found).float() / 255

    def under(self, defence: str, given: Tensor) -> Tensor:
        if defence in VAE_OF:
            return self.edit(given, VAE_OF[defence])
        assert defence in ("jpeg", "hardened+jpeg")
        return self.edit(to_levels(jpeg_20(given)).float() / 255, "original" if defence == "jpeg" else "hardened")


@pytest.fixture(scope="module")
def edits(vaes, folder) -> Edits:
    pipeline = little(vaes["original"])
    pipelines = {"original": pipeline, "hardened": pipeline.with_vae(vaes["hardened"])}
    pipelines["twin"] = pipeline.with_vae(vaes["twin"])
    return Edits(pipelines, load_photographs(folder, EDITING.images, pipeline.size, EDITING.seed)[0])


@pytest.fixture(scope="module")
def edited(edits, vaes, folder) -> dict:
    return editing(edits.pipelines["original"], vaes["hardened"], folder, folder.parent / "editing", EDITING, twin=vaes["twin"])


def check_edits(measures: dict[str, Estimate], y: Tensor, edits: Edits) -> None:
    seed, groups, reference = EDITING.seed, edits.photograph, edits.reference
    values = pairwise(y, reference) | {"clip_i": clip_i(SmallClip(), y, reference)}
    for name, found in (values | {"clip_t": clip_t(SmallClip(), y, edits.prompts)}).items():
        check(measures[name], found, seed, groups)
    pooled, there = PooledFeatures().pooled(y), PooledFeatures().pooled(reference)
    kid = KernelDistance(pooled, there, (groups, groups))
    # After an edit a grey level here and there, as in `check`.
    wanted = (kid.value(), *kid.interval(torch.Generator().manual_seed(seed), RESAMPLES))
    assert dataclasses.astuple(measures["kid"])[:3] == pytest.approx(wanted, rel=5e-3, abs=1e-5)
    picks = list(resamples(groups, RESAMPLES, torch.Generator().manual_seed(seed)))
    some = [2, 5, 11]
    for name, (a, b) in {"frechet": (pooled, there), "frechet_pca": (pooled[:, some], there[:, some])}.items():
        about = frechet_distance(a, b)
        ends = interval_about(about, [frechet_distance(a[pick], b[pick]) for pick in picks])
        assert dataclasses.astuple(measures[name])[:3] == pytest.approx((about, *ends), rel=5e-3, abs=1e-5)


@pytest.mark.parametrize(("cell", "defence"), editing_conditions(EDITING), ids=str)
def test_a_row_of_editing_compares_the_edits_of_its_images_by_its_pipeline(cell, defence, edited, edits):
    row = find_row(read_rows(edited["rows"]), **cell.condition(), defence=defence, access=cell.access(defence))
    check_edits(row.measures, edits.under(defence, edits.given(cell)), edits)


@pytest.mark.parametrize(("defence", "access"), [("hardened", "transfer"), ("hardened", "white-box"), ("jpeg", "white-box")])
def test_the_worst_case_is_the_furthest_edit_of_all_attacks_image_by_image(defence, access, edited, edits):
    cells = [cell for cell, other in editing_conditions(EDITING) if other == defence and cell.made_on]
    cells = [cell for cell in cells if not (cell.part or cell.steps or cell.restarts)]
    if access == "transfer":
        cells = [cell for cell in cells if cell.made_on in ("original", "twin")]
    tried = [edits.under(defence, edits.given(cell)) for cell in cells]
    furthest = torch.stack([pairwise(y, edits.reference)["distance"] for y in tried]).amax(0)
    row = find_row(read_rows(edited["rows"]), attack="worst case", defence=defence, access=access)
    assert row.condition["attacks"] == len(cells) > 1 and list(row.measures) == ["distance"]
    assert row.measures["distance"].value == pytest.approx(furthest.mean().item(), rel=1e-4)


def test_no_two_rows_of_editing_are_equal(edited):
    rows = [row for row in read_rows(edited["rows"]) if row.condition["attack"] != "worst case"]
    assert len({str(row.measures) for row in rows}) == len(rows) == len(editing_conditions(EDITING))


def test_the_baselines_of_editing_are_another_draw_of_noise_and_both_vaes_reconstructions(edited, edits, vaes):
    other, clean = read_rows(edited["floor"])[0], read_rows(edited["reconstruction"])
    check_edits(other.measures, edits.edit(edits.x, "original", seed=EDITING.seed + 1), edits)
    for row in clean:
        for name, values in pairwise(vaes[VAE_OF[row.defence]].reconstruct(edits.x), edits.x).items():
            check(row.measures[name], values, EDITING.seed)


# --- poisoning


@dataclasses.dataclass
class Tuned:
    """Fine-tunings by public functions alone."""

    pipelines: dict[str, Pipeline]
    folder: Path

    def photographs(self, word: str) -> Tensor:
        return load_photographs(self.folder / f"{word}s", 10**6, self.pipelines["original"].size, 0)[0]

    def poisons(self, poison: Poison) -> Tensor:
        clean, order = POISONING.clean_each, torch.arange(poison.number)
        if poison.attack == "dirty-label":
            spare = self.photographs(poison.target)[clean:]
            return spare[order % len(spare)]
        spare, clip = self.photographs(poison.concept)[clean:], SmallClip()
        likeness = clip.images(spare) @ clip.texts([f"a photo of a {poison.concept}"])[0]
        sources = spare[likeness.argsort(descending=True)]
        prompt = f"a photo of a {poison.target}"
        options = {"prompt": prompt, "eps": poison.eps}
        steps = poison.steps or POISONING.attack_steps
        return attacked("nightshade", sources, self.pipelines[poison.made_on], 0, steps, **options)[order]

    def images(self, poison: Poison, defence: str, seed: int) -> tuple[Tensor, list[str]]:
        """What is trained on."""
        words = ("cat", "dog", "car")
        x = torch.cat([self.photographs(word)[: POISONING.clean_each] for word in words])
        captions = [f"a photo of a {word}" for word in words for _ in range(POISONING.clean_each)]
        if poison.number:
            x, captions = torch.cat([x, self.poisons(poison)]), captions + [f"a photo of a {poison.concept}"] * poison.number
        if defence == "jpeg":
            purified = PURIFIERS["jpeg"](x, [named_generator(seed, key_of_image(image)) for image in x], None, quality=20)
            x = to_levels(purified).float() / 255
        if defence == "scan":
            others = torch.cat([self.photographs(word)[POISONING.clean_each :] for word in words if word != poison.concept])
            clean, found = (evidence(*(self.pipelines[name].vae for name in VAE_OF.values()), part) for part in (others, x))
            normal, threshold = calibrate(clean, POISONING.scan_rate)
            kept = (normal.scores(found) <= threshold).tolist()
            assert 0 < sum(kept) < len(kept)
            x, captions = x[torch.tensor(kept)], [caption for caption, keep in zip(captions, kept, strict=True) if keep]
        return x, captions

    def pipeline(self, poison: Poison, defence: str, seed: int) -> Pipeline:
        pipeline, (x, captions) = self.pipelines[VAE_OF.get(defence, "original")], self.images(poison, defence, seed)
        rates = {"batch_size": POISONING.batch_size, "learning_rate": POISONING.learning_rate}
        config = FinetuneConfig(steps=POISONING.steps, seed=seed, **rates)
        return tune(pipeline, encode_images(pipeline, x, seed), captions, config)


def generated(pipeline: Pipeline, word: str, count: int, seed: int) -> Tensor:
    draws = generators(seed + 1000, range(count))
    return pipeline.generate([f"a photo of a {word}"] * count, draws, steps=POISONING.denoising_steps)


@pytest.fixture(scope="module")
def tuned(vaes, folder) -> Tuned:
    pipeline = little(vaes["original"])
    return Tuned({"original": pipeline, "hardened": pipeline.with_vae(vaes["hardened"])}, folder)


@pytest.fixture(scope="module")
def poisoned(tuned, vaes, folder) -> dict:
    models = tuned.pipelines["original"], vaes["hardened"]
    return poisoning(*models, folder, folder.parent / "poisoning", SmallClip(), NervousJudge(), POISONING)


@pytest.mark.parametrize("tuning", list(tunings(POISONING)), ids=str)
def test_a_row_of_poisoning_is_what_the_judge_calls_the_images_of_its_fine_tuning(tuning, poisoned, tuned):
    poison, seed, judge = tuning.poison, tuning.seed, NervousJudge()
    access = access_of(poison.made_on, tuning.defence)
    row = find_row(read_rows(poisoned["rows"]), **tuning.condition(), defence=tuning.defence, access=access)
    pipeline = tuned.pipeline(poison, tuning.defence, seed)
    calls = judge.predict(generated(pipeline, "cat", POISONING.generated, seed))
    cars = generated(pipeline, "car", POISONING.others, seed)
    wanted = {"target": calls == 1, "concept": calls == 0, "neither": calls > 1, "others": judge.predict(cars) == 2}
    found = {name: row.measures[name].value for name in wanted}
    assert found == pytest.approx({name: values.float().mean().item() for name, values in wanted.items()})
    likeness = clip_t(SmallClip(), cars, ["a photo of a car"] * len(cars)).mean().item()
    assert row.measures["clip_t"].value == pytest.approx(likeness, rel=1e-5)


def test_no_two_fine_tunings_are_equal(poisoned):
    values = [row["measures"]["clip_t"]["value"] for row in poisoned["rows"]]
    assert len(set(values)) == len(values) == len(list(tunings(POISONING)))


# --- mimicry


@dataclasses.dataclass
class Mimicked:
    """Fine-tunings on pictures in a style, and the judge of styles, by public functions alone."""

    pipelines: dict[str, Pipeline]
    folder: Path

    def photographs(self, first: int, last: int) -> Tensor:
        size = self.pipelines["original"].size
        return torch.cat([load_photographs(self.folder / name, 10**6, size, 0)[0][first:last] for name in ("cats", "dogs")])

    def rendered(self, style: Style, x: Tensor) -> Tensor:
        pictures = [KINDS[style.kind](one.permute(1, 2, 0).double().numpy(), np.random.default_rng(style.seed)) for one in x]
        return to_levels(torch.stack([torch.tensor(one).clamp(0, 1).permute(2, 0, 1) for one in pictures])).float() / 255

    def judge(self, x: Tensor) -> Tensor:
        """The probability of a photograph and of each style."""
        clean = self.photographs(1, 4)
        classes = [clean, *(self.rendered(style, clean) for style in MIMICRY.styles)]
        # A rendering of the mirrored picture is another picture than the mirrored rendering.
        other = [clean.flip(-1), *(self.rendered(style, clean.flip(-1)) for style in MIMICRY.styles)]
        views = [soften(torch.cat([one, two]), factor) for one, two in zip(classes, other, strict=True) for factor in (1, 2, 3)]
        labels = torch.arange(len(classes)).repeat_interleave(3 * 2 * len(clean))
        weight, bias = fit_probe(torch.cat([NervousFeatures().pooled(view) for view in views]), labels, len(classes))
        return (NervousFeatures().pooled(x) @ weight.T + bias).softmax(1)

    def shown(self, mimic: Mimic) -> Tensor:
        """What the pipeline shows after a fine-tuning."""
        style, cell, defence = mimic.style, mimic.cell, mimic.defence
        x = self.rendered(style, self.photographs(0, MIMICRY.each))
        if cell.attack != "none":
            model, steps = self.pipelines[cell.made_on], 3 if cell.preset else 2
            x = attacked(cell.attack, x, model, MIMICRY.attack_seed, steps, preset=cell.preset)
        if defence == "jpeg":
            x = to_levels(jpeg_20(x)).float() / 255
        pipeline = self.pipelines[VAE_OF.get(defence, "original")]
        rates = {"batch_size": MIMICRY.batch_size, "learning_rate": MIMICRY.learning_rate}
        config = FinetuneConfig(steps=MIMICRY.steps, seed=mimic.seed, **rates)
        captions = [f"a {style.kind} of a cat", f"a {style.kind} of a dog"]
        return self.asked(tune(pipeline, encode_images(pipeline, x, mimic.seed), captions, config), style, mimic.seed)

    def asked(self, pipeline: Pipeline, style: Style, seed: int) -> Tensor:
        prompts = [f"a {style.kind} of a {word}" for word in ("cat", "dog") for _ in range(MIMICRY.generated)]
        return pipeline.generate(prompts, generators(seed + 1000, range(len(prompts))), steps=MIMICRY.denoising_steps)


@pytest.fixture(scope="module")
def mimicked(vaes, folder) -> Mimicked:
    pipeline = little(vaes["original"])
    return Mimicked({"original": pipeline, "hardened": pipeline.with_vae(vaes["hardened"])}, folder)


@pytest.fixture(scope="module")
def mimicry_result(mimicked, vaes, folder) -> dict:
    return mimicry(mimicked.pipelines["original"], vaes["hardened"], folder, folder.parent / "mimicry", MIMICRY)


def check_style(measures: dict[str, Estimate], judged: Tensor, style: Style) -> None:
    number, called = 1 + MIMICRY.styles.index(style), judged.argmax(1)
    wanted = {"in_style": (called == number).float().mean(), "photograph": (called == 0).float().mean()}
    wanted["probability"] = judged[:, number].mean()
    found = {name: measures[name].value for name in wanted}
    # A probe that was fitted in batches of another size.
    assert found == pytest.approx({name: value.item() for name, value in wanted.items()}, abs=2e-3)


@pytest.mark.parametrize("mimic", list(mimics(MIMICRY)), ids=str)
def test_a_row_of_mimicry_is_what_the_judge_says_of_the_images_of_its_fine_tuning(mimic, mimicry_result, mimicked):
    row = find_row(read_rows(mimicry_result["rows"]), **mimic.condition(), defence=mimic.defence, access=mimic.access())
    shown = mimicked.shown(mimic)
    check_style(row.measures, mimicked.judge(shown), mimic.style)
    assert row.n == len(shown) == 4


@pytest.mark.parametrize("attack", ["none", "photoguard-encoder", "photoguard-encoder:app"])
def test_the_best_of_all_methods_is_the_one_with_the_most_of_the_style_image_by_image(attack, mimicry_result, mimicked):
    style = MIMICRY.styles[1]
    tried = [m for m in mimics(MIMICRY) if m.style == style and m.cell.name == attack and m.cell.made_on != "hardened"]
    judged = torch.stack([mimicked.judge(mimicked.shown(mimic)) for mimic in tried if mimic.defence != "none"])
    best = judged[judged[:, :, 2].argmax(0), torch.arange(judged.shape[1])]
    row = find_row(read_rows(mimicry_result["rows"]), attack=attack, style=style.kind, defence="best of 2")
    check_style(row.measures, best, style)
    assert len(judged) == 2 and row.access == ("none" if attack == "none" else "transfer")


def test_the_baselines_of_mimicry_are_renderings_of_other_photographs_and_the_pipeline_as_it_comes(mimicry_result, mimicked):
    for row, style in zip(read_rows(mimicry_result["rendered"]), MIMICRY.styles, strict=True):
        check_style(row.measures, mimicked.judge(mimicked.rendered(style, mimicked.photographs(4, 5))), style)
    for row, style in zip(read_rows(mimicry_result["untuned"]), MIMICRY.styles, strict=True):
        shown = mimicked.asked(mimicked.pipelines["original"], style, MIMICRY.seeds[0])
        check_style(row.measures, mimicked.judge(shown), style)


def test_no_two_fine_tunings_on_a_style_are_equal(mimicry_result):
    rows = [row for row in read_rows(mimicry_result["rows"]) if not row.defence.startswith("best")]
    values = [row.measures["probability"].value for row in rows]
    assert len(set(values)) == len(values) == len(list(mimics(MIMICRY)))
