"""Compare encoders: any two VAEs on one picture, clean and attacked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from srlvae.app.attacking import asked, attacked, controls, said, shown
from srlvae.app.models import Models
from srlvae.app.samples import photographs
from srlvae.app.widgets import buttons, examples, picture_input, picture_output
from srlvae.app.work import Watcher, Work
from srlvae.attacks.request import Request
from srlvae.errors import InputError
from srlvae.harden.scores import shift
from srlvae.images import Images, pad_to_multiple
from srlvae.metrics.pairwise import psnr
from srlvae.models.pairs import unlike
from srlvae.models.vae import VAE
from srlvae.report.tables import markdown
from srlvae.zoo import vaes

ABOUT = (
    "Compare two encoders on a picture. Each is attacked by somebody who knows it (white-box), so this is the harder test for "
    "a hardened one."
)
LEGEND = (
    "Shift: how far the latents move, as a share of their size; under attack, from the encoder's own clean latents. "
    "PSNR: against the clean picture."
)
TYPED = "A bundled name, a folder, a file of weights, or a hub id."


@dataclass(frozen=True)
class Measured:
    """One encoder on one picture.

    - clean, view: what it passes on of the clean and of the attacked picture.
    - from_first: the shift of its clean latents from the first encoder's; None where the two have other shapes.
    - attacked: the shift of its latents under attack, from its own clean ones.
    - unlike: why its latents are not compared with the first encoder's, or not to be.
    - psnr_clean, psnr_attacked: of the two reconstructions against the clean picture, in dB.
    """

    clean: Images
    view: Images
    from_first: float | None
    attacked: float
    psnr_clean: float
    psnr_attacked: float
    doubts: list[str]
    unlike: list[str]


def compare(
    models: Models, listener: Watcher, picture: str | None, sources: tuple[str, str], request: Request
) -> tuple[Measured, Measured]:
    """Measure two encoders on the centre square of a picture, each under an attack of its own.

    Raises InputError that says what is wrong with the picture, an encoder or the settings.
    """
    if not all(sources):
        raise InputError("choose two encoders")
    if request.attack.needs == "pipeline":
        raise InputError(f"{request.name} attacks a whole pipeline; here choose an attack on encoders")
    x = models.read(picture)
    listener.begins("loading the encoders")
    first, second = (models.encoder(source) for source in sources)
    measured = []
    for vae, source in zip((first, second), sources, strict=True):
        listener.begins(f"attacking {source}")
        adversarial, doubts = attacked(listener, request, vae, x)
        measured.append(_measure(first, vae, x, adversarial, doubts))
    return measured[0], measured[1]


def _measure(first: VAE, vae: VAE, x: Images, adversarial: Images, doubts: list[str]) -> Measured:
    side = x.shape[-1]
    x, adversarial = (pad_to_multiple(image, vae.factor) for image in (x, adversarial))
    clean, view = (vae.reconstruct(image)[..., :side, :side] for image in (x, adversarial))
    latents, square = vae.mean(x), x[..., :side, :side]
    reference = first.mean(pad_to_multiple(square, first.factor))
    alike = reference.shape == latents.shape
    return Measured(
        clean,
        view,
        from_first=shift(vae, x, reference).item() if alike else None,
        attacked=shift(vae, adversarial, latents).item(),
        psnr_clean=psnr(clean, square).item(),
        psnr_attacked=psnr(view, square).item(),
        doubts=doubts,
        unlike=[] if vae is first else unlike(first, vae) if alike else ["A and B have latents of other shapes"],
    )


def show(pair: tuple[Measured, Measured]) -> tuple[Any, ...]:
    """A result as the values of the tab's widgets."""
    shifts = ["—" if one.from_first is None else f"{one.from_first:.3f}" for one in pair]
    lines = [
        ["clean shift from A", *shifts],
        ["shift under attack ↓", *(f"{one.attacked:.3f}" for one in pair)],
        ["PSNR, clean ↑", *(f"{one.psnr_clean:.1f} dB" for one in pair)],
        ["PSNR, attacked ↑", *(f"{one.psnr_attacked:.1f} dB" for one in pair)],
    ]
    notes = "".join(f" **Note:** {reason}." for reason in pair[1].unlike)
    doubts = "".join(said([f"{which}: {doubt}" for doubt in one.doubts]) for which, one in zip("AB", pair, strict=True))
    pictures = (shown(image) for one in pair for image in (one.clean, one.view))
    return *pictures, f"{markdown((['', 'A', 'B'], lines))}\n{LEGEND}{notes}{doubts}"


def build(gr: Any, work: Work, models: Models, typed: bool) -> None:
    """Add the widgets of the tab, and tie them to `compare`. typed: whether encoders may be typed in, not only chosen."""
    gr.Markdown(ABOUT)
    given = [source for source in (models.choice.vae, models.choice.hardened) if source]
    known = list(dict.fromkeys([*vaes(), *given, *([models.choice.pipeline] if models.choice.pipeline else [])]))
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            picture = picture_input(gr)
            filled = examples(gr, [[str(path)] for path in photographs()], [picture])
            defaults = (models.choice.vae or models.choice.pipeline or "tiny", models.choice.hardened)
            defaults = tuple("tiny" if name == "tiny-sd" else name for name in defaults)
            pair = [
                gr.Dropdown(
                    known, value=value, label=f"Encoder {which}", allow_custom_value=typed, info=TYPED if typed else None
                )
                for which, value in zip("AB", defaults, strict=True)
            ]
            chosen = controls(gr, False)
            run, stop = buttons(gr, "Compare")
        with gr.Column(scale=3, min_width=280):
            made = []
            for which in "AB":
                with gr.Row():
                    made += [picture_output(gr, f"{which}: {what} picture") for what in ("clean", "attacked")]
            table = gr.Markdown("The result will be here.", elem_classes="result")

    def run_compare(listener: Watcher, picture: str | None, a: str | None, b: str | None, *wanted: Any):
        return show(compare(models, listener, picture, (a or "", b or ""), asked(*wanted)))

    work.bind("compare", run_compare, [run.click, filled], stop, [picture, *pair, *chosen.widgets()], [*made, table])
