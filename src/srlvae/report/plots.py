"""Plots of rows, with intervals. Needs the extra `report`."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from srlvae.bench.rows import Row
from srlvae.files import write_atomically
from srlvae.report.rows import find_rows, grey_levels, rows_of

# A point of a curve: x, the value, and the ends of its interval.
Point = tuple[float, float | None, tuple[float | None, float | None]]

# Label, colour and line style of a curve, by defence and access. Colours (Okabe and Ito 2008) suit colour-blind readers, and
# line styles suit print. Lines of the original VAE are white-box, since attacks are made on it.
STYLES = {
    ("none", "white-box"): ("original", "#D55E00", "-"),
    ("hardened", "transfer"): ("hardened, transfer", "#009E73", "-"),
    ("hardened", "white-box"): ("hardened, white-box", "#0072B2", "--"),
}
RECONSTRUCTION_MEASURES = {"psnr": "PSNR of D(E(x′)) in dB", "shift": "shift of latents"}
PALETTE = ("#D55E00", "#009E73", "#0072B2", "#E69F00", "#56B4E9", "#CC79A7", "#999999", "#A06000")
# Line styles for more curves than there are colours.
DASHES = ("-", "--", ":")
# A colour that is legible on white and on black.
INK = "#808890"


def point(row: Row, measure: str, x: float | None = None) -> Point:
    """A row's measure as a point of a curve. It lies at `x`, by default the row's ε in 255ths."""
    found = row.measures[measure]
    return grey_levels(row) if x is None else x, found.value, (found.low, found.high)


def plot_reconstruction(result: dict, path: Path) -> None:
    """Draw the measures over ε to the PNG file `path`: a column for each attack, a row for each measure.

    Shaded bands are 95 % bootstrap intervals over images.
    """
    attacks, rows = result["protocol"]["attacks"], rows_of(result)
    figure, axes = grid(len(RECONSTRUCTION_MEASURES), len(attacks))
    for j, attack in enumerate(attacks):
        for i, (measure, label) in enumerate(RECONSTRUCTION_MEASURES.items()):
            for (defence, access), style in STYLES.items():
                own = find_rows(rows, attack="none", defence=defence)
                own += find_rows(rows, attack=attack, defence=defence, access=access)
                draw_line(axes[i][j], [point(row, measure) for row in own], style)
            if j == 0:
                axes[i][j].set_ylabel(label)
        axes[0][j].set_title(attack)
        axes[-1][j].set_xlabel("ε · 255")
    axes[0][0].legend(fontsize="small")
    write_atomically(path, lambda file: figure.savefig(file, dpi=120))


def plot_editing(lines: dict[str, list[list[list[tuple]]]], labels: Sequence[str], x: str = "ε · 255") -> str:
    """Measures of edits over ε, or over what `x` says, as SVG: a column for each attack, a row for each measure.

    - lines: for each attack, for each measure, for each of `STYLES`, the points of a curve.
    - labels: the names of the measures.
    """
    figure, axes = grid(len(labels), len(lines))
    for j, (attack, measures) in enumerate(lines.items()):
        for i, by_style in enumerate(measures):
            for points, style in zip(by_style, STYLES.values(), strict=True):
                draw_line(axes[i][j], points, style)
            axes[i][0].set_ylabel(labels[i])
        axes[0][j].set_title(attack)
        axes[-1][j].set_xlabel(x)
    axes[0][0].legend(fontsize="small", framealpha=0.3)
    return svg(figure, axes)


def plot_poisoning(curves: dict[str, dict[str, list[tuple]]], title: str) -> str:
    """The share called the target over the number of poisons, as SVG: a panel for each pair of concepts.

    - curves: for each pair, by the label of the defence and kind of poison, the points of a curve.
    - title: what the poisons are, for the axis.
    """
    rows = math.ceil(len(curves) / 3)
    columns = math.ceil(len(curves) / rows)
    # A single panel is wider, since the legend needs the space.
    figure, axes = grid(rows, columns, width=4.0 if columns > 1 else 8.0)
    most = max((n for lines in curves.values() for points in lines.values() for n, *_ in points), default=1)
    lengths = {label: len(points) for lines in curves.values() for label, points in lines.items()}
    # Longer curves come first, so that they have the same colours whatever single points there are.
    labels = sorted(lengths, key=lambda label: -lengths[label])
    for axis, (pair, lines) in zip(axes.flat, curves.items(), strict=False):
        for label, points in lines.items():
            style = (label, PALETTE[labels.index(label) % len(PALETTE)], "-" if "," not in label else "--")
            # Two points are no curve: nothing is known between no poison and the largest number of it.
            (draw_line if len(points) > 2 else draw_last_point)(axis, points, style)
        axis.set_title(pair)
        axis.set_xlabel(f"poisons, {title}")
        axis.set_xlim(-0.04 * most, 1.04 * most)
        axis.set_ylim(-0.03, 1.03)
        axis.tick_params(labelbottom=True)
    drawn = [axis.get_legend_handles_labels() for axis in axes.flat]
    legend = {label: handle for handles, labels in drawn for handle, label in zip(handles, labels, strict=True)}
    for axis in axes.flat[len(curves) :]:
        axis.remove()
    for row in axes:
        row[0].set_ylabel("share called the target")
    figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=len(legend), frameon=False)
    return svg(figure, axes)


def plot_hardening(curves: dict[str, dict[str, list[tuple]]]) -> str:
    """Measures over processor minutes, as SVG: a panel for each measure, with a curve for each run.

    `curves` has, for each measure, by the name of the run, points whose x is in seconds.
    """
    rows = math.ceil(len(curves) / 4)
    figure, axes = grid(rows, math.ceil(len(curves) / rows), width=3.4, share_y=False)
    for axis, (label, lines) in zip(axes.flat, curves.items(), strict=False):
        for number, (run, points) in enumerate(lines.items()):
            style = PALETTE[number % len(PALETTE)], DASHES[number // len(PALETTE) % len(DASHES)]
            draw_line(axis, [(seconds / 60, *rest) for seconds, *rest in points], (run, *style))
        axis.set_title(label)
        axis.set_xlabel("processor minutes")
    axes[0][0].legend(fontsize="small", framealpha=0.3)
    return svg(figure, axes)


def plot_costs(points: Sequence[tuple[str, float, float]], label: str) -> str:
    """What each defence gains over what it costs, as SVG.

    `points` has the name of each defence, the seconds that it adds for each image, and its gain, which `label` describes.
    """
    figure, axes = grid(1, 1, width=7.0)
    axis, least = axes[0][0], 1e-4
    for name, seconds, gain in points:
        colour = STYLES["hardened", "transfer"][1] if name == "hardened" else INK
        axis.scatter(max(seconds, least), gain, color=colour, zorder=3)
        axis.annotate(name, (max(seconds, least), gain), xytext=(6, 4), textcoords="offset points", fontsize=9, color=colour)
    axis.set_xscale("log")
    axis.set_xlim(least / 2, max([100, *(3 * seconds for _, seconds, _ in points)]))
    axis.set_xlabel(f"extra seconds per image (0 is drawn at {least:g})")
    axis.set_ylabel(label)
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.grid(alpha=0.3)
    return svg(figure, axes)


def _as_written(figure) -> None:
    """Take labels as they are: a name with dollars in it is no formula."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)


