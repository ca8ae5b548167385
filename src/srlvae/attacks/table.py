"""The attacks by name, with their published settings. To add one: a file in `papers`, and its `Attack` here.

Nothing is loaded that computes: an attack's function is imported when it is first run.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from srlvae.images import Images


@dataclass(frozen=True)
class Preset:
    """A published setting. eps: the *effective* ℓ∞ radius in [0,1] units (for norm l2 in `options`: of the image's vector;
    1 is no bound but the box), step_size likewise; options: further arguments; source: where it was published; wants: what
    has to be given with it, `mask` or `target`."""

    eps: float
    steps: int
    step_size: float
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    wants: tuple[str, ...] = ()

    def at(self, eps: float) -> Preset:
        """The same at another radius, with the step in the same ratio to it; Adam's, where there is no ball, stays."""
        return replace(self, eps=eps, step_size=self.step_size * (1 if self.eps == 1 else eps / self.eps))


@dataclass(frozen=True)
class Attack:
    """An attack and its published settings, of which the first is the default.

    function: `file.name` in `papers`. needs: what it takes beside the images, as `vae=` or as `pipeline=`. passes: what a step
    costs, in forward and backward passes of E the encoder, D the decoder, U the UNet (at twice the batch where guided), P the
    perceptual network. alone: takes the images of a batch one after another, so that a batch saves no time. restarts: takes
    several random starts and keeps the best, which means nothing where the objective itself is drawn anew at every call.
    posterior: attacks the log-variance, too, so that the VAE has to have one. announced: back through whole denoising steps,
    whose memory is told before it starts.
    """

    function: str
    paper: str
    needs: Literal["vae", "pipeline"]
    passes: str
    presets: Mapping[str, Preset]
    alone: bool = False
    restarts: bool = False
    posterior: bool = False
    announced: bool = False

    @property
    def run(self) -> Callable[..., Images]:
        file, name = self.function.split(".")
        return getattr(importlib.import_module(f"srlvae.attacks.papers.{file}"), name)

    @property
    def default(self) -> Preset:
        return next(iter(self.presets.values()))

    def takes(self, option: str) -> bool:
        return option in signature(self.run).parameters


DIFF_PROTECT = Preset(16 / 255, 100, 1 / 255, "Diff-Protect: 16, 1 and 100 of 255ths")
MIST = Preset(16 / 255, 100, 1 / 255, "mist.py, version 1: 16, 1 and 100 of 255ths")

