"""Training loops, written out again in a few lines from public functions: hardening, its scores, and fine-tuning."""

from __future__ import annotations

import copy
import math
from collections import Counter

import pytest
import torch

from conftest import small_kl
from pipelines import little
from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import pgd
from srlvae.attacks.papers.latent import latent_objective
from srlvae.attacks.papers.photoguard import photoguard_encoder_objective
from srlvae.attacks.papers.pid import variance_objective
from srlvae.attacks.papers.reconstruction import reconstruction_objective
from srlvae.finetune import FinetuneConfig, encode_images, finetune, tune
from srlvae.finetune.loop import batch_at, join_conditionings
from srlvae.harden import HardenConfig, InnerAttack, Objective, harden
from srlvae.harden.apart import set_apart
from srlvae.harden.crops import Crops
from srlvae.harden.inner import go_on, perturb
from srlvae.harden.photographs import open_photographs
from srlvae.harden.progress import Progress
from srlvae.harden.scores import quick_score, scores
from srlvae.harden.settings import TERMS
from srlvae.harden.terms import CleanBatch, Term, next_log_weight, outer_loss
from srlvae.images import write_image
from srlvae.metrics.pairwise import psnr, squared_shift
from srlvae.models.noise import denoising_loss
from srlvae.models.posterior import hold_variance, mean_log_variance, variance_head
from srlvae.models.vae import VAE
from srlvae.rng import generators
from srlvae.training.schedule import update_average, warm_cosine
from twins import hardened_twin

# Two batches of two, each visited twice; half of the images are decoded; gradients are longer than `clip`.
OBJECTIVE = Objective(attacks=(InnerAttack(), InnerAttack("target", "original", steps=2)), turns=2, visits=2, decode_every=2)
CONFIG = HardenConfig(
    steps=4, batch_size=2, resolution=32, warmup=2, clip=0.05, ema=0.5, seed=3, learning_rate=1e-3,
    features="none", precision="no", held_out=2, workers=0, objective=OBJECTIVE,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for i in range(20):
        picture = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(i))
        picture = torch.nn.functional.interpolate(picture[None], (40, 48), mode="bilinear")[0]
        write_image(tmp_path / "photographs" / f"{i:02d}.png", picture)
    return tmp_path / "photographs"