def grid(rows: int, columns: int, width: float = 4.0, share_x: bool = True, share_y: bool = True) -> tuple[Any, Any]:
    """A figure of panels, `width` inches wide each, and their axes. Panels share the scales of their columns and rows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, 3.2 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=share_x, sharey="row" if share_y else False)


def draw_line(axis, points: list[tuple], style: tuple[str, str, str]) -> None:
    """Draw a curve with its intervals on an axis. Points may be in any order.

    `style` is the curve's label, its colour and its line style.
    """
    if not points:
        return
    label, colour, line = style
    eps, values, intervals = zip(*sorted(points, key=lambda point: point[0]), strict=True)
    values = [math.nan if value is None else value for value in values]
    # Legends leave out names that begin with a low line.
    shown = f" {label}" if label.startswith("_") else label
    axis.plot(eps, values, line, color=colour, label=shown, marker="o", markersize=3)
    # Nothing is drawn where there is no interval.
    low, high = zip(*((math.nan if end is None else end for end in ends) for ends in intervals), strict=True)
    axis.fill_between(eps, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.grid(alpha=0.3)


def draw_last_point(axis, points: list[tuple], style: tuple[str, str, str]) -> None:
    """Draw only the point with the largest x, with its interval."""
    label, colour, _ = style
    x, value, (low, high) = max(points, key=lambda point: point[0])
    # By rounding, a bootstrap interval may end just short of its value.
    sides = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
    axis.errorbar([x], [value], sides, color=colour, label=label, marker="D", markersize=5, capsize=3, linestyle="none")


def svg(figure, axes) -> str:
    """The figure as text, without a background, in an ink that is legible on white and on black."""
    for axis in axes.flat:
        axis.set_facecolor("none")
        axis.tick_params(colors=INK)
        for text in (axis.title, axis.xaxis.label, axis.yaxis.label):
            text.set_color(INK)
        for spine in axis.spines.values():
            spine.set_color(INK)
    _as_written(figure)
    for legend in [*figure.legends, *(legend for axis in axes.flat if (legend := axis.get_legend()))]:
        for text in legend.get_texts():
            text.set_color(INK)
    file = io.StringIO()
    import matplotlib

    # Equal figures give equal text. By default, matplotlib draws random ids and writes the time.
    with matplotlib.rc_context({"svg.hashsalt": "srlvae"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