ATTACKS: dict[str, Attack] = {
    "reconstruction": Attack(
        "reconstruction.reconstruction",
        "SRL-VAE, arXiv 2504.17219",
        "vae",
        "E + D",
        {"default": Preset(15 / 255, 40, 2 / 255, "the largest budget of the paper's tables; without its perceptual term")},
        restarts=True,
    ),
    "latent": Attack(
        "latent.latent",
        "FARE, arXiv 2402.12336",
        "vae",
        "E",
        {
            "default": Preset(8 / 255, 40, 1 / 255, "as strong as 40 steps get it"),
            "fare": Preset(4 / 255, 10, 1 / 255, "FARE's training attack: 10 steps of 1/255 within 4/255"),
        },
        restarts=True,
    ),
    "pid": Attack(
        "pid.pid",
        "PID, arXiv 2406.15305",
        "vae",
        "E",
        {
            "paper": Preset(12.75 / 255, 1000, 1 / 255, "their code: .05 on [0,1], 1000 steps of 1/255"),
            "variance": Preset(15 / 255, 40, 2 / 255, "the log-variance alone; not published", {"variance_alone": True}),
        },
        restarts=True,
        posterior=True,
    ),
    "photoguard-encoder": Attack(
        "photoguard.photoguard_encoder",
        "PhotoGuard, arXiv 2302.06588",
        "vae",
        "E",
        {
            "paper": Preset(16 / 255, 200, 2 / 255, "paper, section 5: 16/255, 200 steps"),
            "notebook": Preset(7.65 / 255, 1000, 2.55 / 255, "demo_simple_attack_img2img.ipynb: .06 and .02 on [-1,1]"),
            "notebook-inpainting": Preset(
                7.65 / 255, 1000, 1.275 / 255, "demo_simple_attack_inpainting.ipynb: .06 and .01 on [-1,1]", wants=("target",)
            ),
            "app": Preset(15.3 / 255, 200, 1.275 / 255, "the app on Hugging Face: .12 and .01 on [-1,1]", {"grey": True}),
        },
        restarts=True,
    ),
    "photoguard-diffusion": Attack(
        "photoguard.photoguard_diffusion",
        "PhotoGuard, arXiv 2302.06588",
        "pipeline",
        "E + D + 4 U",
        {
            "paper": Preset(16 / 255, 200, 2 / 255, "paper, section 5: 16/255, 200 steps; image-to-image"),
            "notebook": Preset(
                8.0,
                200,
                0.5,
                "demo_complex_attack_inpainting.ipynb: ℓ2 radius 16 and step 1 on [-1,1] at 512 pixels, 10 repeats",
                {"norm": "l2", "repeats": 10, "inpaint": True},
                wants=("mask",),
            ),
        },
        announced=True,
    ),
    "mist-textural": Attack(
        "mist.mist_textural",
        "Mist, arXiv 2305.12683",
        "vae",
        "E",
        {"v1": MIST, "v2": Preset(4 / 255, 100, 0.5 / 255, 'mist-v2: "8/255" on [-1,1] images is 4/255')},
    ),
    "mist-semantic": Attack("mist.mist_semantic", "Mist, arXiv 2305.12683", "pipeline", "E + U", {"v1": MIST}),
    "mist-fused": Attack("mist.mist_fused", "Mist, arXiv 2305.12683", "pipeline", "E + U", {"v1": MIST}),
    "glaze": Attack(
        "glaze.glaze",
        "Glaze, arXiv 2302.04222",
        "pipeline",
        "E + P, and an edit",
        {
            "capped": Preset(16 / 255, 500, 0.005, "the open re-implementation's Adam, p .05 and α 30, with a cap on ℓ∞"),
            "open": Preset(1.0, 500, 0.005, "open re-implementation: p .05 in LPIPS, α 30, lr .01 on [-1,1]; give features="),
            "hard": Preset(
                1.0, 500, 0.005, "the same, and no image beyond p before it is rounded to grey levels", {"hard": True}
            ),
        },
    ),
    "nightshade": Attack(
        "nightshade.nightshade",
        "Nightshade, arXiv 2310.13828",
        "pipeline",
        "E, and a generation",
        {
            "code": Preset(10.2 / 255, 500, 10.2 / 255, "gen_poison.py: .04 of [0,1], of which a PNG holds 10/255"),
            "paper": Preset(1.0, 500, 0.005, "paper: a budget of .07 in LPIPS and no other; give features=", {"budget": 0.07}),
        },
    ),
    "advdm": Attack(
        "advdm.advdm",
        "AdvDM, arXiv 2302.04578",
        "pipeline",
        "E + U",
        {
            "diff-protect": replace(DIFF_PROTECT, source="as run by Diff-Protect: 16, 1 and 100 of 255ths"),
            "gridpure": Preset(4 / 255, 100, 0.5 / 255, 'GrIDPure\'s run of it: "8/255" on [-1,1] images is 4/255'),
        },
    ),
    "sds+": Attack("sds.sds_up", "Diff-Protect, arXiv 2311.12832", "pipeline", "E + U forward", {"diff-protect": DIFF_PROTECT}),
    "sds-": Attack(
        "sds.sds_down", "Diff-Protect, arXiv 2311.12832", "pipeline", "E + U forward", {"diff-protect": DIFF_PROTECT}
    ),
    "anti-dreambooth": Attack(
        "antidreambooth.antidreambooth",
        "Anti-DreamBooth, arXiv 2303.15433",
        "pipeline",
        "2 (E + U)",
        {"aspl": Preset(6.375 / 255, 300, 0.6375 / 255, "ASPL: .05 and .005 on [-1,1], 50 rounds of 6 steps")},
        alone=True,
    ),
    "diffusionguard": Attack(
        "diffusionguard.diffusionguard",
        "DiffusionGuard, arXiv 2410.05694",
        "pipeline",
        "E + U",
        {"code": Preset(8 / 255, 800, 0.5 / 255, 'released code: "16/255" and 1/255 on [-1,1] images, 800 steps')},
    ),
    "adaptive": Attack(
        "adaptive.adaptive",
        "with AutoAttack's APGD, arXiv 2003.01690",
        "vae",
        "E + D",
        {"default": Preset(15 / 255, 60, 2 / 255, "the largest budget of SRL-VAE's tables", {"restarts": 2})},
        restarts=True,
    ),
    "worst-case": Attack(
        "worst_case.worst_case",
        "as AutoAttack's ensemble, arXiv 2003.01690",
        "vae",
        "5 E + 2 D",
        {"default": Preset(15 / 255, 60, 2 / 255, "the largest budget of SRL-VAE's tables")},
        restarts=True,
    ),
}
