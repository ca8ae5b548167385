"""The inner step stays in its ball; the outer loss is the sum of its terms, by hand, and costs what it must."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from conftest import small_kl, small_tiny
from small import RandomFeatures
from srlvae.attacks.latent import latent_objective
from srlvae.attacks.photoguard import photoguard_encoder_objective
from srlvae.attacks.reconstruction import reconstruction_objective
from srlvae.errors import InputError
from srlvae.harden.objective import Clean, ObjectiveConfig, outer_loss, perturb, prepare, targets
from srlvae.harden.settings import HardenConfig
from srlvae.metrics.pairwise import detail, feature_distance
from srlvae.rng import generators
from srlvae.vae import VAE

EVERYTHING = ObjectiveConfig(
    eps=8 / 255,
    inner_perceptual=0.1,
    attacked=0.5,
    clean=2.0,
    perceptual=0.3,
    perceptual_attacked=0.4,
    detail=0.6,
    originality_clean=0.7,
    originality_attacked=0.2,
)
TERMS = ("attacked", "clean", "detail", "perceptual", "perceptual_attacked", "originality_clean", "originality_attacked")
NOTHING = dataclasses.replace(EVERYTHING, inner_perceptual=0.0, **dict.fromkeys(TERMS, 0.0))
KINDS = ("reconstruction", "latent", "targeted", "transfer", "noise")
ALL = ("reconstruction", "latent", "targeted", "transfer")


@pytest.fixture
def four(x) -> torch.Tensor:
    """Four images, some of their pixels 0 or 1."""
    return ((torch.cat([x, x.flip(3)]) - 0.5) * 3 + 0.5).clamp(0, 1)


@pytest.fixture
def moved(vae) -> VAE:
    """The VAE in training: its encoder trainable and no longer the original's."""
    vae.model.encoder.conv_in.weight.mul_(1.1)
    for module in vae.encoder_modules().values():
        module.requires_grad_(True)
    return vae


def only(**weights) -> ObjectiveConfig:
    return dataclasses.replace(NOTHING, **weights)


def setting(vae: VAE, four: torch.Tensor, config: ObjectiveConfig):
    """(clean, attacked, features) for `outer_loss` under `config`; the original VAE is a fresh one."""
    features = RandomFeatures()
    clean = prepare(four, small_kl(), features)
    return clean, perturb(vae, small_kl(), clean, features, config, range(len(four)), seed=0), features


# --- the inner step


def attack(vae: VAE, clean: Clean, inner: str | tuple, numbers, features=None, **changes) -> torch.Tensor:
    inner = (inner,) if isinstance(inner, str) else inner
    config = dataclasses.replace(EVERYTHING, inner=inner, **changes)
    return perturb(vae, small_kl(), clean, features, config, numbers, seed=0)


@pytest.mark.parametrize("inner", [*KINDS, ALL, ()])
def test_attacked_images_are_images_within_the_ball(inner, moved, four):
    clean = prepare(four, small_kl(), RandomFeatures())
    attacked = attack(moved, clean, inner, range(4), RandomFeatures())
    assert attacked.shape == four.shape and attacked.min() >= 0 and attacked.max() <= 1 and not attacked.requires_grad
    # x + δ is rounded to float32 once more than δ was.
    assert (attacked - four).abs().max() <= EVERYTHING.eps + 1e-6
    assert all(p.grad is None for p in moved.model.parameters())


def test_no_attack_gives_the_clean_images_themselves(moved, four):
    assert attack(moved, prepare(four, small_kl(), None), (), range(4)) is four


@pytest.mark.parametrize("inner", [*KINDS, ALL])
def test_every_image_is_attacked(inner, moved, four):
    attacked = attack(moved, prepare(four, small_kl(), None), inner, range(4))
    assert ((attacked - four).abs().flatten(1).amax(1) > EVERYTHING.eps / 2).all()


def test_the_attack_on_latents_has_a_radius_of_its_own(moved, four):
    attacked = attack(moved, prepare(four, small_kl(), None), ALL, range(4), eps=8 / 255, latent_eps=2 / 255)
    levels = (attacked - four).abs().flatten(1).amax(1) * 255
    assert (levels[[0, 2, 3]] > 4).all() and levels[1] < 2.001


