"""The outer loss is the sum of its terms, by hand, costs what it must, and sends gradients to the encoder alone."""

from __future__ import annotations

import math

import pytest
import torch

from conftest import small_kl, small_tiny
from small import RandomFeatures
from srlvae.harden.terms import BOUNDS, DECODED, MEASURES, PACE, CleanBatch, Term, next_log_weight, outer_loss
from srlvae.metrics.pairwise import detail, feature_distance
from srlvae.models.vae import VAE

EVERYTHING = tuple(
    Term(measure, on, float(weight))
    for weight, (measure, on) in enumerate(((m, on) for m in MEASURES for on in ("clean", "attacked")), start=1)
)


@pytest.fixture
def four(x) -> torch.Tensor:
    """Four images, some of their pixels 0 or 1."""
    return ((torch.cat([x, x.flip(3)]) - 0.5) * 3 + 0.5).clamp(0, 1)


@pytest.fixture
def attacked(four) -> torch.Tensor:
    return (four + 0.03).clamp(0, 1)


@pytest.fixture
def moved(vae) -> VAE:
    """The VAE in training: its encoder trainable and no longer the original's."""
    vae.model.encoder.conv_in.weight.mul_(1.1)
    for module in vae.encoder_modules().values():
        module.requires_grad_(True)
    return vae


def known(x: torch.Tensor, features: RandomFeatures | None = None) -> CleanBatch:
    return CleanBatch(x, small_kl(), features or RandomFeatures())


def by_hand(measure: str, vae: VAE, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    features, original = RandomFeatures(), small_kl()
    z, z0 = vae.mean(seen), original.mean(x)
    y = vae.decode(z)
    return {
        "shift": ((z - z0) ** 2).mean((1, 2, 3)) / (z0**2).mean((1, 2, 3)),
        "latent": ((z - z0) ** 2).mean((1, 2, 3)),
        "image": ((y - x) ** 2).mean((1, 2, 3)),
        "error": ((y - x) ** 2).mean((1, 2, 3)) / ((original.decode(z0) - x) ** 2).mean((1, 2, 3)),
        "features": feature_distance(features.columns(y), features.columns(x)),
        "detail": ((detail(y) - detail(x)) ** 2).mean((1, 2)),
    }[measure]


@pytest.mark.parametrize("terms", [EVERYTHING, *((term,) for term in EVERYTHING)], ids=lambda terms: f"{len(terms)} {terms[0]}")
def test_the_outer_loss_is_the_sum_of_its_terms(terms, moved, four, attacked):
    loss, parts = outer_loss(moved.mean, moved, known(four), attacked, terms)
    images = {"clean": four, "attacked": attacked}
    expected = {f"{t.measure} {t.on}": t.weight * by_hand(t.measure, moved, four, images[t.on]) for t in terms}
    assert parts.keys() == expected.keys() and not any(part.requires_grad for part in parts.values())
    for name, value in expected.items():
        # The same float32 sums in another order and over a larger batch.
        torch.testing.assert_close(parts[name], value.mean().detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss, torch.stack([*expected.values()]).sum(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("looked", [[1, 3], [2], []])
def test_terms_on_pictures_look_at_some_images_and_count_more_there(looked, moved, four, attacked):
    loss, parts = outer_loss(moved.mean, moved, known(four), attacked, EVERYTHING, looked, decode_every=2)
    images, expected = {"clean": four, "attacked": attacked}, torch.zeros(4)
    for term in EVERYTHING:
        value = term.weight * by_hand(term.measure, moved, four, images[term.on])
        if term.measure in DECODED:
            value = 2 * value * torch.tensor([row in looked for row in range(4)])
        # The same float32 sums in another order and over a larger batch.
        torch.testing.assert_close(parts[f"{term.measure} {term.on}"], value.mean().detach(), rtol=1e-4, atol=1e-6)
        expected = expected + value
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)


def test_where_no_picture_is_looked_at_the_gradient_is_zero_and_not_none(moved, four, attacked):
    loss, _ = outer_loss(moved.mean, moved, known(four), attacked, (Term("image", "attacked", 1.0),), [], 4)
    loss.mean().backward()
    grads = [p.grad for p in moved.model.parameters() if p.requires_grad and p.grad is not None]
    assert grads and not any(grad.any() for grad in grads)


def test_the_shift_of_an_encoder_that_has_not_moved_is_zero(vae, four, attacked):
    loss, _ = outer_loss(vae.mean, vae, known(four), None, (Term("shift", "clean", 1.0),))
    # Batches of the same size through the same network: bit by bit the same.
    assert torch.equal(loss, torch.zeros(4))


def test_the_shift_does_not_depend_on_the_scale_of_the_latents(moved, four, attacked):
    def loss(measure: str, clean: CleanBatch) -> torch.Tensor:
        return outer_loss(moved.mean, moved, clean, attacked, (Term(measure, "attacked", 1.0),))[0]

    shift, latent, scaled = loss("shift", known(four)), loss("latent", known(four)), small_kl()
    for vae in (moved, scaled):
        vae.model.quant_conv.weight.data.mul_(3)
        vae.model.quant_conv.bias.data.mul_(3)
    # Float32 roundings of two networks.
    torch.testing.assert_close(loss("shift", CleanBatch(four, scaled, None)), shift, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(loss("latent", CleanBatch(four, scaled, None)), 9 * latent, rtol=1e-4, atol=1e-7)


def test_without_attacked_images_the_clean_terms_are_left(moved, four):
    _, parts = outer_loss(moved.mean, moved, known(four), None, EVERYTHING)
    assert parts.keys() == {f"{measure} clean" for measure in MEASURES}


def test_what_is_known_of_a_part_is_not_computed_again(four):
    features = RandomFeatures()
    clean = known(four, features)
    whole = {name: getattr(clean, name) for name in ("latents", "mirrored", "error", "detail", "columns")}
    features.seen = 0
    part = clean.part(slice(1, 3))
    clean.original.model.encoder = None
    assert len(part.x) == 2 and features.seen == 0
    for name in ("latents", "mirrored", "error", "detail"):
        assert torch.equal(getattr(part, name), whole[name][1:3])
    assert all(torch.equal(a, b[1:3]) for a, b in zip(part.columns, whole["columns"], strict=True))


# --- what it costs


@pytest.mark.parametrize(
    ("terms", "encoded", "decoded", "seen"),
    [
        (EVERYTHING, [8], [8], 8),
        ((Term("shift", "attacked", 1.0), Term("shift", "clean", 1.0)), [8], [], 0),
        ((Term("shift", "attacked", 1.0),), [4], [], 0),
        ((Term("shift", "attacked", 1.0), Term("detail", "clean", 1.0)), [8], [4], 0),
        ((Term("image", "attacked", 1.0), Term("features", "attacked", 1.0), Term("latent", "clean", 1.0)), [8], [4], 4),
        ((Term("image", "attacked", 1.0), Term("features", "clean", 0.0)), [4], [4], 0),
    ],
)
def test_what_no_term_looks_at_is_not_computed(terms, encoded, decoded, seen, moved, four, attacked):
    features = RandomFeatures()
    clean = known(four, features)
    assert clean.latents is not None and clean.columns
    passes: dict[str, list[int]] = {"encoder": [], "decoder": []}
    for name, sizes in passes.items():
        getattr(moved.model, name).register_forward_hook(lambda module, args, y, sizes=sizes: sizes.append(len(args[0])))
    features.seen = 0
    outer_loss(moved.mean, moved, clean, attacked, terms)
    assert passes == {"encoder": encoded, "decoder": decoded} and features.seen == seen


# --- gradients


@pytest.mark.parametrize("build", [small_kl, lambda: small_kl(quant=False), small_tiny])
@pytest.mark.parametrize("measure", MEASURES)
def test_the_encoder_gets_a_gradient_and_nothing_else(measure, build, four, attacked):
    vae, original = build(), build()
    first = next(vae.model.encoder.parameters())
    first.mul_(1.1)
    encoder = {id(p) for module in vae.encoder_modules().values() for p in module.requires_grad_(True).parameters()}
    clean = CleanBatch(four, original, RandomFeatures())
    loss, _ = outer_loss(vae.mean, vae, clean, attacked, (Term(measure, "attacked", 1.0), Term(measure, "clean", 1.0)))
    loss.sum().backward()
    assert {id(p) for p in vae.model.parameters() if p.grad is not None} == encoder
    assert all(p.grad.isfinite().all() for p in vae.model.parameters() if p.grad is not None)
    assert all(p.grad is None for p in original.model.parameters())
    assert not clean.latents.requires_grad


@pytest.mark.parametrize("measure", MEASURES)
def test_a_weight_changes_the_gradient_of_the_encoder_linearly(measure, moved, four, attacked):
    def gradient(weight: float) -> torch.Tensor:
        terms = (Term("latent", "clean", 1.0), Term(measure, "attacked", weight))
        loss, _ = outer_loss(moved.mean, moved, known(four), attacked, terms)
        parameters = [p for p in moved.model.parameters() if p.requires_grad]
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss.mean(), parameters)])

    plain, one, three = gradient(0.0), gradient(1.0), gradient(3.0)
    assert (one - plain).norm() > 0
    # Float32 sums of gradients; their norm hides what cancels in single ones.
    assert (three - plain - 3 * (one - plain)).norm() < 1e-3 * (three - plain).norm()


