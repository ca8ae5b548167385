"""Attack: what a perturbation does to a picture, and what the original and the hardened encoder then see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from srlvae.app.attacking import asked, attacked, controls, model_of, said, shown
from srlvae.app.models import Models
from srlvae.app.samples import photographs
from srlvae.app.widgets import buttons, examples, picture_input, picture_output
from srlvae.app.work import Watcher, Work
from srlvae.attacks.request import Request
from srlvae.attacks.sheet import GAIN, difference
from srlvae.harden.scores import shift
from srlvae.images import Images
from srlvae.metrics.pairwise import psnr
from srlvae.models.vae import VAE, Latents
from srlvae.report.tables import markdown

ABOUT = (
    "Change a picture a little, so that its encoder misreads it, and see what each encoder passes on of the attacked picture."
)
LEGEND = (
    "Shift: how far the latents lie from those that the original encoder gives the clean picture, as a share of their size. "
    "PSNR: how much what is seen resembles the clean picture."
)


@dataclass(frozen=True)
class Seen:
    """What one encoder makes of the attacked picture.

    - view: the reconstruction of the attacked picture.
    - clean, attacked: the shifts of the latents of both pictures from the original encoder's clean latents.
    - psnr: of `view` against the clean picture, in dB.
    """

    view: Images
    clean: float
    attacked: float
    psnr: float


@dataclass(frozen=True)
class Result:
    """A picture, the attacked one, and what the original and the hardened encoder see of it."""

    x: Images
    adversarial: Images
    original: Seen
    hardened: Seen
    doubts: list[str]


def attack(models: Models, listener: Watcher, picture: str | None, request: Request, made_on: str = "original") -> Result:
    """Attack the centre square of a picture. made_on: `original` or `hardened`, the encoder that the attacker knows.

    Raises InputError that says what is wrong with the picture or the settings.
    """
    x = models.read(picture)
    listener.begins("loading the models")
    model = model_of(models, request, made_on == "hardened")
    listener.begins("attacking")
    adversarial, doubts = attacked(listener, request, model, x)
    latents = models.original.mean(x)
    original, hardened = (_seen(vae, x, adversarial, latents) for vae in (models.original, models.hardened))
    return Result(x, adversarial, original, hardened, doubts)


def _seen(vae: VAE, x: Images, adversarial: Images, latents: Latents) -> Seen:
    view = vae.reconstruct(adversarial)
    return Seen(view, shift(vae, x, latents).item(), shift(vae, adversarial, latents).item(), psnr(view, x).item())


def show(result: Result) -> tuple[Any, ...]:
    """A result as the values of the tab's widgets."""
    pair = (result.original, result.hardened)
    lines = [
        ["shift, clean picture ↓", *(f"{seen.clean:.3f}" for seen in pair)],
        ["shift, attacked picture ↓", *(f"{seen.attacked:.3f}" for seen in pair)],
        ["PSNR of what is seen ↑", *(f"{seen.psnr:.1f} dB" for seen in pair)],
    ]
    pictures = (result.x, result.adversarial, difference(result.x, result.adversarial), *(seen.view for seen in pair))
    table = markdown((["", "original", "hardened"], lines))
    return *map(shown, pictures), f"{table}\n{LEGEND}{said(result.doubts)}"


def build(gr: Any, work: Work, models: Models) -> None:
    """Add the widgets of the tab, and tie them to `attack`."""
    gr.Markdown(ABOUT)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            picture = picture_input(gr)
            filled = examples(gr, [[str(path)] for path in photographs()], [picture])
            chosen = controls(gr, models.has_pipeline)
            choices = [("the original encoder", "original"), ("the hardened encoder", "hardened")]
            made_on = gr.Radio(choices, value="original", label="The attacker knows")
            run, stop = buttons(gr, "Attack")
        with gr.Column(scale=3, min_width=280):
            with gr.Row():
                top = [picture_output(gr, label) for label in ("Picture", "Attacked", f"Difference × {GAIN}")]
            with gr.Row():
                below = [picture_output(gr, f"Seen by the {which}") for which in ("original", "hardened")]
            table = gr.Markdown("The result will be here.", elem_classes="result")
    inputs = [picture, made_on, *chosen.widgets()]

    def run_attack(listener: Watcher, picture: str | None, made_on: str, *wanted: Any):
        return show(attack(models, listener, picture, asked(*wanted), made_on))

    work.bind("attack", run_attack, [run.click, filled], stop, inputs, [*top, *below, table])
