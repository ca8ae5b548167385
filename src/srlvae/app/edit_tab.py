"""Edit: the same edit of the clean and of the attacked picture, with the original and with the hardened encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from srlvae.app.attacking import asked, attacked, controls, model_of, said, shown
from srlvae.app.models import Models
from srlvae.app.samples import photographs
from srlvae.app.widgets import buttons, examples, picture_input, picture_output
from srlvae.app.work import Watcher, Work
from srlvae.attacks.request import Request
from srlvae.errors import InputError
from srlvae.images import Images
from srlvae.metrics.pairwise import psnr
from srlvae.models.edit_settings import GUIDANCE, STEPS, STRENGTH, steps_run
from srlvae.models.pipeline import Pipeline
from srlvae.models.prompts import unread
from srlvae.report.tables import markdown
from srlvae.rng import generator

ABOUT = (
    "Edit a picture and its attacked twin, with either encoder and from the same noise. The attack is made on the original "
    "encoder. A good defence makes the lower row look like the upper one."
)
LEGEND = "PSNR between the two edits that an encoder makes: of the clean and of the attacked picture. Higher means less harm."
# What tiny-sd was trained on; other prompts give it little to work with.
BUNDLED = (
    "tiny-sd knows: airplane, bonsai, butterfly, car, chandelier, grand piano, hawksbill turtle, helicopter, ketch, leopard, "
    "motorbike, starfish, sunflower, watch."
)
PROMPT = "a photo of a sunflower"
# Letters of a prompt that the page takes; far more than are read.
LONGEST = 2000
EXAMPLES = (PROMPT, "a photo of a butterfly", PROMPT, "a photo of a butterfly")


@dataclass(frozen=True)
class Result:
    """A picture and its attacked twin, and the edits of both with the original and with the hardened encoder."""

    x: Images
    adversarial: Images
    original: tuple[Images, Images]
    hardened: tuple[Images, Images]
    doubts: list[str]


@dataclass(frozen=True)
class Wish:
    """What an edit is to be: see `Pipeline.edit`."""

    prompt: str
    strength: float
    seed: int


def edit(models: Models, listener: Watcher, picture: str | None, wish: Wish, request: Request) -> Result:
    """Attack the centre square of a picture, and edit both with both encoders, all four from the same noise.

    Raises InputError that says what is wrong with the picture or the settings.
    """
    if not wish.prompt.strip():
        raise InputError("say in the prompt what the edited picture is to show")
    if wish.seed < 0:
        raise InputError(f"the seed must be 0 or more, got {wish.seed}")
    total = steps_run(STEPS, wish.strength)
    x = models.read(picture)
    listener.begins("loading the models")
    model, pipelines = model_of(models, request), [models.pipeline(hardened) for hardened in (False, True)]
    if end := unread(pipelines[0], wish.prompt):
        raise InputError(f"the prompt is longer than this pipeline reads; shorten it, as this would not be read: {end}")
    listener.begins("attacking")
    adversarial, doubts = attacked(listener, request, model, x)
    edits = []
    for pipeline, which in zip(pipelines, ("original", "hardened"), strict=True):
        for image, what in ((x, "clean"), (adversarial, "attacked")):
            listener.begins(f"editing the {what} picture with the {which} encoder")
            edits.append(_edited(pipeline, image, wish, listener, total))
    return Result(x, adversarial, (edits[0], edits[1]), (edits[2], edits[3]), doubts)


def _edited(pipeline: Pipeline, x: Images, wish: Wish, listener: Watcher, total: int) -> Images:
    def stepped(number: int) -> None:
        listener.at("steps", number, total)
        listener.check()

    noise = [generator(wish.seed, 0)]
    return pipeline.edit(x, [wish.prompt], noise, strength=wish.strength, steps=STEPS, guidance=GUIDANCE, stepped=stepped)


def show(result: Result) -> tuple[Any, ...]:
    """A result as the values of the tab's widgets."""
    pairs = (result.original, result.hardened)
    kept = [f"{psnr(after.clamp(0, 1), before.clamp(0, 1)).item():.1f} dB" for before, after in pairs]
    table = markdown((["", "original", "hardened"], [["the edits' likeness, PSNR ↑", *kept]]))
    rows = zip((result.x, result.adversarial), *pairs, strict=True)
    return *(shown(image) for row in rows for image in row), f"{table}\n{LEGEND}{said(result.doubts)}"


def build(gr: Any, work: Work, models: Models) -> None:
    """Add the widgets of the tab, and tie them to `edit`."""
    gr.Markdown(ABOUT)
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            picture = picture_input(gr)
            info = BUNDLED if models.choice.pipeline == "tiny-sd" else None
            prompt = gr.Textbox(PROMPT, label="Prompt", info=info, max_length=LONGEST, render=False)
            filled = examples(gr, list(zip(map(str, photographs()), EXAMPLES, strict=True)), [picture, prompt])
            prompt.render()
            with gr.Row():
                strength = gr.Slider(
                    0.1, 1.0, value=STRENGTH, step=0.05, label="Strength", info="1 forgets the picture", min_width=140
                )
                seed = gr.Number(0, label="Seed", info="of the noise", precision=0, min_width=100)
            chosen = controls(gr, True)
            run, stop = buttons(gr, "Attack and edit")
        with gr.Column(scale=3, min_width=280):
            made = []
            for what in ("Picture", "Attacked"):
                with gr.Row():
                    made += [picture_output(gr, label) for label in (what, "Edit, original", "Edit, hardened")]
            table = gr.Markdown("The result will be here.", elem_classes="result")
    inputs = [picture, prompt, strength, seed, *chosen.widgets()]

    def run_edit(listener: Watcher, picture: str | None, prompt: str, strength: float, seed: float | None, *wanted: Any):
        return show(edit(models, listener, picture, Wish(prompt, float(strength), int(seed or 0)), asked(*wanted)))

    work.bind("edit", run_edit, [run.click, prompt.submit, filled], stop, inputs, [*made, table])