def hardened_by_hand(folder, config: HardenConfig) -> VAE:
    original, trained = small_kl(), small_kl()
    for vae in (original, trained):
        vae.model.to(memory_format=torch.channels_last)
    held_out, photographs, chosen = set_apart(open_photographs(str(folder), 64), config.held_out, 32, config.seed)
    crops = Crops(photographs, chosen, config.resolution, config.seed)
    modules = trained.encoder_modules()
    weights = [weight.requires_grad_() for module in modules.values() for weight in module.parameters()]
    average = copy.deepcopy(modules)
    slow = [weight.requires_grad_(False) for module in average.values() for weight in module.parameters()]
    optimizer, objective, log_weight = torch.optim.AdamW(weights, betas=(0.9, 0.99), weight_decay=0.0), config.objective, 0.0
    log_weight = Progress().log_weight
    for step in range(config.steps):
        done, number = step / config.steps, 2 * (step // objective.visits)
        numbers, radius = [number, number + 1], objective.radius(done)
        if step % objective.visits == 0:
            x = torch.stack([crops[n][0] for n in numbers]).contiguous(memory_format=torch.channels_last)
            clean = CleanBatch(x, original, None)
            delta = perturb(trained, clean, objective.attacks, numbers, config.seed, radius, objective.weaker)
            if step:
                moved = squared_shift(trained.mean(x), clean.latents).mean().item()
                log_weight = next_log_weight(log_weight, moved, objective.bound(done))
        terms, looked = (*TERMS, Term("shift", "clean", math.exp(log_weight))), [i for i in range(2) if numbers[i] % 2 == 0]
        attacked = (x + delta).requires_grad_()
        loss, _ = outer_loss(trained.mean, trained, clean, attacked, terms, looked, objective.decode_every)
        loss.mean().backward()
        assert torch.nn.utils.clip_grad_norm_(weights, config.clip) > config.clip
        optimizer.param_groups[0]["lr"] = config.learning_rate * warm_cosine(step, config.steps, config.warmup)
        optimizer.step()
        optimizer.zero_grad()
        update_average(slow, weights, step + 1, config.ema)
        delta = go_on(delta, attacked.grad, clean, objective.attacks, numbers, radius, objective.weaker)
    result = small_kl()
    for name, module in result.encoder_modules().items():
        module.load_state_dict(average[name].state_dict())
    hold_variance(result, mean_log_variance(original, held_out))
    return result


def test_a_hardening_run_is_its_loop(folder, tmp_path):
    made, wanted = harden(small_kl(), folder, tmp_path / "out", CONFIG), hardened_by_hand(folder, CONFIG)
    first = harden(small_kl(), folder, tmp_path / "other", CONFIG.changed(seed=4))
    pairs = [*zip(made.model.parameters(), wanted.model.parameters(), first.model.parameters(), strict=True)]
    near = torch.cat([torch.isclose(one, two, atol=1e-6).flatten() for one, two, _ in pairs])
    # Where a gradient is nearly zero its sign turns with the order of sums, and AdamW makes a whole step of it.
    assert near.float().mean() > 0.99
    assert not torch.cat([torch.isclose(one, other, atol=1e-6).flatten() for one, _, other in pairs]).float().mean() > 0.9


def test_scores_are_the_attacks_on_the_original_and_on_the_hardened_vae(x):
    original, hardened, seed = small_kl(), hardened_twin(), 3
    vaes = {"original": original, "hardened": hardened}
    for vae in vaes.values():  # a random encoder's variance hardly varies
        variance_head(vae).weight[vae.channels :] *= 5
    found, latents = scores(original, hardened, x, seed, None), original.mean(x)

    def attacked(objective, steps: int = 10) -> torch.Tensor:
        return pgd(x, objective, Ball.crossed(15 / 255, steps), generators=generators(seed, range(2)))

    def shift(vae: VAE, given: torch.Tensor) -> float:
        return squared_shift(vae.mean(given), latents).sqrt().mean().item()

    def deviation(vae: VAE, given: torch.Tensor) -> float:
        return vae.posterior(given)[1].exp().mean().sqrt().item()

    made = {}
    for name, vae in vaes.items():
        objectives = latent_objective(vae, latents), reconstruction_objective(vae, x), photoguard_encoder_objective(vae)
        made[name] = [attacked(objective) for objective in (*objectives, variance_objective(vae))]
    for name, vae in vaes.items():
        wanted = {"shift_clean": shift(vae, x), "psnr_clean": psnr(vae.reconstruct(x), x).mean().item()}
        for access, on in (("transfer", "original"), ("white_box", name)):
            away, worse, zero, varied = made[on]
            wanted |= {f"away_{access}": shift(vae, away), f"zero_{access}": shift(vae, zero)}
            wanted[f"psnr_{access}"] = psnr(vae.reconstruct(worse), x).mean().item()
        wanted |= {"deviation_clean": deviation(vae, x), "deviation_white_box": deviation(vae, varied)}
        assert found[name] == pytest.approx(wanted, rel=1e-4)
        assert found[name]["deviation_white_box"] > 1.001 * found[name]["deviation_clean"]
    short = attacked(latent_objective(hardened, latents), steps=5)
    assert quick_score(original, hardened, x, seed) == pytest.approx((shift(hardened, x), shift(hardened, short)), rel=1e-4)


# --- fine-tuning

FINETUNE = FinetuneConfig(steps=3, batch_size=3, learning_rate=1e-2, warmup=2, precision="no", seed=5, empty_captions=0.3)
CAPTIONS = ["a cat", "a dog", "a house", "a photo of a car"]


def test_a_fine_tuning_is_its_loop():
    pipeline, latents = little(small_kl()), torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    unet = copy.deepcopy(pipeline.pipe.unet).requires_grad_()
    by_hand, weights = pipeline.with_unet(unet), list(unet.parameters())
    optimizer = torch.optim.AdamW(weights, betas=(0.9, 0.99), weight_decay=0.01)
    for step in range(FINETUNE.steps):
        z, noise, t, chosen = batch_at(step, latents, CAPTIONS, FINETUNE, 1000)
        said = join_conditionings([pipeline.condition([caption]) for caption in chosen])
        denoising_loss(by_hand, z, said, t, noise).mean().backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.param_groups[0]["lr"] = FINETUNE.learning_rate * warm_cosine(step, FINETUNE.steps, FINETUNE.warmup)
        optimizer.step()
        optimizer.zero_grad()
    found = tune(pipeline, latents, CAPTIONS, FINETUNE).pipe.unet.parameters()
    near = torch.cat([torch.isclose(one, two, rtol=1e-3, atol=1e-5).flatten() for one, two in zip(found, weights, strict=True)])
    assert near.float().mean() > 0.99


def test_a_batch_has_the_captions_of_its_images_of_which_some_are_left_out():
    latents, drawn = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 4, 8, 8), Counter[str]()
    noises = []
    for step in range(200):
        z, noise, _, chosen = batch_at(step, latents, CAPTIONS, FINETUNE, 1000)
        assert all(caption in ("", CAPTIONS[int(own[0, 0, 0])]) for own, caption in zip(z, chosen, strict=True))
        drawn.update(chosen)
        noises.append(noise)
    # Of 600 draws, within four standard deviations of 0.3, and every image about as often as another.
    assert 0.22 < drawn[""] / 600 < 0.38 and all(60 < drawn[caption] < 150 for caption in CAPTIONS)
    assert len({float(noise.sum()) for noise in noises}) == 200
    _, other, _, _ = batch_at(0, latents, CAPTIONS, FinetuneConfig(batch_size=3, seed=6), 1000)
    assert not torch.equal(other, noises[0])


def test_files_are_learnt_by_draws_of_their_centre_squares(tmp_path):
    pipeline = little(small_kl())
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)).mul(255).round() / 255
    for i, image in enumerate(x):
        write_image(tmp_path / "images" / f"{i}.png", image)
        (tmp_path / "images" / f"{i}.txt").write_text(CAPTIONS[i])
    made = finetune(pipeline, tmp_path / "images", tmp_path / "out", FINETUNE)
    wanted = tune(pipeline, encode_images(pipeline, x, FINETUNE.seed), CAPTIONS[:3], FINETUNE)
    assert made.fingerprint() == wanted.fingerprint()
    z = encode_images(pipeline, x, FINETUNE.seed)
    assert not torch.allclose(z, pipeline.vae.to_scaled(pipeline.vae.mean(x)), atol=1e-3)
