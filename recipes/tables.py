"""The tables of README.md and docs, and their curves, from `results/`.

    python recipes/tables.py            # write them
    python recipes/tables.py --check    # only say where they are not what `results/` says

A table stands between `<!-- NAME RESULT… -->` and `<!-- end -->`; NAME is one of TABLES, which are those of `srlvae.report`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from srlvae.bench.leaderboard import LEADERBOARD, Entry, flat_rows, read_leaderboard
from srlvae.files import write_json, write_text
from srlvae.report.attacks import attacks_table, plot_curves
from srlvae.report.defences import defence_table
from srlvae.report.editing import summary_table
from srlvae.report.editing_variants import variants_table, white_box_table, worst_table
from srlvae.report.encoders import budgets_table, encoders_table, summary_of_encoder
from srlvae.report.hardening import cost_shares_table, hardening_table
from srlvae.report.hardening import curves as hardening_curves
from srlvae.report.mimicry import mimicry_table
from srlvae.report.overview import overview_table
from srlvae.report.plots import plot_hardening, plot_poisoning
from srlvae.report.poisoning import counts_table, curves, defences_table, largest_budget, pairs_table
from srlvae.report.rows import Table
from srlvae.report.scan_tables import handled_table, kinds_table, knowing_table, scan_table
from srlvae.report.speed import billion_table, gpu_table, growth_table, speed_table
from srlvae.report.sweep import sweep_table
from srlvae.report.tables import markdown

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/index.md",
    *(
        f"docs/results/{name}.md"
        for name in ("index", "attacks", "encoders", "editing", "poisoning", "mimicry", "scan", "speed")
    ),
)
MARKED = re.compile(r"(<!-- (\S+) ([^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)
# What tables call the results by.
NAMES = {
    "reconstruction-tiny-srl": "`tiny-srl`",
    "reconstruction-taesd-srl": "`taesd-srl`",
    "reconstruction-taef1-srl": "`taef1-srl`",
    "weak-tiny-srl": "`tiny-srl`",
    "weak-taesd-srl": "`taesd-srl`",
    "weak-taef1-srl": "`taef1-srl`",
    "scan-tiny": "`tiny`",
    "scan-taesd": "TAESD",
    "editing-tiny-sd": "tiny-sd",
    "editing-taesd": "TAESD",
    "poisoning-taesd": "TAESD",
}
# Whose the models of results are, for the leaderboard.
METHOD = "arXiv 2504.17219"
ENTRIES = {
    "reconstruction-tiny-srl": Entry("tiny-srl", "srlvae", METHOD),
    "editing-tiny-sd": Entry("tiny-srl", "srlvae", METHOD),
    "reconstruction-taesd-srl": Entry("taesd-srl", "srlvae", METHOD),
    "editing-taesd": Entry("taesd-srl", "srlvae", METHOD),
    "reconstruction-taef1-srl": Entry("taef1-srl", "srlvae", METHOD),
}
Results = dict[str, dict[str, Any]]


def alone(table: Callable[[dict[str, Any]], Table]) -> Callable[[Results], Table]:
    """A table of one result."""

    def of_one(results: Results) -> Table:
        (result,) = results.values()
        return table(result)

    return of_one


def named(table: Callable[[Results], Table]) -> Callable[[Results], Table]:
    """A table of several results under their names."""
    return lambda results: table({NAMES[stem]: result for stem, result in results.items()})


def overview(results: Results) -> Table:
    """The first table on edits, poison and scans."""
    kinds = ("editing", "poisoning", "scan")
    return overview_table(*({NAMES[s]: r for s, r in results.items() if s.startswith(f"{kind}-")} for kind in kinds))


TABLES: dict[str, Callable[[Results], Table]] = {
    "summary": alone(summary_of_encoder),
    "encoders": named(encoders_table),
    "budgets": named(budgets_table),
    "overview": overview,
    "hardening": alone(hardening_table),
    "hardening-costs": alone(cost_shares_table),
    "sweep": alone(sweep_table),
    "attacks": alone(attacks_table),
    "editing": alone(summary_table),
    "white-box": alone(white_box_table),
    "worst": alone(worst_table),
    "variants": alone(variants_table),
    "purifiers": alone(defence_table),
    "poison-counts": alone(counts_table),
    "poison-pairs": alone(pairs_table),
    "poison-defences": alone(defences_table),
    "mimicry": alone(mimicry_table),
    "scan": named(scan_table),
    "scan-handled": named(handled_table),
    "scan-kinds": named(kinds_table),
    "scan-knows": alone(knowing_table),
    "speed": alone(speed_table),
    "gpu": alone(gpu_table),
    "growth": alone(growth_table),
    "billion": lambda results: billion_table(*results.values()),
}


def load(path: str) -> dict[str, Any]:
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def filled(page: str) -> str:
    """The page with its tables as `results/` has them."""

    def table(found: re.Match) -> str:
        results = {Path(path).stem: load(path) for path in found[3].split()}
        return found[1] + markdown(TABLES[found[2]](results)) + found[4]

    return MARKED.sub(table, page)


def write_leaderboard() -> None:
    """The rows of the bundled models' results, in place of all that are there; those of other models stay."""
    path, own = ROOT / "results" / LEADERBOARD, {entry.model for entry in ENTRIES.values()}
    kept = [row for row in read_leaderboard(path) if row["model"] not in own]
    found = [row for stem, entry in ENTRIES.items() for row in flat_rows(load(f"results/{stem}.json"), entry)]
    write_json(path, {"rows": [*kept, *found]})


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
    write_leaderboard()
    write_text(ROOT / "results/attacks-tiny-sd/curves.svg", plot_curves(load("results/attacks-tiny-sd.json")))
    write_text(ROOT / "results/hardening-taesd.svg", plot_hardening(hardening_curves(load("results/hardening-taesd.json"))))
    for path in (ROOT / "results").glob("poisoning-*.json"):
        result = load(f"results/{path.name}")
        if len(result["protocol"]["counts"]) > 1:
            eps = largest_budget(result)
            write_text(path.with_suffix("") / "curves.svg", plot_poisoning(curves(result, eps), f"ε {eps}"))


if __name__ == "__main__":
    typer.run(main)
