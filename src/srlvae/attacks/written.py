"""An attacked picture as files: a PNG that keeps the budget and what its source carried, and the record beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from srlvae.attacks.prepared import PreparedAttack
from srlvae.images import Picture, pad_to_multiple, read_picture, to_tensor, write_image


def write_attacked(
    attack: PreparedAttack, target: Path, picture: Picture, adversarial: Float[Tensor, "3 h w"]
) -> dict[str, Any]:
    """Write an attacked image to the PNG `target` with what `picture` carries, and return what is measured on the file.

    Raises AssertionError if the file, read back, is not within the budget or has lost its transparency.
    """
    write_image(target, adversarial, picture.carried, picture.alpha)
    written, vae, ball = read_picture(target), attack.vae, attack.request.changed.ball
    x, back = (to_tensor(image)[None].to(vae.device) for image in (picture.rgb, written.rgb))
    effective = attack.size(back, x).item()
    if ball.eps is not None and effective > ball.eps + 1e-6:
        raise AssertionError(f"{target}: moved by {effective:g}, more than the budget of {ball.eps:g}")
    if (picture.alpha and picture.alpha.tobytes()) != (written.alpha and written.alpha.tobytes()):
        raise AssertionError(f"{target}: its transparency differs from that of its source")
    with torch.no_grad():
        shift = torch.sub(*(vae.mean(pad_to_multiple(image, vae.factor)) for image in (back, x))).square().mean().sqrt()
    measured = {"latent_shift": shift.item(), "width": x.shape[-1], "height": x.shape[-2]}
    about = {"converted": list(picture.converted), "left_out": list(picture.lost)}
    shown = {"linf": f"{round(effective * 255)}/255", "l2": f"{effective:.4g} (ℓ2)", "rms": f"{effective * 255:.3g}/255 (rms)"}
    return {"effective_eps": shown[ball.norm], **measured, **{key: value for key, value in about.items() if value}}
