"""The command line: thin. Each command reads its words, calls one function of the package and shows what came of it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from srlvae.allocator import keep_freed_memory
from srlvae.cli.bench import bench
from srlvae.cli.pictures import edit, generate
from srlvae.cli.shared import DeviceHelp, PipelineHelp, VaeHelp, console, device_of, pipeline_of, show_scores, show_table
from srlvae.errors import InputError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
app.add_typer(bench, name="bench")


@app.callback()
def about() -> None:
    """Harden the encoder you already have; everything downstream stays as it is.

    Start with `srlvae quickstart`.
    """


@app.command()
def quickstart(out: Annotated[Path, typer.Option(help="Where all of it goes.")] = Path("quickstart")) -> None:
    """Harden, attack and report on the bundled VAE, in minutes on a laptop."""
    from srlvae.quickstart import quickstart as run
    from srlvae.show import Drawing, cell_counter

    with Drawing(console) as drawing:
        page = run(out, drawing, cell_counter(console))
    show_scores(out / "vae")
    console.print(f"\nReport: [bold]{page}[/]\nNext, your own: srlvae harden VAE --images FOLDER --out FOLDER")


@app.command()
def harden(
    vae: Annotated[str, typer.Argument(help=VaeHelp, metavar="VAE")],
    images: Annotated[str, typer.Option(help="A folder of photographs (any depth), or a Hugging Face dataset.")],
    out: Annotated[Path, typer.Option(help="A new folder for the hardened VAE.")],
    preset: Annotated[
        str | None, typer.Option(help="`cpu`: sized for two cores. `default`, if none is given: for a GPU.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="`srl`, the default, or for comparison: `srl-paper`, `fare`, `noise`, `none`.")
    ] = None,
    closeness: Annotated[
        float | None,
        typer.Option(help="How far clean latents may move, as a share of their norm. More gives more robustness."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file with all settings, instead of a preset.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step, over all processes.")] = None,
    micro_batch: Annotated[int | None, typer.Option(help="Images at once in a process; the rest accumulates.")] = None,
    resolution: Annotated[int | None, typer.Option(help="Side of the training crops in pixels.")] = None,
    eps: Annotated[str | None, typer.Option(help="Radius of all inner attacks, such as 8/255.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the cosine.")] = None,
    features: Annotated[str | None, typer.Option(help="efficientnet-lite0, lpips-alex, lpips-vgg or none.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, no, bf16 or fp16.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the data's order, the crops and the attacks.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between checkpoints.")] = None,
    snapshot_every: Annotated[
        int | None, typer.Option(help="Steps between encoder files that are kept, for `srlvae bench hardening`.")
    ] = None,
    gradient_checkpointing: Annotated[
        bool | None, typer.Option("--gradient-checkpointing", help="Compute activations again: less memory, slower.")
    ] = None,
    held_out: Annotated[int | None, typer.Option(help="Photographs set apart for the scores.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read images.")] = None,
    streaming: Annotated[bool, typer.Option("--streaming", help="Stream a Hugging Face dataset.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the interrupted run in --out.")] = False,
) -> None:
    """Post-train a VAE's encoder so that perturbations move it less. The result loads in the original's place.

    Several processes: accelerate launch -m srlvae harden …
    """
    from srlvae.config import fraction, read_toml
    from srlvae.harden import HardenConfig
    from srlvae.harden import harden as run
    from srlvae.harden import preset as named
    from srlvae.harden.data import open_photographs
    from srlvae.show import Drawing

    words = ("steps", "batch_size", "micro_batch", "resolution", "learning_rate", "closeness", "features", "precision", "seed")
    words += ("checkpoint_every", "snapshot_every", "held_out", "workers", "gradient_checkpointing")
    changes = {name: value for name, value in locals().items() if name in words and value is not None}
    if eps is not None:
        changes["eps"] = fraction(eps)
    if config and (preset or objective):
        raise InputError("--config has all settings, so neither --preset nor --objective goes with it")
    settings = read_toml(config, HardenConfig) if config else named(preset or "default", objective or "srl")
    settings = settings.changed(**changes)
    photographs = open_photographs(images, 2 * settings.resolution, streaming=streaming)
    with Drawing(console) as drawing:
        run(vae, photographs, out, settings, resume=resume, listener=drawing)
    if drawing.main:
        show_scores(out)
        console.print(f"\nHardened VAE: [bold]{out}[/]\nIts encoder alone: [bold]{out / 'encoder.safetensors'}[/]")
        console.print(f"Next: srlvae bench reconstruction --original {vae} --hardened {out} --images FOLDER --out FOLDER")


@app.command()
def apply(
    encoder: Annotated[
        str, typer.Argument(help="An encoder file, a folder that `harden` wrote, or a bundled name.", metavar="ENCODER")
    ],
    to: Annotated[str, typer.Option(help="The VAE it was made from: " + VaeHelp)],
    out: Annotated[Path, typer.Option(help="A new folder for the whole VAE, in diffusers' format.")],
) -> None:
    """Put a hardened encoder onto a copy of the VAE that it was made from.

    Example: `srlvae apply taesd-srl --to madebyollin/taesd --out taesd-srl`
    """
    from srlvae.encoders import apply_encoder, read_encoder
    from srlvae.files import write_json
    from srlvae.vae import RECORD, load_vae

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} has something in it; give a new folder")
    read = read_encoder(encoder)
    vae = apply_encoder(read, load_vae(to))
    vae.save(out)
    write_json(out / RECORD, {"made_by": "srlvae apply", **read.facts, "hardened": vae.fingerprint()})
    console.print(f"Hardened VAE: [bold]{out}[/]\nfingerprint {vae.fingerprint()}")


@app.command()
def attack(
    name: Annotated[str, typer.Argument(help="See --list.", metavar="NAME")] = "",
    images: Annotated[list[Path] | None, typer.Argument(help="Image files or folders.", metavar="IMAGE…")] = None,
    preset: Annotated[str | None, typer.Option(help="A published setting, see --list; the attack's first by default.")] = None,
    vae: Annotated[str | None, typer.Option(help="The VAE that is attacked: " + VaeHelp)] = None,
    pipeline: Annotated[str | None, typer.Option(help="Attacked with --vae in it: " + PipelineHelp)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for PNGs, records and a contact sheet.")] = None,
    eps: Annotated[str | None, typer.Option(help="Budget, such as 8/255; the preset's by default.")] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Gradient steps; the preset's by default.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What the pipeline is told, or a target is made from.")] = None,
    target: Annotated[Path | None, typer.Option(help="An image to be taken for.")] = None,
    mask: Annotated[Path | None, typer.Option(help="White where pixels may change, and inpainting keeps them.")] = None,
    through: Annotated[str | None, typer.Option(help="In expectation through jpeg, resize or sampling.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws of --through a step.")] = 4,
    restarts: Annotated[int | None, typer.Option(min=1, help="Random starts, the best of which is kept.")] = None,
    features: Annotated[str | None, typer.Option(help="Network of a perceptual budget, such as lpips-alex.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at once; halved where memory runs out.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the random starts and draws.")] = 0,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
    resume: Annotated[bool, typer.Option(help="Skip images that are there with the same settings.")] = True,
    show_list: Annotated[bool, typer.Option("--list", help="List the attacks with their presets, and leave.")] = False,
) -> None:
    """Perturb images so that a VAE or a pipeline misreads them: PNGs within the budget, a JSON beside each."""
    from srlvae.attacks import ATTACKS

    if show_list:
        from srlvae.report.tables import attack_list

        show_table(*attack_list(ATTACKS))
        return
    if not name or not images or out is None:
        raise InputError("give an attack, images and --out; srlvae attack --list shows the attacks")
    from srlvae.attacks.job import choose_setting
    from srlvae.attacks.memory import announce_peak
    from srlvae.attacks.run import attack_files
    from srlvae.config import fraction
    from srlvae.images import find_sources
    from srlvae.report.tables import attacked_table
    from srlvae.show import attack_bar
    from srlvae.vae import load_vae

    words = {"preset": preset, "eps": fraction(eps) if eps else None, "steps": steps, "prompt": prompt, "target": target}
    words |= {"mask": mask, "through": through, "features": features, "restarts": restarts}
    setting = choose_setting(name, **words)
    if ATTACKS[name].needs == "vae":
        model = load_vae(vae or pipeline or "tiny", device_of(device))
    else:
        model = pipeline_of(pipeline or "tiny-sd", vae, device)
        if name == "photoguard-diffusion":
            for line in announce_peak(model, find_sources(images, out), batch):
                console.print(line)
    more = {"draws": draws, "batch": batch, "seed": seed, "resume": resume}
    with attack_bar(console, setting.steps * setting.options.get("restarts", 1)) as (done, stepped):
        made = attack_files(name, images, out, model, **words, **more, done=done, stepped=stepped)
    show_table(*attacked_table(made))
    for record in made:
        for doubt in record["doubts"]:
            console.print(f"[yellow]do not believe[/] {escape(Path(record['source']).name)}: {doubt}")
    console.print(f"\nAttacked images: [bold]{out}[/]\nContact sheet: [bold]{out / 'sheet.png'}[/]")


app.command()(generate)
app.command()(edit)


@app.command()
def finetune(
    images: Annotated[Path, typer.Option(help="A folder of images (any depth); their centre squares are learnt.")],
    out: Annotated[
        Path,
        typer.Option(help="A new folder for the whole pipeline, or for LoRA's weights alone; an interrupted run goes on."),
    ],
    pipeline: Annotated[str, typer.Option(help=PipelineHelp)] = "tiny-sd",
    vae: Annotated[str | None, typer.Option(help="Encodes the images in place of the pipeline's. " + VaeHelp)] = None,
    captions: Annotated[
        Path | None, typer.Option(help="A .jsonl or .csv with text and file_name, which is a path below --images.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="One caption for all, in place of those in the folder.")] = None,
    lora_rank: Annotated[int, typer.Option(min=0, help="Train LoRA of this rank; 0 trains all of the UNet.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 400,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a step.")] = 8,
    learning_rate: Annotated[float, typer.Option(min=0, help="At its peak, after 20 steps; then a cosine.")] = 1e-4,
    precision: Annotated[str, typer.Option(help="auto, no, bf16 or fp16.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of the order, the noise and the left-out captions.")] = 0,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 100,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
) -> None:
    """Fine-tune a pipeline's UNet on captioned images: metadata.jsonl or .csv in the folder, or a .txt beside each.

    Every image needs a caption; --prompt gives all of them one.
    """
    from srlvae.finetune import FinetuneConfig
    from srlvae.finetune import finetune as run
    from srlvae.show import step_bar

    config = FinetuneConfig(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        lora_rank=lora_rank,
        seed=seed,
        checkpoint_every=checkpoint_every,
        precision=precision,
    )
    loaded = pipeline_of(pipeline, vae, device)
    with step_bar(console, steps) as stepped:
        run(loaded, images, out, config, captions=captions, prompt=prompt, stepped=stepped)
    console.print(f"\nTuned: [bold]{out}[/]")
    if lora_rank:
        console.print(f'Next, in Python: pipeline.load_lora_weights("{out}")', markup=False)
    else:
        console.print(f"Next: srlvae generate --pipeline {out} --prompt … --out FOLDER")


@app.command()
def scan(
    images: Annotated[Path, typer.Argument(help="A folder of images, at any depth.", metavar="DIR")],
    clean: Annotated[
        Path,
        typer.Option(
            help="A folder of clean images of the same source and size, for the threshold: 99 or more for a rate of .01."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Scores, table and page; an interrupted run goes on.")],
    original: Annotated[str, typer.Option(help="The VAE whose perturbations are to be found. " + VaeHelp)] = "tiny",
    hardened: Annotated[str, typer.Option(help="What srlvae harden made of it.")] = "tiny-srl",
    rate: Annotated[float, typer.Option(min=1e-6, max=1.0, help="Share of clean images called suspicious.")] = 0.01,
    device: Annotated[str, typer.Option(help=DeviceHelp)] = "auto",
) -> None:
    """Find images that were perturbed: the original and the hardened encoder disagree on them.

    What is called suspicious is so at a chosen share of false alarms: no proof, and no word of who perturbed it and why.
    Several processes: accelerate launch -m srlvae scan …
    """
    from accelerate import PartialState

    from srlvae.images import count_others, find_images
    from srlvae.report.scan import write_scan_page
    from srlvae.scan import calibrate, check_enough, clean_evidence, readable, score, write_verdicts
    from srlvae.scan import scan as run
    from srlvae.show import picture_bar
    from srlvae.vae import load_vae

    check_enough(len(find_images(clean)), rate)
    where = device_of(device)
    vaes = load_vae(original, where), load_vae(hardened, where)
    with picture_bar(console, "clean") as done:
        known = readable(run(*vaes, clean, clean_evidence(out, clean), done))
    normal, threshold = calibrate(known, rate)
    with picture_bar(console, "images") as done:
        scores = score(run(*vaes, images, out, done), normal)
    if not PartialState().is_main_process:
        return
    table = write_verdicts(out, scores, threshold, clean, rate)
    page = write_scan_page(out, images, scores, threshold, f"the {len(known)} in {clean}", rate)
    found, total = sum(one.above(threshold) for one in scores), sum(one.value is not None for one in scores)
    console.print(f"{found} of {total} images are suspicious, with scores above {threshold:.3f}")
    console.print(f"if all were clean, about {rate * total:.1f} would be by chance")
    if total < len(scores):
        console.print(f"{len(scores) - total} could not be read; the table says why")
    if images.is_dir() and (others := count_others(images)):
        console.print(f"{others} other files were not looked at: their names are not those of images")
    console.print(f"\nTable: [bold]{table}[/]\nPage: [bold]{page}[/]")


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="What `srlvae bench` wrote.", metavar="DIR…")],
    out: Annotated[Path | None, typer.Option(help="Folder of the page; the first DIR by default.")] = None,
) -> None:
    """Rebuild the page of a benchmark from its numbers; several runs of the editing benchmark side by side."""
    from srlvae.report.page import write_report

    console.print(f"Report: [bold]{write_report(folders, out)}[/]")


def _stop(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point. Exit codes: 2 for bad input, 130 after Ctrl-C or SIGTERM."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # The profiler, which measures memory, announces itself otherwise.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    signal.signal(signal.SIGTERM, _stop)
    keep_freed_memory()
    try:
        app()
    except (InputError, ModuleNotFoundError, OSError) as error:
        Console(stderr=True, highlight=False).print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(2)
    except SystemExit as stop:
        # Typer makes 130 of a KeyboardInterrupt.
        if stop.code == 130:
            Console(stderr=True).print("stopped; the same command goes on where it was (harden: with --resume)")
        raise
