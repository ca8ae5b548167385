"""Rows of the reconstruction benchmark → the table of one encoder, and of several side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from srlvae.bench.rows import Access
from srlvae.report.rows import Table, arrow, find, made_on, main_budget, pair, rows_of

# (label, attack, access, measure, how it is written)
ROBUSTNESS: tuple[tuple[str, str, Access, str, str], ...] = (
    ("clean latents, shift ↓", "none", "none", "shift", ".3f"),
    ("clean reconstruction, {pairs} distance ↓", "none", "none", "distance", ".3f"),
    ("clean reconstruction, PSNR dB", "none", "none", "psnr", ".2f"),
    ("latents pushed away, transfer: shift ↓", "latent", "transfer", "shift", ".3f"),
    ("the same, white-box", "latent", "white-box", "shift", ".3f"),
    ("latents pulled to zero, transfer: shift ↓", "photoguard-encoder", "transfer", "shift", ".3f"),
    ("the same, white-box", "photoguard-encoder", "white-box", "shift", ".3f"),
    ("reconstruction attacked, transfer: PSNR dB", "reconstruction", "transfer", "psnr", ".2f"),
    ("the same, white-box", "reconstruction", "white-box", "psnr", ".2f"),
)
NAMES = {"efficientnet-lite1": "EfficientNet-Lite1"}


def reconstruction_table(result: Mapping[str, Any]) -> Table:
    """One line an attack, ε and access, each measure as `original → hardened`.

    In transfer and white-box lines the original's number is its own under the attack made on it.
    """
    pairs, sets = (result["protocol"][key] for key in ("pairs", "sets"))
    measures = (("PSNR dB", "psnr", ".2f"), ("SSIM", "ssim", ".3f"), ("shift", "shift", ".3f"))
    measures += ((f"{pairs} distance", "distance", ".3f"), (f"{sets} Fréchet", "frechet", ".1f"))
    rows, lines = rows_of(result), []
    for row in find(rows, defence="hardened"):
        attack, eps = row.condition["attack"], row.condition["eps"]
        if both := pair(rows, row.access, attack=attack, eps=eps):
            name, access = ("clean" if attack == "none" else str(attack)), (row.access if made_on(row) else "")
            lines.append([name, str(eps), access, str(row.n), *(arrow(both, key, spec) for _, key, spec in measures)])
    return ["attack", "ε", "access", "n", *(label for label, _, _ in measures)], lines


def encoders_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """A line a measure at the main budget, a column a result by its name: original → hardened."""
    header = ["", *(f"{name}, `{result['hardened'][:8]}…`" for name, result in results.items())]
    networks = {result["protocol"]["pairs"] for result in results.values()}
    pairs = ", ".join(sorted(str(NAMES.get(name, name)) for name in networks))
    lines = []
    for label, attack, access, measure, spec in ROBUSTNESS:
        cells = [_cell(result, attack, access, measure, spec) for result in results.values()]
        lines.append([label.format(pairs=pairs), *cells])
    return header, lines


def _cell(result: Mapping[str, Any], attack: str, access: Access, measure: str, spec: str) -> str:
    rows = rows_of(result)
    eps = "0" if attack == "none" else main_budget(rows)
    return arrow(pair(rows, access, attack=attack, eps=eps), measure, spec)