def test_the_loss_falls_along_its_gradient(moved, four, attacked):
    parameters = [p for p in moved.model.parameters() if p.requires_grad]
    before = outer_loss(moved.mean, moved, known(four), attacked, EVERYTHING)[0].mean()
    gradients = torch.autograd.grad(before, parameters)
    with torch.no_grad():
        for p, g in zip(parameters, gradients, strict=True):
            p -= 1e-4 * g
    assert outer_loss(moved.mean, moved, known(four), attacked, EVERYTHING)[0].mean() < before


def test_every_measure_that_decodes_is_marked_as_such(moved, four):
    for measure in set(MEASURES) - set(DECODED):
        moved.model.decoder.requires_grad_(False)
        hooked = []
        moved.model.decoder.register_forward_hook(lambda *_, hooked=hooked: hooked.append(1))
        outer_loss(moved.mean, moved, known(four), None, (Term(measure, "clean", 1.0),))
        assert not hooked


def test_the_weight_of_closeness_follows_how_far_latents_lie_beyond_their_bound():
    assert next_log_weight(1.0, 0.04, 0.2) == pytest.approx(1.0)
    # Half as far again in the square, by half a pace; beyond twice as far by a whole one; latents that stay let it fall.
    assert next_log_weight(1.0, 0.06, 0.2) == pytest.approx(1.0 + PACE / 2)
    assert next_log_weight(1.0, 0.9, 0.2) == pytest.approx(1.0 + PACE)
    assert next_log_weight(1.0, 0.0, 0.2) == pytest.approx(1.0 - PACE)
    assert [next_log_weight(end, moved, 0.2) for end, moved in ((9.0, 0.9), (-9.0, 0.0))] == pytest.approx(
        [math.log(BOUNDS[1]), math.log(BOUNDS[0])]
    )
