"""Images under an attack, kept by what they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from srlvae.attacks.engine.trace import Trace
from srlvae.attacks.prepared import PreparedAttack
from srlvae.bench.cache import Store, key_of
from srlvae.images import Images
from srlvae.training.precision import make_accelerator


def perturbed(attack: PreparedAttack, x: Images, names: Sequence[str], store: Store) -> tuple[list[str], Images]:
    """The keys and the attacked images of `x`, made where they are missing; names: of the images, for keys and draws.

    Each has a note of the settings and of the doubts about its run. Attacks compute in bfloat16 where that pays: signs of
    gradients need no more, and take half the time.
    """
    accelerator = make_accelerator("auto")
    settings = attack.made_from() | {"precision": accelerator.mixed_precision}
    keys = [key_of("attacked", **settings, source=name) for name in names]

    def make(part: list[int]) -> tuple[Tensor, list[Any]]:
        trace = Trace()
        with accelerator.autocast():
            found = attack.perturb(x[part].to(attack.vae.device), [names[i] for i in part], trace)
        return found, [{**settings, "doubts": doubts} for doubts in trace.doubts(len(part))]

    return keys, store.images(keys, make)
