"""One self-contained HTML page from the folder of a benchmark. Needs the extra `report`."""

from __future__ import annotations

import json
from pathlib import Path

from srlvae.bench.reconstruction import GRID
from srlvae.bench.reconstruction import RESULT as RECONSTRUCTION
from srlvae.errors import InputError
from srlvae.extras import need
from srlvae.files import write_atomically
from srlvae.report.editing import editing_table, inline, load_run, page_parts, side_by_side
from srlvae.report.plots import plot_reconstruction
from srlvae.report.tables import markdown, reconstruction_table

PAGE, TABLE, PLOT = "report.html", "table.md", "plot.png"
EDITING = Path(__file__).with_name("editing.html")

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>
:root { color-scheme: light dark; --line: light-dark(#ccc, #444); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem;
  background: light-dark(#fff, #16181c); color: light-dark(#1a1a1a, #e6e6e6); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; white-space: nowrap; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; }
img { max-width: 100%; background: #fff; border-radius: 4px; } pre { font-size: .8rem; }
</style></head><body>
<h1>{{ title }}</h1>
<p>{{ n }} photographs, the first {{ attacked }} of them attacked. Every pair of numbers is original → hardened.
Attacked images are compared with the clean ones. Transfer: made on the original VAE. White-box: made on the
VAE it is tried on.</p>
<h2>Pictures</h2><img alt="clean, attacked, both reconstructions, both errors" src="{{ grid }}">
<h2>Over the budget ε</h2><img alt="PSNR and latent shift over the budget" src="{{ plot }}">
<h2>All numbers</h2><div class="wide"><table><thead><tr>{% for cell in header %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>{% for line in lines %}<tr>{% for cell in line %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</tbody></table></div>
<h2>What to keep in mind</h2><ul>
<li>Fréchet distances of few images are biased upwards; compare them only at equal n. None of them is FID.</li>
<li>efficientnet-lite0 is the network that hardening trains on by default; the judge that it never saw is the other one.</li>
<li>Attacks took {{ steps }} steps; stronger attackers take more.</li></ul>
<details><summary>Settings and versions</summary><pre>{{ settings }}</pre></details>
</body></html>
"""


def write_report(folders: list[Path], out: Path | None = None) -> Path:
    """The page of a benchmark's folder, or of several folders of the editing benchmark side by side, in `out` or the first.

    Raises InputError for folders without rows.
    """
    if any((folder / RECONSTRUCTION).is_file() for folder in folders):
        if len(folders) > 1:
            raise InputError("reports of reconstruction are of one folder each; give one")
        return write_reconstruction(folders[0])
    return write_editing(folders, out or folders[0])


def write_editing(folders: list[Path], out: Path) -> Path:
    (jinja2,) = need("report", "jinja2")
    runs = [load_run(folder) for folder in folders]
    page = jinja2.Environment(autoescape=True).from_string(EDITING.read_text(encoding="utf-8"))
    text = page.render(runs=[page_parts(run) for run in runs], compared=side_by_side(runs) if len(runs) > 1 else None)
    write_atomically(out / PAGE, lambda file: file.write_text(text, encoding="utf-8"))
    for run in runs:
        tables = [markdown(editing_table(run, measure)) for measure in run.measures()[:2]]
        write_atomically(run.folder / TABLE, lambda file, tables=tables: file.write_text("\n".join(tables), encoding="utf-8"))
    return out / PAGE


def write_reconstruction(folder: Path) -> Path:
    """Write plot, Markdown table and page beside the rows in `folder`; return the page. Raises InputError without rows."""
    (jinja2,) = need("report", "jinja2")
    if not (folder / RECONSTRUCTION).is_file():
        raise InputError(f"{folder} has no {RECONSTRUCTION}; run: srlvae bench reconstruction … --out {folder}")
    result = json.loads((folder / RECONSTRUCTION).read_text())
    plot_reconstruction(result, folder / PLOT)
    header, lines = reconstruction_table(result)
    write_atomically(folder / TABLE, lambda file: file.write_text(markdown((header, lines)), encoding="utf-8"))
    page = jinja2.Environment(autoescape=True).from_string(TEMPLATE)
    settings = {key: value for key, value in result.items() if key not in ("rows", "images")}
    text = page.render(
        title="Reconstruction under attack",
        n=len(result["images"]),
        attacked=min(result["protocol"]["images"], len(result["images"])),
        steps=result["protocol"]["steps"],
        header=header,
        lines=lines,
        grid=inline(folder / GRID),
        plot=inline(folder / PLOT),
        settings=json.dumps(settings, indent=2),
    )
    write_atomically(folder / PAGE, lambda file: file.write_text(text, encoding="utf-8"))
    return folder / PAGE
