"""Writes the page of a benchmark from its result folder. Needs the extra `report`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from srlvae.bench.editing import RESULT as EDITING
from srlvae.bench.hardening import RESULT as HARDENING
from srlvae.bench.leaderboard import LEADERBOARD, check_board, read_leaderboard
from srlvae.bench.mimicry import RESULT as MIMICRY
from srlvae.bench.poisoning import RESULT as POISONING
from srlvae.bench.reconstruction import GRID, grid_attack
from srlvae.bench.reconstruction import RESULT as RECONSTRUCTION
from srlvae.errors import InputError
from srlvae.files import read_record, write_text
from srlvae.report.editing import editing_table, headline_measures, side_by_side, summary_table
from srlvae.report.editing_page import page_parts
from srlvae.report.encoders import reconstruction_table
from srlvae.report.hardening import cost_shares_table, curves, hardening_table
from srlvae.report.leaderboard import about_models, flags_of, leaderboard_tables
from srlvae.report.mimicry import mimicry_table
from srlvae.report.mimicry_page import mimicry_parts
from srlvae.report.plots import plot_hardening, plot_reconstruction
from srlvae.report.poisoning import poisoning_table
from srlvae.report.poisoning_page import poisoning_parts
from srlvae.report.render import inline, within, write_page
from srlvae.report.rows import Table, doubts_of
from srlvae.report.runs import load_runs, other_settings
from srlvae.report.tables import markdown
from srlvae.runs import claim
from srlvae.words import shortened

BROKEN = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
PAGE, TABLE, PLOT, CURVES, RECORD = "report.html", "table.md", "plot.png", "curves.svg", "report.json"


def write_report(folders: list[Path], out: Path | None = None) -> Path:
    """Write the page of a benchmark's result folder, and return its path.

    Several folders of the editing benchmark are compared on one page. The page is written to `out`, or to the first folder, and
    the tables are also written in Markdown beside the rows. In place of a folder there may be the file of a leaderboard; its
    page and tables lie beside it, under its name.

    Raises InputError for folders without rows, with other results than a benchmark of this version writes, or if `out` holds
    something else.
    """
    try:
        for folder in folders:
            _check_kind(folder, alone=len(folders) == 1)
        if out and out not in folders:
            claim(out, RECORD, {"made_by": "srlvae report"})
        if folders[0].is_file():
            page = out / PAGE if out else folders[0].with_suffix(".html")
            return write_leaderboard(folders[0], page, page.with_suffix(".md"))
        return _write(folders, (out or folders[0]) / PAGE)
    except InputError:
        raise
    except BROKEN as error:  # of a result that was written by another program, or by hand
        where = " or ".join(map(str, folders))
        reason = f"{type(error).__name__}: {shortened(str(error))}"
        raise InputError(f"{where} has no result of a benchmark of this version ({reason}); run the benchmark again") from error


def _check_kind(folder: Path, alone: bool) -> None:
    """Raise InputError for a folder without a result, and for results that are not compared on one page."""
    if folder.is_file():
        if not alone:
            raise InputError(f"{folder} is a file; give one leaderboard alone, or folders of results")
        check_board(folder)
        read_leaderboard(folder)
        return
    found = next((name for name in (EDITING, *WRITERS) if (folder / name).is_file()), None)
    if found is None:
        raise InputError(f"{folder} has no result of a benchmark; run: srlvae bench … --out {folder}")
    if found != EDITING and not alone:
        raise InputError(f"only results of the editing benchmark are compared on one page; {folder} has {found}: give it alone")


def _write(folders: list[Path], page: Path) -> Path:
    first = folders[0]
    if (first / EDITING).is_file():
        return write_editing(folders, page)
    return next(write(first, page) for name, write in WRITERS.items() if (first / name).is_file())


def write_editing(folders: list[Path], page: Path) -> Path:
    """Write the page of one or several editing runs, and the Markdown tables of each."""
    runs = load_runs(folders)
    for run in runs:
        by_measure = [(m.title, editing_table(run.result, m)) for m in headline_measures(run.result).values()]
        _write_tables(run.folder / TABLE, [("Edits", summary_table(run.result)), *by_measure])
    compared = side_by_side(runs) if len(runs) > 1 else None
    return write_page(page, "editing", runs=[page_parts(run) for run in runs], compared=compared, differ=other_settings(runs))


def write_poisoning(folder: Path, page: Path) -> Path:
    """Write the page and the Markdown table of a poisoning run."""
    result = read_record(folder / POISONING)
    _write_tables(folder / TABLE, [("Poisoning", poisoning_table(result))])
    return write_page(page, "poisoning", **poisoning_parts(folder, result))


def write_mimicry(folder: Path, page: Path) -> Path:
    """Write the page and the Markdown table of a mimicry run."""
    result = read_record(folder / MIMICRY)
    _write_tables(folder / TABLE, [("Mimicry", mimicry_table(result))])
    return write_page(page, "mimicry", **mimicry_parts(folder, result))


def write_reconstruction(folder: Path, page: Path) -> Path:
    """Write the page, the plot and the Markdown table of a reconstruction run."""
    result = read_record(folder / RECONSTRUCTION)
    plot_reconstruction(result, folder / PLOT)
    header, lines = reconstruction_table(result)
    _write_tables(folder / TABLE, [("Reconstructions", (header, lines))])
    return write_page(
        page,
        "reconstruction",
        n=len(result["images"]),
        attacked=min(result["protocol"]["images"], len(result["images"])),
        steps=result["protocol"]["steps"],
        doubts=doubts_of(result),
        header=header,
        lines=lines,
        # Written at the end of a run, and taken away at its beginning.
        grid=inline(within(folder / GRID, folder).read_bytes()) if (folder / GRID).exists() else None,
        shown=grid_attack(result["protocol"]["attacks"]),
        plot=inline((folder / PLOT).read_bytes()),
        settings=_settings(result),
    )


def write_leaderboard(board: Path, page: Path, table: Path) -> Path:
    """Write the page of a leaderboard, and its tables in Markdown."""
    rows = read_leaderboard(board)
    tables, models = leaderboard_tables(rows), about_models(rows)
    flags = flags_of(rows)
    _write_tables(table, [("Models", models), *tables], [f"\\* {flag}" for flag in flags])
    return write_page(page, "leaderboard", models=models, tables=tables, flags=flags)


def write_hardening(folder: Path, page: Path) -> Path:
    """Write the page, the curves and the Markdown tables of a hardening run."""
    result = read_record(folder / HARDENING)
    ends, shares = hardening_table(result), cost_shares_table(result)
    _write_tables(folder / TABLE, [("Ends of runs", ends), *([("Shares of the cost", shares)] if shares else [])])
    picture = plot_hardening(curves(result))
    write_text(folder / CURVES, picture)
    return write_page(
        page,
        "hardening",
        n=len(result["images"]),
        steps=result["protocol"]["steps"],
        eps=", ".join(result["protocol"]["eps"]),
        curves=picture,
        doubts=doubts_of(result),
        ends=ends,
        shares=shares,
        settings=_settings(result),
    )


def _settings(result: dict) -> str:
    return json.dumps({key: value for key, value in result.items() if key not in ("rows", "images")}, indent=2)


def _write_tables(path: Path, tables: Sequence[tuple[str, Table]], remarks: Sequence[str] = ()) -> None:
    """Write tables in Markdown, each below its title, and remarks below them all."""
    write_text(path, "\n".join([*(f"## {title}\n{markdown(table)}" for title, table in tables), *remarks]))


# How each result is written, by the name of its file. Those of edits may be several on one page.
WRITERS = {
    POISONING: write_poisoning,
    MIMICRY: write_mimicry,
    RECONSTRUCTION: write_reconstruction,
    HARDENING: write_hardening,
    LEADERBOARD: lambda folder, page: write_leaderboard(folder / LEADERBOARD, page, folder / TABLE),
}
