"""The tables of the reconstruction benchmark: all numbers of one encoder, and several encoders side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from srlvae.bench.cells import PARTS
from srlvae.bench.rows import Access
from srlvae.report.rows import Table, attack_label, budgets, find_pair, find_rows, format_pair, made_on, main_budget, rows_of

# The attack that pulls latents to zero.
PULLS = "photoguard-encoder"
# The lines of the table: label, attack, access, measure, and the format of its numbers.
ENCODER_LINES: tuple[tuple[str, str, Access, str, str], ...] = (
    ("clean latents, shift ↓", "none", "none", "shift", ".3f"),
    ("clean reconstruction, {pairs} distance ↓", "none", "none", "distance", ".3f"),
    ("clean reconstruction, PSNR dB", "none", "none", "psnr", ".2f"),
    ("uniform noise: shift ↓", "uniform-noise", "none", "shift", ".3f"),
    ("the same, {pairs} distance of the reconstruction ↓", "uniform-noise", "none", "distance", ".3f"),
    ("latents pushed away, transfer: shift ↓", "latent", "transfer", "shift", ".3f"),
    ("the same, white-box", "latent", "white-box", "shift", ".3f"),
    ("latents pulled to zero, transfer: shift ↓", PULLS, "transfer", "shift", ".3f"),
    ("the same, white-box", PULLS, "white-box", "shift", ".3f"),
    ("its contrast part alone: shift ↓", f"{PULLS}, {PARTS['contrast']}", "transfer", "shift", ".3f"),
    ("without its contrast part: shift ↓", f"{PULLS}, {PARTS['rest']}", "transfer", "shift", ".3f"),
    ("random signs of its energy: shift ↓", f"{PULLS}, {PARTS['signs']}", "transfer", "shift", ".3f"),
    ("reconstruction attacked, transfer: PSNR dB", "reconstruction", "transfer", "psnr", ".2f"),
    ("the same, white-box", "reconstruction", "white-box", "psnr", ".2f"),
)
# The lines of README's table of one encoder.
SUMMARY_LINES: tuple[tuple[str, str, Access, str, str], ...] = (
    ("clean photographs: shift ↓", "none", "none", "shift", ".3f"),
    ("clean photographs: PSNR of the reconstruction, dB ↑", "none", "none", "psnr", ".2f"),
    ("attack made on the original (transfer): shift ↓", "latent", "transfer", "shift", ".3f"),
    ("attack made on the encoder itself (white-box): shift ↓", "latent", "white-box", "shift", ".3f"),
)
NETWORK_NAMES = {"efficientnet-lite1": "EfficientNet-Lite1"}


def reconstruction_table(result: Mapping[str, Any]) -> Table:
    """All numbers of a result: a line for each attack, ε and access, and a column for each measure.

    Cells are written original → hardened. The original VAE's number is always under the attack made on itself.
    """
    pairs, sets = (result["protocol"][key] for key in ("pairs", "sets"))
    measures = (("PSNR dB", "psnr", ".2f"), ("SSIM", "ssim", ".3f"), ("shift", "shift", ".3f"))
    measures += ((f"{pairs} distance", "distance", ".3f"), (f"{sets} Fréchet", "frechet", ".1f"))
    rows, lines = rows_of(result), []
    for row in find_rows(rows, defence="hardened"):
        attack, eps = row.condition["attack"], row.condition["eps"]
        if both := find_pair(rows, row.access, attack=attack, eps=eps):
            name, access = ("clean" if attack == "none" else attack_label(row)), (row.access if made_on(row) else "")
            lines.append([name, str(eps), access, str(row.n), *(format_pair(both, key, spec) for _, key, spec in measures)])
    return ["attack", "ε", "access", "n", *(label for label, _, _ in measures)], lines


def encoders_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """Several encoders side by side, at the main budget: a line for each measure, a column for each result.

    `results` are the results by name. Cells are written original → hardened.
    """
    header = ["", *(f"{name}, `{result['hardened'][:8]}…`" for name, result in results.items())]
    networks = {result["protocol"]["pairs"] for result in results.values()}
    pairs = ", ".join(sorted(str(NETWORK_NAMES.get(name, name)) for name in networks))
    lines = []
    for label, attack, access, measure, spec in ENCODER_LINES:
        cells = [_cell(result, attack, access, measure, spec) for result in results.values()]
        lines.append([label.format(pairs=pairs), *cells])
    return header, lines


def budgets_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """The shift of latents over the budget, weak perturbations first, for several encoders.

    A line for each kind of perturbation and budget, a column for each result. Cells are written original → hardened.
    """
    kinds: tuple[tuple[str, str, Access], ...] = (
        ("random signs", "random-signs", "none"),
        ("pushed away, transfer", "latent", "transfer"),
        ("pushed away, white-box", "latent", "white-box"),
    )
    rows = {name: rows_of(result) for name, result in results.items()}
    every = budgets(row for own in rows.values() for row in own)
    lines = [
        [label, eps, *(format_pair(find_pair(own, access, attack=attack, eps=eps), "shift", ".3f") for own in rows.values())]
        for label, attack, access in kinds
        for eps in every
    ]
    return ["shift of the latents ↓", "ε", *rows], lines


def summary_of_encoder(result: Mapping[str, Any]) -> Table:
    """README's table of one encoder, at the main budget: four lines, with the original beside the hardened encoder."""
    lines = []
    for label, attack, access, measure, spec in SUMMARY_LINES:
        lines.append([label, *_cell(result, attack, access, measure, spec).split(" → ")])
    return ["", "original", "hardened"], lines


def _cell(result: Mapping[str, Any], attack: str, access: Access, measure: str, spec: str) -> str:
    rows = rows_of(result)
    eps = "0" if attack == "none" else main_budget(rows)
    return format_pair(find_pair(rows, access, attack=attack, eps=eps), measure, spec)
