"""The pages of docs/reference that are made from the code: the command line, and the tables of attacks and purifiers.

python recipes/reference.py            # write them
python recipes/reference.py --check    # only say where they are not what the code says
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Annotated

import typer
from typer.cli import get_docs_for_click

from srlvae.attacks import ATTACKS
from srlvae.cli import app
from srlvae.cli.shared import EXAMPLES
from srlvae.files import write_text
from srlvae.purify import PURIFIERS
from srlvae.report.rows import Table
from srlvae.report.tables import markdown

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
TABLES = """# Attacks and purifiers
Made from the tables in the code by `python recipes/reference.py`. `srlvae attack --list` prints the first two.

**Budgets** are the effective ones, on images in [0,1]: several released codes work on images in [-1,1] and state twice the
budget that they use. Steps follow the budget. DCT-Shield bounds coefficients of a JPEG instead of pixels, so its number is a
root mean square. **Cost** counts passes in a step: E is the encoder, D the decoder, U the UNet, P a perceptual network.

What each attack does at its default setting is [measured](../results/attacks.md).

## Attacks on an autoencoder
Run them with `--vae`. `--also` names a second autoencoder, and the objectives on both are added: against a user who has one
of the two.

{vae}
## Attacks on a pipeline
Run them with `--pipeline`; `--vae` puts another autoencoder into it.

{pipeline}
## Purifiers
They change the image before the encoder sees it. `srlvae bench editing` runs those that a protocol names; what a purifier
needs is named in the protocol, too. `srlvae bench poisoning` and `srlvae bench mimicry` run those that need nothing, the VAE
or the pipeline.

{purifiers}"""


def attacks_table(needs: str) -> Table:
    """A line a preset: the attack's name, the preset, the paper, budget and steps, cost."""
    lines = []
    for name, attack in ATTACKS.items():
        for preset, setting in attack.presets.items() if attack.needs == needs else ():
            first = not lines or lines[-1][5] != name
            own = [f"`{name}`" if first else "", f"`{preset}`", attack.paper if first else ""]
            lines.append([*own, f"{setting.ball.radius}, {setting.ball.steps}", attack.passes if first else "", name])
    return ["attack", "preset", "paper", "budget, steps", "cost of a step"], [line[:5] for line in lines]


def purifiers_table() -> Table:
    """A line a purifier: its name, where it was published, what it needs, its settings."""
    lines = []
    for name, purifier in PURIFIERS.items():
        settings = ", ".join(f"{key} {value:g}" for key, value in purifier.settings.items())
        lines.append([f"`{name}`", purifier.source, purifier.needs, settings])
    return ["purifier", "source", "needs", "settings"], lines


def command_line() -> str:
    """Every command with its options."""
    command = typer.main.get_command(app)
    page = get_docs_for_click(obj=command, ctx=typer.Context(command), name="srlvae", title="Command line")
    page = page.replace("```console\n$ ", "```text\n").replace("* `--help`: Show this message and exit.\n", "")
    # Lists of commands, whose headings follow anyway, and what has become empty.
    page = re.sub(r"\*\*Commands\*\*:\n\n(\* .*\n)+", "", page)
    page = re.sub(r"\*\*Options\*\*:\n\n(?!\*)", "", page)
    # What help texts show line by line.
    page = re.sub(rf"\x08\n *{EXAMPLES}\n((?: +.*\n)+)", _block, page)
    # As long as lines of prose are elsewhere.
    page = re.sub(r"^(?:\* |[A-Z]).{119,}$", _wrapped, page, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", page).strip() + "\n"


def _wrapped(found: re.Match) -> str:
    indent = "  " if found[0].startswith("* ") else ""
    return textwrap.fill(found[0], 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _block(found: re.Match) -> str:
    return f"{EXAMPLES}\n\n```sh\n{textwrap.dedent(found[1])}```\n"


def pages() -> dict[Path, str]:
    """The text of each page."""
    tables = {needs: markdown(attacks_table(needs)) for needs in ("vae", "pipeline")}
    return {
        FOLDER / "command-line.md": command_line(),
        FOLDER / "attacks-and-purifiers.md": TABLES.format(**tables, purifiers=markdown(purifiers_table())),
    }


def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail where a page is not up to date.")] = False,
) -> None:
    made = pages()
    if check:
        stale = [path.name for path, text in made.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
        if stale:
            raise SystemExit(f"{', '.join(stale)} in docs/reference: not what the code says; run python recipes/reference.py")
        return
    for path, text in made.items():
        write_text(path, text)


if __name__ == "__main__":
    typer.run(main)
