"""Anti-DreamBooth (ASPL): attack a surrogate that is fine-tuned on clean and on attacked images in turn.

Le et al. 2023 (arXiv 2303.15433), algorithm 1. In every round a copy of the UNet learns the clean image, the image is moved to
raise the copy's denoising loss, and the UNet itself learns the moved image. Prior preservation is left out.
"""

from __future__ import annotations

from collections.abc import Callable

from srlvae.attacks.engine.ball import Ball
from srlvae.attacks.engine.pgd import Loop, Objective, pgd
from srlvae.attacks.engine.surrogate import Surrogate, Tuning, copied, for_each_image, tune
from srlvae.attacks.papers.advdm import denoising_objective
from srlvae.images import Images
from srlvae.models.pipeline import Pipeline
from srlvae.rng import Generators


def alternating(
    pipeline: Pipeline, x: Images, prompt: str, generators: Generators, tuning: Tuning
) -> Callable[[Images], Pipeline]:
    """What renews the surrogate of one image `x`: the UNet learns the attacked image, and a copy of it learns the clean one.

    Before the first round there is no attacked image to learn.
    """
    poisoned, rounds = copied(pipeline), 0

    def learn(pupil: Pipeline, images: Images) -> None:
        """A few steps of DreamBooth without prior preservation."""
        raised = denoising_objective(pupil, prompt, generators, (x.shape[-2], x.shape[-1]))
        tune(pupil, lambda: -raised(images), tuning)

    def renew(adversarial: Images) -> Pipeline:
        nonlocal rounds
        if rounds:
            learn(poisoned, adversarial)
        rounds += 1
        attacked = copied(poisoned)
        learn(attacked, x)
        return attacked

    return renew


def antidreambooth(
    x: Images,
    *,
    pipeline: Pipeline,
    ball: Ball,
    generators: Generators,
    prompt: str = "a photo of sks person",
    tuning: Tuning | None = None,
    loop: Loop | None = None,
) -> Images:
    """Attacked images that resist being learnt. Two copies of the UNet are held for each image."""
    tuning, loop, size = tuning or Tuning(), loop or Loop(), (x.shape[-2], x.shape[-1])

    def surrogate(i: int) -> Objective:
        own = generators[i : i + 1]
        renew = alternating(pipeline, x[i : i + 1], prompt, own, tuning)
        every = tuning.every * loop.repeats
        return Surrogate(renew, lambda attacked: denoising_objective(attacked, prompt, own, size), every)

    objective = for_each_image(surrogate, generators)
    return pgd(x, objective, ball, generators=generators, loop=loop, keep_best=False)