def test_images_take_turns_at_the_attacks_by_their_numbers_in_the_run(moved, four):
    clean = prepare(four, small_kl(), None)
    together = attack(moved, clean, ALL, [6, 7, 8, 9])
    for i, kind in enumerate(("targeted", "transfer", "reconstruction", "latent")):
        alone = attack(moved, clean.part(torch.tensor([i])), kind, [6 + i])
        assert torch.equal(together[i], alone[0])


def test_the_transfer_attack_sees_the_original_encoder_alone(moved, four):
    clean = prepare(four, small_kl(), None)
    assert torch.equal(attack(moved, clean, "transfer", range(4)), attack(small_kl(), clean, "transfer", range(4)))
    assert not torch.equal(attack(moved, clean, "targeted", range(4)), attack(small_kl(), clean, "targeted", range(4)))


def test_targets_are_nothing_another_picture_or_anywhere_else(vae, four):
    x = four.repeat(3, 1, 1, 1)
    goals, signs = targets(vae, prepare(x, vae, None), generators(0, range(12)))
    zero, away = goals.flatten(1).abs().amax(1) == 0, signs < 0
    other = ~(zero | away)
    assert zero.sum() and other.sum() and away.sum() and not (zero & away).any()
    # A batch of another size: the same float32 sums in another order.
    torch.testing.assert_close(goals[other], vae.mean(x.flip(2))[other], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(goals[away], vae.mean(x)[away], rtol=1e-4, atol=1e-5)


def test_targeted_attacks_come_nearer_to_their_targets_or_further_away(moved, four):
    clean, original = prepare(four, small_kl(), None), small_kl()
    goals, signs = targets(original, clean, generators(0, range(4)))
    noise = attack(moved, clean, "noise", range(4))
    for kind, vae in (("targeted", moved), ("transfer", original)):
        distance = photoguard_encoder_objective(vae, goals)
        assert (signs * distance(attack(moved, clean, kind, range(4), steps=5)) < signs * distance(noise)).all()


def test_the_inner_attacks_raise_what_they_are_for(moved, four):
    clean = prepare(four, small_kl(), None)
    on_images, on_latents = reconstruction_objective(moved, four), latent_objective(moved, clean.latents)
    noise, config = attack(moved, clean, "noise", range(4)), {"steps": 5}
    assert (on_images(attack(moved, clean, "reconstruction", range(4), **config)) < on_images(noise)).all()
    assert (on_latents(attack(moved, clean, "latent", range(4), **config)) < on_latents(noise)).all()


def test_the_latent_attack_departs_from_the_latents_of_the_original(moved, four):
    clean = prepare(four, small_kl(), None)
    elsewhere = dataclasses.replace(clean, latents=clean.latents + 1)
    assert not torch.equal(attack(moved, clean, "latent", range(4)), attack(moved, elsewhere, "latent", range(4)))


def test_the_inner_perceptual_weight_changes_the_attack_and_zero_saves_its_passes(moved, four):
    features = RandomFeatures()
    clean = prepare(four, small_kl(), features)
    seen = features.seen
    plain = attack(moved, clean, "reconstruction", range(4), features, inner_perceptual=0.0)
    assert features.seen == seen
    assert not torch.equal(plain, attack(moved, clean, "reconstruction", range(4), features, inner_perceptual=5.0))


def test_the_clean_columns_are_not_computed_again_in_the_inner_step(moved, four):
    features = RandomFeatures()
    clean = prepare(four, small_kl(), features)
    seen = features.seen
    attack(moved, clean, "reconstruction", range(4), features, steps=2)
    assert features.seen - seen == 2 * 4


# --- the terms of the outer loss, by hand


def by_hand(vae: VAE, x: torch.Tensor, attacked: torch.Tensor, config: ObjectiveConfig) -> dict[str, torch.Tensor]:
    features, original = RandomFeatures(), small_kl()

    def reconstruction(images, perceptual):
        y = vae.decode(vae.mean(images))
        return ((y - x) ** 2).mean() + perceptual * feature_distance(features.columns(y), features.columns(x)).mean()

    sharpness = (detail(vae.decode(vae.mean(x))) - detail(x)) ** 2
    return {
        "detail": config.detail * sharpness.mean(),
        "clean": config.clean * reconstruction(x, config.perceptual),
        "attacked": config.attacked * reconstruction(attacked, config.perceptual_attacked),
        "originality_clean": config.originality_clean * ((vae.mean(x) - original.mean(x)) ** 2).mean(),
        "originality_attacked": config.originality_attacked * ((vae.mean(attacked) - original.mean(x)) ** 2).mean(),
    }


CONFIGS = {
    "everything": EVERYTHING,
    "no perceptual terms": dataclasses.replace(EVERYTHING, perceptual=0.0, perceptual_attacked=0.0),
    "clean": only(clean=2.0),
    "clean, perceptual": only(clean=2.0, perceptual=0.3),
    "detail": only(detail=0.5),
    "attacked": only(attacked=0.5),
    "attacked, perceptual": only(attacked=0.5, perceptual_attacked=0.3),
    "originality_clean": only(originality_clean=0.7),
    "originality_attacked": only(originality_attacked=0.2),
    "as published": only(attacked=1.0, perceptual_attacked=0.3, originality_clean=0.1),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


@every_config
def test_the_outer_loss_is_the_sum_of_its_terms(config, moved, four):
    clean, attacked, features = setting(moved, four, config)
    loss, parts = outer_loss(moved.mean, moved, clean, attacked, features, config)
    expected = {name: value for name, value in by_hand(moved, four, attacked, config).items() if getattr(config, name)}
    assert parts.keys() == expected.keys()
    for name, value in expected.items():
        # The same float32 sums in another order and over a larger batch.
        torch.testing.assert_close(parts[name], value.detach(), rtol=1e-4, atol=1e-7)
        assert not parts[name].requires_grad
    torch.testing.assert_close(loss, sum(expected.values()), rtol=1e-4, atol=1e-7)


def test_the_originality_of_an_encoder_that_has_not_moved_is_zero(vae, four):
    clean, _, _ = setting(vae, four, NOTHING)
    loss, _ = outer_loss(vae.mean, vae, clean, four, None, only(originality_clean=1.0))
    # Batches of the same size through the same network: bit by bit the same.
    assert loss == 0


def test_without_an_attack_the_clean_terms_are_left(moved, four):
    clean, attacked, features = setting(moved, four, dataclasses.replace(EVERYTHING, inner=()))
    loss, parts = outer_loss(moved.mean, moved, clean, attacked, features, EVERYTHING)
    expected = by_hand(moved, four, four, EVERYTHING)
    assert parts.keys() == {"clean", "detail", "originality_clean"}
    # The same float32 sums in another order.
    torch.testing.assert_close(loss, sum(expected[name] for name in parts), rtol=1e-4, atol=1e-7)


# --- what it costs


@pytest.mark.parametrize(
    ("config", "encoded", "decoded", "seen"),
    [
        (EVERYTHING, [8], [8], 8),
        (dataclasses.replace(EVERYTHING, perceptual=0.0), [8], [8], 4),
        (dataclasses.replace(EVERYTHING, perceptual=0.0, perceptual_attacked=0.0), [8], [8], 0),
        (dataclasses.replace(EVERYTHING, clean=0.0, detail=0.0), [8], [4], 4),
        (only(detail=1.0), [8], [4], 0),
        (only(clean=1.0), [8], [4], 0),
        (only(attacked=1.0), [4], [4], 0),
        (only(originality_attacked=1.0), [4], [], 0),
        (only(originality_clean=1.0, originality_attacked=1.0), [8], [], 0),
    ],
)
def test_weights_of_zero_leave_out_their_passes(config, encoded, decoded, seen, moved, four):
    clean, attacked, features = setting(moved, four, config)
    passes: dict[str, list[int]] = {"encoder": [], "decoder": []}
    for name, sizes in passes.items():
        getattr(moved.model, name).register_forward_hook(lambda module, args, y, sizes=sizes: sizes.append(len(args[0])))
    features.seen = 0
    outer_loss(moved.mean, moved, clean, attacked, features, config)
    assert passes == {"encoder": encoded, "decoder": decoded} and features.seen == seen


# --- gradients


def encoder_gradient(vae: VAE, four: torch.Tensor, attacked: torch.Tensor, config: ObjectiveConfig) -> torch.Tensor:
    features = RandomFeatures()
    clean = prepare(four, small_kl(), features)
    loss, _ = outer_loss(vae.mean, vae, clean, attacked, features, config)
    parameters = [p for p in vae.model.parameters() if p.requires_grad]
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


@pytest.mark.parametrize("name", ["perceptual", "perceptual_attacked"])
def test_a_perceptual_weight_changes_the_gradient_of_the_encoder_linearly(name, moved, four):
    attacked = (four + 0.03).clamp(0, 1)
    plain, one, three = (
        encoder_gradient(moved, four, attacked, only(attacked=1.0, clean=1.0, **{name: weight})) for weight in (0.0, 1.0, 3.0)
    )
    assert (one - plain).norm() > 0.1 * plain.norm()
    # Float32 sums of gradients; their norm hides what cancels in single ones.
    assert (three - plain - 3 * (one - plain)).norm() < 1e-3 * (three - plain).norm()


def test_the_perceptual_term_compares_the_first_stages_alone(moved, four):
    _, attacked, features = setting(moved, four, EVERYTHING)
    y, config = moved.decode(moved.mean(four)), only(clean=1.0, perceptual=1.0)
    for stages in (1, 2):
        clean = prepare(four, small_kl(), features, stages)
        _, parts = outer_loss(moved.mean, moved, clean, attacked, features, config)
        first = feature_distance(features.columns(y)[:stages], features.columns(four)[:stages])
        # The same float32 sums in another order.
        torch.testing.assert_close(parts["clean"], ((y - four).square().mean() + first.mean()).detach(), rtol=1e-4, atol=1e-7)


def test_features_are_used_by_no_perceptual_weight_of_a_term_left_out():
    assert not only(attacked=1.0, clean=1.0, originality_clean=1.0, originality_attacked=1.0).uses_features
    assert not only(perceptual=1.0, attacked=1.0).uses_features
    assert not only(perceptual_attacked=1.0, clean=1.0).uses_features
    assert only(perceptual=1.0, clean=1.0).uses_features
    assert only(perceptual_attacked=1.0, attacked=1.0).uses_features
    assert only(inner_perceptual=1.0).uses_features


@pytest.mark.parametrize("objective", [NOTHING, only(inner=(), attacked=1.0, originality_attacked=1.0)])
def test_an_objective_without_a_term_is_refused(objective):
    with pytest.raises(InputError, match="nothing to minimise"):
        HardenConfig(objective=objective).check()


@pytest.mark.parametrize("build", [small_kl, lambda: small_kl(quant=False)])
@every_config
def test_every_parameter_of_the_encoder_gets_a_gradient_and_none_of_the_decoder(config, build, four):
    vae = build()
    original = build()
    vae.model.encoder.conv_in.weight.mul_(1.1)
    encoder = {id(p) for module in vae.encoder_modules().values() for p in module.requires_grad_(True).parameters()}
    features = RandomFeatures()
    loss, _ = outer_loss(vae.mean, vae, prepare(four, original, features), (four + 0.03).clamp(0, 1), features, config)
    loss.backward()
    assert {id(p) for p in vae.model.parameters() if p.grad is not None} == encoder
    assert all(p.grad.isfinite().all() for p in vae.model.parameters() if p.grad is not None)
    assert all(p.grad is None for p in original.model.parameters())


def test_no_gradient_flows_into_what_was_prepared(moved, four):
    clean = prepare(four, moved, RandomFeatures())
    assert not clean.latents.requires_grad and not any(c.requires_grad for c in clean.columns)


def test_the_loss_falls_along_its_gradient(moved, four):
    clean, attacked, features = setting(moved, four, EVERYTHING)
    parameters = [p for p in moved.model.parameters() if p.requires_grad]
    loss, _ = outer_loss(moved.mean, moved, clean, attacked, features, EVERYTHING)
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for p, g in zip(parameters, gradients, strict=True):
            p -= 1e-3 * g
    assert outer_loss(moved.mean, moved, clean, attacked, features, EVERYTHING)[0] < loss


def test_an_autoencoder_without_posterior_is_trained_the_same_way(four):
    vae = small_tiny()
    vae.model.encoder.requires_grad_(True)
    features = RandomFeatures()
    clean = prepare(four, small_tiny(), features)
    attacked = perturb(vae, small_tiny(), clean, features, EVERYTHING, range(4), seed=0)
    loss, parts = outer_loss(vae.mean, vae, clean, attacked, features, EVERYTHING)
    loss.backward()
    assert parts.keys() == {"clean", "detail", "attacked", "originality_clean", "originality_attacked"}
    assert all((p.grad is None) == (not p.requires_grad) for p in vae.model.parameters())
