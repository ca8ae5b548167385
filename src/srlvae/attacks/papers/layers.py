"""Layers: change what the encoder's blocks make of the image, block by block.

After GRILL (arXiv 2505.03646): ill-conditioned layers starve the gradient of an objective at the end of an encoder, and an
objective on the layers before them does not depend on it. GRILL's own objective is another; this is the plain sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, pgd
from srlvae.attacks.engine.several import VAEs, summed
from srlvae.errors import unknown
from srlvae.images import Images
from srlvae.models.vae import VAE
from srlvae.rng import Generators


def blocks_of(vae: VAE) -> dict[str, nn.Module]:
    """The blocks of the encoder by name: its children, and in place of a list or a sequence of modules what it holds."""
    found: dict[str, nn.Module] = {}
    for name, child in vae.model.get_submodule("encoder").named_children():
        if isinstance(child, nn.ModuleList | nn.Sequential):
            found |= {f"{name}.{part}": module for part, module in child.named_children()}
        else:
            found[name] = child
    return {name: module for name, module in found.items() if any(True for _ in module.parameters())}


def features(vae: VAE, x: Images, blocks: Sequence[str]) -> list[Tensor]:
    """What the named blocks of the encoder make of `x`."""
    known, made = blocks_of(vae), list[Tensor]()

    def note(module: nn.Module, given: Any, output: Any) -> None:
        made.append(output)

    hooks = [known[name].register_forward_hook(note) for name in blocks]
    try:
        vae.mean(x)
    finally:
        for hook in hooks:
            hook.remove()
    return made


def layers_objective(vae: VAE, x: Images, blocks: Sequence[str] = ()) -> Objective:
    """x′ ↦ −Σ over blocks of ‖f(x′) − f(x)‖² / ‖f(x)‖², f what a block makes of an image. `blocks` are all by default.

    Raises InputError for a block that the encoder does not have.
    """
    known = blocks_of(vae)
    if strange := [name for name in blocks if name not in known]:
        raise unknown("the encoder has no block", strange[0], known)
    chosen = [name for name in known if not blocks or name in blocks]
    with torch.no_grad():
        clean = [made.float() for made in features(vae, x, chosen)]
    sizes = [made.flatten(1).square().sum(1) for made in clean]

    def objective(adversarial: Images):
        moved = zip(features(vae, adversarial, chosen), clean, sizes, strict=True)
        return -torch.stack([(made.float() - own).flatten(1).square().sum(1) / size for made, own, size in moved]).sum(0)

    return objective


def layers(
    x: Images,
    *,
    vae: VAEs,
    ball: Ball,
    generators: Generators,
    blocks: Sequence[str] = (),
    loop: Loop | None = None,
) -> Images:
    """Attacked images that the encoder's blocks see otherwise. Needs a random start: at δ = 0 the gradient is zero.

    blocks: of `blocks_of`, all by default.
    """
    objective = summed(lambda of: layers_objective(of, x, blocks), vae)
    return pgd(x, objective, ball, generators=generators, loop=loop)
