"""`srlvae export` and `srlvae push`: hardened VAEs for other programs and for other people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from srlvae.cli.shared import VaeHelp, console, named, quoted
from srlvae.errors import unknown
from srlvae.files import read_record, shown

# Where each layout is read, for the last line.
PLACES = {
    "ldm": "models/VAE of A1111 and Forge, or models/vae of ComfyUI; for kohya's scripts give it as --vae",
    "taesd": "models/vae_approx of ComfyUI, and choose {name} in the node Load VAE",
    "diffusers": "vae/ of a pipeline's folder, or load it with from_pretrained",
}


def export_command(folder: Path) -> str:
    """The command that writes the VAE in a folder as other programs read it."""
    from srlvae.models.formats.export import OWN

    to = OWN.get(read_record(folder / "config.json")["_class_name"], "diffusers")
    out = quoted(f"{folder.resolve().name}.safetensors") if to == "ldm" else "FOLDER"
    return f"srlvae export {quoted(folder)} --to {to} --out {out}"


def export(
    vae: Annotated[str, typer.Argument(help=VaeHelp, metavar="VAE")],
    to: Annotated[str, typer.Option(help="`ldm` for A1111, Forge and kohya, `taesd` for ComfyUI, or `diffusers`.")],
    out: Annotated[Path, typer.Option(help="For ldm a new `.safetensors` file, otherwise a folder.")],
    dtype: Annotated[str, typer.Option(help="Precision of the weights: float16, bfloat16 or float32.")] = "float32",
    variant: Annotated[
        str | None, typer.Option(help="For diffusers: a variant such as fp16, which becomes part of the file's name.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="For taesd: the model whose latents it makes, taesd, taesdxl, taesd3 or taef1. By default taesd or taef1."
        ),
    ] = None,
) -> None:
    """Write a VAE in the format of another program.

    That is one file in LDM's layout, TAESD's pair of files, or a folder in diffusers' format.

    For example:
      srlvae export my-vae --to ldm --dtype float16 --out my-vae.safetensors
      srlvae export my-taesd --to taesd --out ComfyUI/models/vae_approx
    """
    from srlvae.models.formats.export import DTYPES, is_published
    from srlvae.models.formats.export import export as run
    from srlvae.models.vae import load_vae

    if dtype not in DTYPES:
        raise unknown("no dtype", dtype, DTYPES)
    model = load_vae(vae)
    files = run(model, to, out, dtype=DTYPES[dtype], variant=variant, name=name)
    for path in files:
        console.print(f"Written: [bold]{named(path)}[/]")
    if is_published(model, to):
        console.print("Put it into: " + PLACES[to].format(name=shown(files[0].name.split("_")[0])), markup=False)
    else:
        console.print("Other programs will not load it: its layers differ from those of the published models", style="yellow")


def push(
    folder: Annotated[Path, typer.Argument(help="A folder that `srlvae harden` wrote.", metavar="FOLDER")],
    repository: Annotated[str, typer.Argument(help="The repository to upload to, owner/name.", metavar="REPO")],
    private: Annotated[bool, typer.Option("--private", help="If the repository is new, make it private.")] = False,
) -> None:
    """Upload a hardened VAE with its card to the Hugging Face hub.

    Log in first, with `hf auth login`. Read the card through before you publish it.

    For example:
      srlvae push my-taesd me/taesd-hardened
    """
    from srlvae.harden.push import push as run

    console.print(f"Published: [bold]{named(run(folder, repository, private=private))}[/]")
    console.print(f'Next, in Python: AutoModel.from_pretrained("{shown(repository)}")', markup=False)
