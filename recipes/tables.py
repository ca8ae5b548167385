"""The tables of README.md and docs/results.md, and the poisoning curves, from `results/`.

    python recipes/tables.py            # write them
    python recipes/tables.py --check    # only say where they are not what `results/` says

A table stands between `<!-- NAME RESULT… -->` and `<!-- end -->`; NAME is one of TABLES.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from srlvae.files import write_text
from srlvae.report.plots import plot_poisoning
from srlvae.report.poisoning import curves, pooled, share
from srlvae.report.tables import Table, markdown

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/results.md", "docs/encoders.md")
MARKED = re.compile(r"(<!-- (\S+) ([^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)
FRECHET, CLIP_I = "efficientnet-lite1_frechet", "clip_i_tiny-clip"
# Of the results on scans, in the order of the marks.
VAES = ("TAESD", "`tiny`")
# Of the results on encoders, in the order of the marks; the last one does not ship.
ENCODERS = ("`tiny-srl`", "`taesd-srl`", "TAEF1, not shipped")
# The ε that tables put first.
EPS = 15


def percent(value: float) -> str:
    return f"{value:.0%}".replace("%", " %")


def editing(result: dict) -> Table:
    """A line an attack: Fréchet distances of edits, original → hardened, by ε."""
    found = {(r["attack"], r["eps"], r["made_on"], r["defence"]): r["measured"] for r in result["rows"]}
    attacks = list(dict.fromkeys(attack for attack, *_ in found if attack != "none"))
    rest = sorted({eps for attack, eps, *_ in found if attack not in ("none", "noise")} - {EPS})

    def exact(measured: dict) -> str:
        low, high = measured[f"{FRECHET}_interval"]
        return f"{measured[FRECHET]:.0f} [{low:.0f}, {high:.0f}]"

    def both(attack: str, eps: int, show: Callable[[dict], str]) -> str:
        made_on = "" if attack == "noise" else "original"
        pair = [found.get((attack, eps, made_on, defence)) for defence in ("none", "hardened")]
        return " → ".join(show(measured) for measured in pair if measured)

    clean = found["none", 0, "", "hardened"]
    lines = [["none, any ε", f"0 → {exact(clean)}", *[""] * len(rest), "", "", f"1 → {clean[CLIP_I]:.3f}"]]
    for attack in attacks:
        own, white_box = (found.get((attack, EPS, *made)) for made in (("original", "none"), ("hardened", "hardened")))
        factor = own[FRECHET] / found[attack, EPS, "original", "hardened"][FRECHET] if own else None
        cells = [both(attack, EPS, exact), *(both(attack, eps, lambda m: f"{m[FRECHET]:.0f}") for eps in rest)]
        cells += [f"{factor:.1f}" if factor else "", exact(white_box) if white_box else ""]
        lines.append([attack, *cells, both(attack, EPS, lambda m: f"{m[CLIP_I]:.3f}")])
    header = ["attack", f"**{EPS}/255**", *(f"{eps}/255" for eps in rest), f"factor, {EPS}/255"]
    return [*header, f"white-box, {EPS}/255", f"CLIP-I, {EPS}/255"], lines


def purifiers(result: dict) -> Table:
    """A line a defence of the original VAE at EPS: Fréchet distances of edits, and what it takes an image."""
    found = {(r["attack"], r["defence"]): r["measured"][FRECHET] for r in result["rows"] if _at(r, EPS, "original")}
    encoder = {name: seconds * 1000 for name, seconds in result["costs"]["encoder"].items()}
    costs = {"none": ["0"] * 3, "hardened": [f"0 (encoder: {encoder['hardened'] - encoder['original']:+.1f} ms)", "0", "0"]}
    for name, cost in result["costs"]["purifiers"].items():
        passes = ", ".join(f"{count:.0f} {network}" for network, count in cost["passes"].items() if count)
        costs[name] = [f"{cost['seconds']:.2g}", f"{cost['memory'] / 1e6:.0f} MB", passes or "0"]
    attacks = {"none": "clean", "photoguard-encoder": "PhotoGuard", "mist-textural": "Mist, textural"}
    lines = []
    for name, cost in costs.items():
        distances = [found.get((attack, name)) for attack in attacks]
        lines.append([name, *("" if value is None else f"{abs(value):.0f}" for value in distances), *cost])
    return ["defence", *attacks.values(), "seconds", "memory", "network passes"], lines


def _at(row: dict, eps: int, made_on: str) -> bool:
    return row["attack"] == "none" or (row["eps"], row["made_on"]) == (eps, made_on)


def _tuned(result: dict, defence: str, count: int, kind: str = "transfer", eps: int | None = None, pair: tuple = ()) -> list:
    """Rows of one cell: those of `count` poisons at `eps`, by default the largest, or of none."""
    wanted = (defence, kind, max(result["protocol"]["eps"]) if eps is None else eps) if count else (defence, "", 0)
    return [
        row
        for row in result["rows"]
        if (row["defence"], row["kind"], row["eps"]) == wanted
        and row["count"] == count
        and pair in ((), (row["concept"], row["target"]))
    ]


def poison_counts(result: dict) -> Table:
    """A line a number of poisons, all pairs together: images called the target, and the concept."""
    lines = []
    for count in sorted({0, *result["protocol"]["counts"]}):
        shares = [_tuned(result, defence, count) for defence in ("none", "hardened")]
        lines.append([str(count), *(share(own, measure) for measure in ("target", "concept") for own in shares)])
    header = [f"{measure}, {vae}" for measure in ("target", "concept") for vae in ("original", "hardened")]
    return ["poisons", *header], lines


def poison_pairs(result: dict) -> Table:
    """A line a pair and VAE, a column a number of poisons: images called the target, in brackets the concept."""
    counts, lines = sorted({0, *result["protocol"]["counts"]}), []
    for plan in result["protocol"]["pairs"]:
        pair = plan["concept"], plan["target"]
        for defence, vae in (("none", "original"), ("hardened", "hardened")):
            cells = [_tuned(result, defence, count, pair=pair) for count in counts]
            shares = [[pooled(own, measure)[0] for measure in ("target", "concept")] for own in cells]
            lines.append([" → ".join(pair), vae, *(f"{target:.0%} ({concept:.0%})" for target, concept in shares)])
    return ["shown as", "VAE", *(f"{count} poisons" if count else "no poison" for count in counts)], lines


def poison_defences(result: dict) -> Table:
    """A line a defence against the most poisons: images called the target and the concept, and other concepts themselves."""
    protocol, most = result["protocol"], max(result["protocol"]["counts"])
    rows = {"original, no poison": _tuned(result, "none", 0), "hardened, no poison": _tuned(result, "hardened", 0)}
    rows |= {"original": _tuned(result, "none", most), "hardened": _tuned(result, "hardened", most)}
    for eps in sorted(set(protocol["eps"]) - {max(protocol["eps"])}):
        for defence, vae in (("none", "original"), ("hardened", "hardened")):
            rows[f"{vae}, {eps}/255"] = _tuned(result, defence, most, eps=eps)
    rows |= {plan["name"]: _tuned(result, plan["name"], most) for plan in protocol["purifiers"]}
    rows["filtered by scan"] = _tuned(result, "scan", most)
    rows["hardened, white-box poison"] = _tuned(result, "hardened", most, "white-box")
    rows["original, wrong captions"] = _tuned(result, "none", most, "dirty-label", 0)
    measures = ("target", "concept", "others")
    lines = [[name, *(share(own, measure) for measure in measures)] for name, own in rows.items() if own]
    return [f"at {most} poisons of {max(protocol['eps'])}/255", "target", "concept", "other concepts"], lines


def scan(*results: dict) -> Table:
    """A line an attack: area under the curve and share found, by VAE and ε."""
    attacks = list(dict.fromkeys(name.split()[0] for name in results[0]["rows"]))
    budgets = list(dict.fromkeys(name.split()[1] for name in results[0]["rows"]))
    lines = []
    for attack in attacks:
        cells = [result["rows"][f"{attack} {eps}"] for result in results for eps in budgets]
        lines.append([attack, *(text for cell in cells for text in (f"{cell['auroc']:.3f}", percent(cell["found"])))])
    return ["attack", *(text for vae in VAES for eps in budgets for text in (f"{vae}, {eps}: AUROC", "found"))], lines


def scan_handled(*results: dict) -> Table:
    """A line an attack at the largest ε: the area under the curve as it comes and after each handling, by VAE."""
    handlings = ["as it comes", *results[0]["handled"]]
    rows = list(results[0]["handled"][handlings[1]]["rows"])
    lines = []
    for row in rows:
        found = [one["rows"][row] for result in results for one in (result, *result["handled"].values())]
        lines.append([row, *(f"{one['auroc']:.3f} ({percent(one['found'])})" for one in found)])
    return ["attack", *(f"{vae}, {handling}" for vae in VAES for handling in handlings)], lines


MEASURED = (
    ("clean latents, shift ↓", "shift", "{:.3f}", "none", "any"),
    ("clean reconstruction, EfficientNet-Lite1 distance ↓", "efficientnet-lite1_distance", "{:.3f}", "none", "any"),
    ("clean reconstruction, PSNR dB", "psnr", "{:.2f}", "none", "any"),
    ("latents pushed away, transfer: shift ↓", "shift", "{:.3f}", "latent", "transfer"),
    ("the same, white-box", "shift", "{:.3f}", "latent", "white-box"),
    ("latents pulled to zero, transfer: shift ↓", "shift", "{:.3f}", "photoguard-encoder", "transfer"),
    ("the same, white-box", "shift", "{:.3f}", "photoguard-encoder", "white-box"),
    ("reconstruction attacked, transfer: PSNR dB", "psnr", "{:.2f}", "reconstruction", "transfer"),
    ("the same, white-box", "psnr", "{:.2f}", "reconstruction", "white-box"),
)


def encoders(*results: dict) -> Table:
    """A line a measure at EPS, a column an encoder: original → hardened."""

    def cell(result: dict, measure: str, form: str, attack: str, access: str) -> str:
        found = {(row["vae"], row["attack"], row["eps"], row["setting"]): row[measure] for row in result["rows"]}
        eps = EPS if attack != "none" else 0
        before = found["original", attack, eps, "any" if attack == "none" else "white-box"]
        return f"{form.format(before)} → {form.format(found['hardened', attack, eps, access])}"

    names = (result["hardened"][:8] for result in results)
    header = [f"{name}, `{fingerprint}…`" for name, fingerprint in zip(ENCODERS, names, strict=False)]
    return ["", *header], [[label, *(cell(result, *what) for result in results)] for label, *what in MEASURED]


TABLES: dict[str, Callable[..., Table]] = {
    "editing": editing,
    "purifiers": purifiers,
    "poison-counts": poison_counts,
    "poison-pairs": poison_pairs,
    "poison-defences": poison_defences,
    "encoders": encoders,
    "scan": scan,
    "scan-handled": scan_handled,
}


def load(path: str) -> dict:
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def filled(page: str) -> str:
    """The page with its tables as `results/` has them."""
    return MARKED.sub(
        lambda found: found[1] + markdown(TABLES[found[2]](*(load(path) for path in found[3].split()))) + found[4], page
    )


def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail where a page is not up to date.")] = False,
) -> None:
    pages = {ROOT / name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
    if check:
        if stale := [path.name for path, page in pages.items() if filled(page) != page]:
            raise SystemExit(f"tables in {', '.join(stale)} are not those of results/; run python recipes/tables.py")
        return
    for path, page in pages.items():
        write_text(path, filled(page))
    for path in (ROOT / "results").glob("poisoning-*.json"):
        result = load(f"results/{path.name}")
        if len(result["protocol"]["counts"]) > 1:
            eps = max(result["protocol"]["eps"])
            write_text(path.with_suffix("") / "curves.svg", plot_poisoning(curves(result, eps), f"ε {eps}/255"))


if __name__ == "__main__":
    typer.run(main)
