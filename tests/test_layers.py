"""Gradient checkpointing: the same function and the same gradients for every class, for less memory."""

from __future__ import annotations

import copy

import pytest
import torch

from conftest import small_kl, small_tiny
from srlvae.errors import InputError
from srlvae.models.memory import saved_bytes
from srlvae.models.vae import load_vae
from srlvae.training.recompute import checkpoint_layers
from test_vae import KINDS, small_qwen, small_wan

FRAMES = {"wan": small_wan, "qwen-image": small_qwen}
PLAIN = [build for name, build in KINDS.items() if name not in FRAMES]
# The bundled VAE has no attention: there is nothing in that place of its list.
every_plain_kind = pytest.mark.parametrize("build", [*PLAIN, lambda: load_vae("tiny")])


@every_plain_kind
def test_function_and_gradients_stay_as_they_are(build, x):
    plain, other = build(), build()
    checkpoint_layers(other.model)
    found = []
    for vae in (plain, other):
        vae.model.requires_grad_(True)
        images = x.clone().requires_grad_()
        y = vae.decode(vae.mean(images))
        y.square().sum().backward()
        found.append([y.detach(), images.grad, *(p.grad for p in vae.model.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1]) > 10
    # The same operations on the same numbers: bit by bit.
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("build", FRAMES.values(), ids=FRAMES.keys())
def test_layers_that_remember_are_refused(build):
    with pytest.raises(InputError, match="leave gradient checkpointing out"):
        checkpoint_layers(build().model)


@pytest.mark.parametrize("build", [small_kl, small_tiny])
def test_less_is_kept_for_the_backward_pass(build, x):
    plain, other = build(), build()
    checkpoint_layers(other.model)
    for vae in (plain, other):
        vae.model.requires_grad_(True)
    assert saved_bytes(lambda: other.mean(x)) < 0.7 * saved_bytes(lambda: plain.mean(x))


def test_a_copy_computes_with_its_own_weights(x):
    vae = small_kl()
    checkpoint_layers(vae.model)
    before, twin = vae.mean(x), copy.deepcopy(vae)
    for weight in twin.model.encoder.parameters():
        weight.mul_(1.5)
    assert torch.equal(vae.mean(x), before) and not torch.equal(twin.mean(x), before)
