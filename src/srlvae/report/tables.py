"""Rows of results → lines of a table, the same for the terminal, Markdown and HTML."""

from __future__ import annotations

Table = tuple[list[str], list[list[str]]]


def reconstruction_table(result: dict) -> Table:
    """Header and lines: one line an attack, ε and setting, each measure as `original → hardened`.

    In transfer and white-box lines the original's number is its own under the attack made on it.
    """
    networks = result["protocol"]["features"]
    measures = [("PSNR dB", "psnr", 2), ("SSIM", "ssim", 3), ("latent shift", "latent_shift", 3)]
    measures += [(f"{net} distance", f"{net}_distance", 3) for net in networks]
    measures += [(f"{net} Fréchet", f"{net}_frechet", 1) for net in networks]
    originals = {(r["attack"], r["eps"]): r for r in result["rows"] if r["vae"] == "original"}
    lines = []
    for row in result["rows"]:
        if row["vae"] == "hardened":
            before = originals[row["attack"], row["eps"]]
            cells = [f"{before[key]:.{digits}f} → {row[key]:.{digits}f}" for _, key, digits in measures]
            attack = "clean" if row["attack"] == "none" else row["attack"]
            lines.append(
                [attack, f"{row['eps']}/255", "" if row["setting"] == "any" else row["setting"], str(row["n"]), *cells]
            )
    return ["attack", "ε", "setting", "n", *(label for label, _, _ in measures)], lines


def markdown(table: Table) -> str:
    header, lines = table
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, ["---"] * len(header), *lines])
