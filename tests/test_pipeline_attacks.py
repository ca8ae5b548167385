"""The objectives of attacks on a whole pipeline against their papers' formulas, written out, with the same draws."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler

from conftest import small_kl
from pipelines import sd15, sdxl
from small import RandomFeatures
from srlvae.attacks.engine.ball import Ball, Perceptual
from srlvae.attacks.engine.perceptual import perceptual_penalty, perceptual_pgd, within_budget
from srlvae.attacks.engine.pgd import Loop, pgd
from srlvae.attacks.engine.surrogate import Surrogate, Tuning, copied, tune
from srlvae.attacks.papers.ace import Settings, ace, ace_objective
from srlvae.attacks.papers.advdm import denoising_objective
from srlvae.attacks.papers.antidreambooth import alternating, antidreambooth
from srlvae.attacks.papers.diffusionguard import diffusionguard, first_step_objective, shrink_mask
from srlvae.attacks.papers.glaze import glaze, glaze_objective
from srlvae.attacks.papers.mist import mist_fused_objective, mist_textural_objective
from srlvae.attacks.papers.nightshade import likeness, nightshade
from srlvae.attacks.papers.photoguard import photoguard_diffusion, photoguard_diffusion_objective
from srlvae.attacks.papers.sds import sds_objective
from srlvae.attacks.papers.styleguard import style_of, styleguard_objective
from srlvae.errors import InputError
from srlvae.metrics.clip import Clip
from srlvae.metrics.pairwise import feature_distance
from srlvae.models.denoising import image_to_image, timesteps
from srlvae.models.edit_settings import EditSettings
from srlvae.models.pipeline import Pipeline
from srlvae.rng import generators, normal_like

EPS = 8 / 255
PROMPT = "a photo of a cat"
every_kind = pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sdxl"])


@functools.cache
def pipeline(kind: str = "epsilon", inpainting: bool = False) -> Pipeline:
    return sdxl(small_kl()) if kind == "sdxl" else sd15(small_kl(), kind, inpainting=inpainting)


def draws(seed: int = 3):
    return generators(seed, range(2))


@pytest.fixture
def attacked(x) -> torch.Tensor:
    return (x + EPS * torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).sign()).clamp(0, 1)


def slope(objective, images):
    images = images.clone().requires_grad_()
    value = objective(images)
    return value.detach(), torch.autograd.grad(value.sum(), images)[0]


def same(objective, formula, images):
    """Value and gradient, to 1e-4 of their size: the same sums in another order."""
    (value, gradient), (expected, wanted) = slope(objective, images), slope(formula, images)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
    assert (gradient - wanted).norm() <= 1e-4 * wanted.norm() and wanted.norm() > 0


def noised(pipe, images, g):
    """A sample of the scaled posterior, a time and noise for each image, and the noised latent, in the order of the code."""
    output = pipe.vae.encode(images * 2 - 1).latent_dist
    z = (output.mean + output.std * normal_like(output.mean, g)) * pipe.vae.config.scaling_factor
    t = torch.stack([torch.randint(1000, (), generator=one) for one in g])
    noise = normal_like(z, g)
    share = DDPMScheduler.from_config(pipe.scheduler.config).alphas_cumprod[t].view(-1, 1, 1, 1)
    return z, t, noise, share, share.sqrt() * z + (1 - share).sqrt() * noise


def predicted(p: Pipeline, noisy, t):
    conditioning = p.condition([PROMPT] * len(noisy))
    return p.pipe.unet(noisy, t, conditioning.embeds, added_cond_kwargs=conditioning.added).sample


def ldm_loss(p: Pipeline, images, g):
    z, t, noise, share, noisy = noised(p.pipe, images, g)
    v = p.pipe.scheduler.config.prediction_type == "v_prediction"
    target = share.sqrt() * noise - (1 - share).sqrt() * z if v else noise
    return (predicted(p, noisy, t) - target).square().mean((1, 2, 3))


@every_kind
def test_advdm_raises_the_loss_of_training(kind, attacked):
    p = pipeline(kind)
    same(denoising_objective(p, PROMPT, draws()), lambda a: -ldm_loss(p, a, draws()), attacked)


def test_mist_textural_is_a_sum_over_the_scaled_sampled_latent(attacked):
    p = pipeline()
    target = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    def formula(a):
        output, g = p.pipe.vae.encode(a * 2 - 1).latent_dist, draws()
        z = (output.mean + output.std * normal_like(output.mean, g)) * 0.3
        return ((z - target) ** 2).flatten(1).sum(1)

    same(mist_textural_objective(p.vae, target, draws()), formula, attacked)


def test_mist_fused_raises_the_loss_while_it_nears_the_target(attacked):
    p = pipeline()
    target = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    def formula(a):
        z, t, noise, _, noisy = noised(p.pipe, a, draws())
        loss = (predicted(p, noisy, t) - noise).square().mean((1, 2, 3))
        return ((z - target) ** 2).sum((1, 2, 3)) - 1e4 * loss

    same(mist_fused_objective(p, PROMPT, target, draws()), formula, attacked)


@every_kind
@pytest.mark.parametrize("sign", [1, -1])
def test_the_gradient_of_sds_is_the_encoders_jacobian_times_the_error_of_the_noise(kind, sign, attacked):
    p = pipeline(kind)

    def formula(a):
        z, t, noise, share, noisy = noised(p.pipe, a, draws())
        with torch.no_grad():
            found = predicted(p, noisy, t)
            if kind == "v_prediction":
                found = share.sqrt() * found + (1 - share).sqrt() * noisy
        return -sign * ((found - noise) * z).sum((1, 2, 3))

    gradient, wanted = slope(sds_objective(p, PROMPT, draws(), sign), attacked)[1], slope(formula, attacked)[1]
    # The same sums in another order.
    assert (gradient - wanted).norm() <= 1e-4 * wanted.norm() and wanted.norm() > 0


def test_glaze_is_a_distance_of_latents_and_a_hinge(x, attacked):
    p, features, target = pipeline(), RandomFeatures(), torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    def formula(a):
        hinge = (feature_distance(features.columns(a), features.columns(x)) - 0.001).clamp_min(0)
        return ((p.vae.mean(a) - target) ** 2).sum((1, 2, 3)) + 30 * hinge

    penalty, distance = perceptual_penalty(x, features, 0.001), glaze_objective(p.vae, target)
    same(lambda a: distance(a) + Perceptual(0.001).weight * penalty(a), formula, attacked)


@every_kind
def test_photoguard_diffusion_is_the_distance_of_the_edit_to_its_target(kind, x, attacked):
    p, target = pipeline(kind), x.flip(0)
    objective = photoguard_diffusion_objective(p, PROMPT, target, draws(), edit=EditSettings(0.5, 4, 7.5))

    def formula(a):
        g = draws()
        z = p.vae.mean(a)
        first, *later = [normal_like(z, g) for _ in range(3)]
        conditioning = p.condition([PROMPT] * 2, (32, 32))
        edited = image_to_image(p, a, conditioning, first, EditSettings(0.5, 4, 7.5), later)
        return (edited - target).square().sum((1, 2, 3)).sqrt()

    same(objective, formula, attacked)


def test_photoguard_diffusion_draws_anew_at_every_call(x, attacked):
    objective = photoguard_diffusion_objective(pipeline(), PROMPT, x, draws(), edit=EditSettings(0.5, 4, 7.5))
    assert not torch.equal(objective(attacked), objective(attacked))


@pytest.mark.parametrize("inpainting", [False, True])
def test_photoguard_on_inpainting_moves_what_is_kept(inpainting, x):
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., :16] = 1
    given = {"generators": draws(), "loop": Loop(mask=mask)}
    model, ball = pipeline(inpainting=inpainting), Ball(EPS, 2, EPS / 2)
    adversarial = photoguard_diffusion(x, pipeline=model, ball=ball, inpaint=True, **given)
    assert torch.equal(adversarial[..., 16:], x[..., 16:]) and not torch.equal(adversarial[..., :16], x[..., :16])


def test_photoguard_on_inpainting_wants_a_mask(x):
    with pytest.raises(ValueError, match="needs a mask"):
        photoguard_diffusion(x, pipeline=pipeline(), ball=Ball(EPS, 1, EPS), generators=draws(), inpaint=True)


def test_diffusionguard_is_the_norm_of_the_first_prediction(attacked):
    p = pipeline()
    _, times = timesteps(p, 50, 0.5)

    def formula(a):
        z = p.vae.to_scaled(p.vae.mean(a))
        share = DDPMScheduler.from_config(p.pipe.scheduler.config).alphas_cumprod[times[0]]
        noisy = share.sqrt() * z + (1 - share).sqrt() * normal_like(z, draws())
        return -predicted(p, noisy, times[0]).square().sum((1, 2, 3)).sqrt()

    same(first_step_objective(p, PROMPT, draws(), kept=None, strength=0.5), formula, attacked)


def test_diffusionguard_sees_what_an_inpainter_keeps(x):
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., :24] = 1
    given = {"ball": Ball(EPS, 2, EPS / 2), "generators": draws(), "loop": Loop(mask=mask)}
    adversarial = diffusionguard(x, pipeline=pipeline(inpainting=True), **given)
    assert torch.equal(adversarial[..., 24:], x[..., 24:]) and not torch.equal(adversarial[..., :16], x[..., :16])


def test_a_shrunk_mask_lies_in_the_mask_and_moves_by_a_tenth_at_most():
    mask = torch.zeros(2, 1, 40, 40)
    mask[..., 8:32, 8:32] = 1
    sizes = set()
    for seed in range(12):
        shrunk = shrink_mask(mask, draws(seed))
        assert (shrunk <= mask).all()
        sizes |= {int(row.sum()) for row in shrunk}
    # 24 less twice 0 to 4 pixels, squared.
    assert len(sizes) > 2 and sizes <= {(24 - 2 * width) ** 2 for width in range(5)}


def test_the_surrogate_is_tuned_between_rounds_and_the_pipeline_is_not(x):
    p = pipeline()
    before = {name: weight.clone() for name, weight in p.pipe.unet.state_dict().items()}
    renew = alternating(p, x[:1], PROMPT, draws()[:1], Tuning(steps=1, rate=1e-3))
    objective = Surrogate(renew, lambda attacked: denoising_objective(attacked, PROMPT, draws()[:1]), every=2)
    networks = []
    for _ in range(4):
        objective(x[:1])
        networks.append(objective.attacked.pipe.unet)
    assert networks[0] is networks[1] and networks[1] is not networks[2] and networks[2] is networks[3]
    assert not torch.equal(networks[0].conv_in.weight, networks[2].conv_in.weight)
    assert all(torch.equal(before[name], weight) for name, weight in p.pipe.unet.state_dict().items())


def test_tuning_under_autocast_sees_the_weights_that_it_has_moved(x):
    """Autocast keeps weights in lower precision until it ends, so that a second step would be the first once more."""
    images = x[:1]

    def tuned(cached: bool, steps: int):
        pupil = copied(pipeline())
        loss = denoising_objective(pupil, PROMPT, draws()[:1])
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=cached):
            tune(pupil, lambda: -loss(images), Tuning(steps=steps, rate=0.02))
        return pupil.pipe.unet.state_dict()

    kept, plain = tuned(True, 2), tuned(False, 2)
    assert all(torch.equal(kept[name], plain[name]) for name in plain)
    # What the cache does where it is left on.
    weight, image = torch.nn.Parameter(torch.ones(1, 1)), torch.ones(1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        first = torch.nn.functional.linear(image, weight).item()
        with torch.no_grad():
            weight.mul_(2)
        assert torch.nn.functional.linear(image, weight).item() == first == 1


def test_lora_alone_is_tuned_and_starts_as_nothing(x):
    pytest.importorskip("peft", reason="needs the extra finetune")
    p, tuning = pipeline(), Tuning(steps=2, rate=1e-2, rank=2)
    pupil = copied(p, rank=2)
    z, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([10])
    conditioning = p.condition([PROMPT])
    torch.testing.assert_close(pupil.predict(z, t, conditioning), p.predict(z, t, conditioning))
    before = {name: weight.clone() for name, weight in pupil.pipe.unet.named_parameters()}
    loss = denoising_objective(pupil, PROMPT, draws()[:1])
    tune(pupil, lambda: -loss(x[:1]), tuning)
    moved = {name for name, weight in pupil.pipe.unet.named_parameters() if not torch.equal(weight, before[name])}
    assert moved and all("lora_" in name for name in moved)
    assert not any(weight.requires_grad for weight in pupil.pipe.unet.parameters())


@pytest.mark.parametrize("weight", [0.0, 100.0])
def test_ace_makes_the_unet_predict_a_pattern(weight, attacked):
    p = pipeline()
    target = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    def formula(a):
        output, g = p.pipe.vae.encode(a * 2 - 1).latent_dist, draws()
        z = (output.mean + output.std * normal_like(output.mean, g)) * 0.3
        t = torch.stack([torch.randint(1000, (), generator=one) for one in g])
        share = DDPMScheduler.from_config(p.pipe.scheduler.config).alphas_cumprod[t].view(-1, 1, 1, 1)
        noisy = share.sqrt() * z + (1 - share).sqrt() * normal_like(z, g)
        return ((predicted(p, noisy, t) - target) ** 2).mean((1, 2, 3)) + weight * ((z - target) ** 2).mean((1, 2, 3))

    same(ace_objective(p, PROMPT, target, draws(), weight), formula, attacked)


def test_ace_tunes_its_lora_on_the_image_as_it_is_attacked(x, monkeypatch):
    pytest.importorskip("peft", reason="needs the extra finetune")
    seen = []
    monkeypatch.setattr("srlvae.attacks.papers.ace.tune", lambda pupil, loss, tuning: seen.append(loss().detach()))
    given = {"ball": Ball(EPS, 4, EPS), "generators": draws(), "settings": Settings(tuning=Tuning(steps=1, every=2, rank=2))}
    ace(x, pipeline=pipeline(), **given)
    # Two images, two rounds each.
    assert len(seen) == 4


def test_styleguard_moves_the_statistics_of_channels_image_by_image(x, attacked):
    p, w = pipeline(), 3.0

    def formula(a):
        z, t, noise, _, noisy = noised(p.pipe, a, draws())
        loss = (predicted(p, noisy, t) - noise).square().mean((1, 2, 3))
        own, other = (0.3 * p.vae.mean(images) for images in (x, x.flip(0)))

        def mse(f, clean):
            return torch.stack([(f(one) - f(two)).square().mean() for one, two in zip(z, clean, strict=True)])

        def mean(one):
            return one.flatten(1).mean(1)

        def variance(one):
            return one.flatten(1).var(1)

        away, near = (mse(mean, clean) + mse(variance, clean) for clean in (own, other))
        return -loss - w * away + w * near

    same(styleguard_objective(p, x, x.flip(0), PROMPT, draws(), w), formula, attacked)
    assert style_of(torch.ones(2, 4, 8, 8)).tolist() == [[1.0] * 4 + [0.0] * 4] * 2


def test_antidreambooth_keeps_to_each_images_mask(x):
    mask = torch.zeros(2, 1, 32, 32)
    mask[0, ..., :16], mask[1, ..., 16:] = 1, 1
    given = {"ball": Ball(EPS, 1, EPS), "generators": draws(), "tuning": Tuning(steps=1), "loop": Loop(mask=mask)}
    adversarial = antidreambooth(x, pipeline=pipeline(), **given)
    assert torch.equal(adversarial[(mask == 0).expand_as(x)], x[(mask == 0).expand_as(x)])


def test_a_unet_made_for_inpainting_is_refused_elsewhere(x):
    with pytest.raises(InputError, match="made for inpainting"):
        denoising_objective(pipeline(inpainting=True), PROMPT, draws())(x)


# --- perceptual budgets


def test_the_penalty_is_zero_within_the_budget_and_the_excess_beyond(x, attacked):
    features = RandomFeatures()
    distance = feature_distance(features.columns(attacked), features.columns(x))
    assert perceptual_penalty(x, features, distance.max().item() * 1.01)(attacked).tolist() == [0, 0]
    # A difference of float32 numbers of about 1.
    torch.testing.assert_close(perceptual_penalty(x, features, 0.0)(attacked), distance, rtol=1e-5, atol=1e-7)


def test_a_hard_budget_is_kept_and_used(x, attacked):
    features = RandomFeatures()
    distance = feature_distance(features.columns(attacked), features.columns(x))
    budget = distance.min().item() / 2
    bounded = within_budget(attacked, x, features, budget)
    found = feature_distance(features.columns(bounded), features.columns(x))
    # Twelve halvings leave 1/4096 of the scale.
    assert (found <= budget).all() and (found > 0.98 * budget).all()
    assert torch.equal(within_budget(x, x, features, 0.0), x)


def test_a_hard_perceptual_budget_is_kept_whatever_the_penalty_weighs(x):
    features = RandomFeatures()

    def far(budget: float, hard: bool = False) -> torch.Tensor:
        ball = Ball(None, 3, 0.05, perceptual=Perceptual(budget, weight=0.0, hard=hard))
        found = perceptual_pgd(x, lambda images: -images.square().flatten(1).sum(1), ball, features=features)
        return feature_distance(features.columns(found), features.columns(x))

    budget = far(1.0).min().item() / 2
    assert (far(budget) > budget).all() and (far(budget, hard=True) <= budget).all()


@pytest.mark.parametrize("attack", [glaze, nightshade])
def test_attacks_with_a_perceptual_budget_need_no_ball(attack, x):
    ball = Ball(None, 3, 0.05, perceptual=Perceptual(0.01, hard=True) if attack is glaze else Perceptual(1.0))
    adversarial = attack(x, pipeline=pipeline(), ball=ball, generators=draws(), features=RandomFeatures())
    assert not torch.equal(adversarial, x) and adversarial.min() >= 0 and adversarial.max() <= 1


def test_a_perceptual_budget_is_one_of_the_image_behind_a_view_too(x):
    """An objective that sees the same in a mirror; the network of the budget does not."""
    ball, features = Ball(None, 4, 0.02, perceptual=Perceptual(0.001, weight=100.0)), RandomFeatures()

    def darkness(images):
        return images.mean((1, 2, 3))

    views = [Loop(view=view) for view in (lambda images: images, lambda images: images.flip(-1))]
    seen, mirrored = (perceptual_pgd(x, darkness, ball, features=features, loop=loop) for loop in views)
    torch.testing.assert_close(mirrored, seen)
    assert not torch.equal(seen, pgd(x, darkness, replace(ball, perceptual=None)))
    # What a loop adds of its own stays.
    loop, loose = Loop(penalty=lambda images: -5 * darkness(images)), replace(ball, perceptual=Perceptual(10.0))
    brighter = perceptual_pgd(x, darkness, loose, features=features, loop=loop)
    assert (brighter.mean((1, 2, 3)) > x.mean((1, 2, 3))).all()


# --- sources


class Names(Clip):
    """A CLIP in which the likeness of an image to any text is its mean."""

    def __init__(self):
        pass

    def texts(self, texts):
        return torch.ones(len(texts), 1)

    def images(self, x):
        return x.mean((1, 2, 3))[:, None]


def test_the_likeness_of_images_is_that_of_clip_over_all_batches():
    levels = torch.tensor([0.2, 0.9, 0.4, 0.7])
    images = levels.view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    torch.testing.assert_close(likeness(Names(), images.split(3), "cat"), levels)


def test_the_notebooks_search_in_l2_starts_at_the_photograph():
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    given = {"pipeline": pipeline(), "generators": draws()}
    assert torch.equal(photoguard_diffusion(x, ball=Ball(8.0, 0, 0.5, "l2"), **given), x)
    assert not torch.equal(photoguard_diffusion(x, ball=Ball(8 / 255, 0, 0.01), **given), x)
