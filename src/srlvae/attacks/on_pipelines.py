"""The attacks on a whole pipeline by name, with their published settings; loads nothing that computes."""

from __future__ import annotations

from dataclasses import replace

from srlvae.attacks.attack import Attack, Preset
from srlvae.attacks.engine.ball import Ball, Perceptual
from srlvae.attacks.on_vaes import MIST

GLAZE = Perceptual(0.05)
DIFF_PROTECT = Preset(Ball(16 / 255, 100, 1 / 255), "Diff-Protect: 16, 1 and 100 of 255ths")
ACE = Preset(Ball(4 / 255, 250, 0.6375 / 255), '"8/255" and .005 on [-1,1]: 5 rounds of 50 steps, LoRA in between')

ON_PIPELINES: dict[str, Attack] = {
    "photoguard-diffusion": Attack(
        "photoguard.photoguard_diffusion",
        "PhotoGuard, arXiv 2302.06588",
        "pipeline",
        "E + D + 4 U",
        {
            "paper": Preset(Ball(16 / 255, 200, 2 / 255), "paper, section 5: 16/255, 200 steps; image-to-image"),
            "notebook": Preset(
                Ball(8.0, 200, 0.5, "l2"),
                "demo_complex_attack_inpainting.ipynb: ℓ2 radius 16 and step 1 on [-1,1] at 512 pixels, 10 repeats",
                {"inpaint": True},
                wants=("mask",),
                repeats=10,
            ),
        },
        announced=True,
    ),
    "mist-semantic": Attack("mist.mist_semantic", "Mist, arXiv 2305.12683", "pipeline", "E + U", {"v1": MIST}),
    "mist-fused": Attack("mist.mist_fused", "Mist, arXiv 2305.12683", "pipeline", "E + U", {"v1": MIST}),
    "glaze": Attack(
        "glaze.glaze",
        "Glaze, arXiv 2302.04222",
        "pipeline",
        "E + P + edit",
        {
            "capped": Preset(
                Ball(16 / 255, 500, 0.005, perceptual=GLAZE),
                "the open re-implementation's settings, with a cap on ℓ∞, which alone holds without features=lpips-…",
            ),
            "open": Preset(
                Ball(None, 500, 0.005, perceptual=GLAZE),
                "open re-implementation: p .05 in LPIPS, α 30, lr .01 on [-1,1]; give features=",
            ),
            "hard": Preset(
                Ball(None, 500, 0.005, perceptual=replace(GLAZE, hard=True)),
                "the same, and no image beyond p before it is rounded to grey levels",
            ),
        },
        prompted_target=True,
    ),
    "nightshade": Attack(
        "nightshade.nightshade",
        "Nightshade, arXiv 2310.13828",
        "pipeline",
        "E + generation",
        {
            "code": Preset(
                Ball(10.2 / 255, 500, 10.2 / 255, falls=True), "gen_poison.py: .04 of [0,1], of which a PNG holds 10/255"
            ),
            "paper": Preset(
                Ball(None, 500, 0.005, perceptual=Perceptual(0.07)),
                "paper: .07 in LPIPS and no other budget; give features=",
            ),
        },
        prompted_target=True,
    ),
    "advdm": Attack(
        "advdm.advdm",
        "AdvDM, arXiv 2302.04578",
        "pipeline",
        "E + U",
        {
            "diff-protect": replace(DIFF_PROTECT, source="as run by Diff-Protect: 16, 1 and 100 of 255ths"),
            "gridpure": Preset(Ball(4 / 255, 100, 0.5 / 255), 'GrIDPure\'s run of it: "8/255" on [-1,1] images is 4/255'),
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
        {"aspl": Preset(Ball(6.375 / 255, 300, 0.6375 / 255), "ASPL: .05 and .005 on [-1,1], 50 rounds of 6 steps")},
        alone=True,
    ),
    "diffusionguard": Attack(
        "diffusionguard.diffusionguard",
        "DiffusionGuard, arXiv 2410.05694",
        "pipeline",
        "E + U",
        {"code": Preset(Ball(8 / 255, 800, 0.5 / 255), 'released code: "16/255" and 1/255 on [-1,1] images, 800 steps')},
    ),
    "ace": Attack(
        "ace.ace",
        "ACE, arXiv 2310.04687",
        "pipeline",
        "E + U",
        {"code": ACE},
        alone=True,
    ),
    "ace+": Attack(
        "ace.ace_plus",
        "ACE, arXiv 2310.04687",
        "pipeline",
        "E + U",
        {"code": ACE},
        alone=True,
    ),
    "styleguard": Attack(
        "styleguard.styleguard",
        "StyleGuard, arXiv 2505.18766",
        "pipeline",
        "2 (E + U)",
        {"code": Preset(Ball(6.375 / 255, 300, 0.6375 / 255), "their scripts: .05 and .005 on [-1,1], 50 rounds of 6 steps")},
        alone=True,
    ),
}
