"""Rows of results → plots over ε, with intervals. Needs the extra `report`."""

from __future__ import annotations

from pathlib import Path

from srlvae.extras import need
from srlvae.files import write_atomically

# Colours that stay apart for colour-blind readers (Okabe and Ito 2008), and line styles for print.
STYLES = {
    ("original", "white-box"): ("original", "#D55E00", "-"),
    ("hardened", "transfer"): ("hardened, transfer", "#009E73", "-"),
    ("hardened", "white-box"): ("hardened, white-box", "#0072B2", "--"),
}
MEASURES = {"psnr": "PSNR of D(E(x′)) in dB", "latent_shift": "latent shift"}


def plot_reconstruction(result: dict, path: Path) -> None:
    """One column an attack, one row a measure; the shaded band is the 95 % bootstrap interval over images."""
    matplotlib, _ = need("report", "matplotlib", "matplotlib.figure")
    attacks = result["protocol"]["attacks"]
    size = (4 * len(attacks), 3.2 * len(MEASURES))
    figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(MEASURES), len(attacks), squeeze=False, sharex=True, sharey="row")
    for j, attack in enumerate(attacks):
        for i, (measure, label) in enumerate(MEASURES.items()):
            _draw(axes[i][j], result["rows"], attack, measure)
            if j == 0:
                axes[i][j].set_ylabel(label)
        axes[0][j].set_title(attack)
        axes[-1][j].set_xlabel("ε · 255")
    axes[0][0].legend(fontsize="small")
    write_atomically(path, lambda file: figure.savefig(file, dpi=120))


def _draw(axis, rows: list[dict], attack: str, measure: str) -> None:
    for (vae, setting), (label, colour, line) in STYLES.items():
        own = [r for r in rows if r["vae"] == vae and (r["attack"], r["setting"]) in ((attack, setting), ("none", "any"))]
        own.sort(key=lambda r: r["eps"])
        eps = [r["eps"] for r in own]
        axis.plot(eps, [r[measure] for r in own], line, color=colour, label=label, marker="o", markersize=3)
        low, high = zip(*(r[f"{measure}_interval"] for r in own), strict=True)
        axis.fill_between(eps, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.grid(alpha=0.3)
