"""What the editing benchmark runs: every cell of a protocol, and the defences that each is tried under."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from dataclasses import replace

from srlvae.attacks import ATTACKS
from srlvae.bench.cells import BEFORE_HARDENED, CLEAN, PARTS, Cell, noise_cells
from srlvae.bench.protocol import ChosenAttack, EditingProtocol
from srlvae.bench.rows import VAE_OF
from srlvae.models.vae import VAE


def attackable(protocol: EditingProtocol, vae: VAE) -> tuple[EditingProtocol, dict[str, str]]:
    """The protocol without attacks that aim at a posterior, if the VAE has none, and the reason for each that is left out.

    A warning names them.
    """
    if vae.has_posterior:
        return protocol, {}
    left_out = [chosen.label for chosen in protocol.attacks if ATTACKS[chosen.name].posterior]
    if left_out:
        warnings.warn(f"these attacks are left out because this VAE has no posterior: {', '.join(left_out)}", stacklevel=2)
    kept = tuple(chosen for chosen in protocol.attacks if chosen.label not in left_out)
    return dataclasses.replace(protocol, attacks=kept), dict.fromkeys(left_out, "this VAE has no posterior to attack")


def conditions(protocol: EditingProtocol) -> list[tuple[Cell, str]]:
    """Every cell with every defence that it is tried under, in the order in which they are run."""
    attacks = [(Cell(chosen.name, eps, "original", chosen.preset), chosen) for chosen in protocol.attacks for eps in chosen.eps]
    budgets = sorted({cell.eps for cell, _ in attacks})
    found = [(cell, vae) for cell in [CLEAN, *noise_cells(budgets)] for vae in VAE_OF]
    for cell, chosen in attacks:
        found += [(cell, "none"), (cell, "hardened")]
        found += [(replace(cell, made_on="hardened"), "hardened")] if chosen.white_box else []
        found += [(other, vae) for other in variants(cell, chosen) for vae in VAE_OF if is_measured(other, vae)]
    cells = [CLEAN, *(cell for cell, _ in attacks)]
    for p in protocol.purifiers:
        defences = [p.name, *([BEFORE_HARDENED + p.name] if p.hardened else [])]
        found += [(cell, defence) for cell in cells if p.takes(cell.attack, cell.eps) for defence in defences]
        through = [cell for cell, chosen in attacks if p.name in chosen.through and p.takes(cell.attack, cell.eps)]
        for cell, defence in ((cell, defence) for cell in through for defence in defences):
            on = "hardened" if defence != p.name else "original"
            found.append((replace(cell, made_on=on, through=p.name), defence))
    return found


def variants(cell: Cell, chosen: ChosenAttack) -> Iterator[Cell]:
    """What else is done by an attack that is chosen, besides the attack itself."""
    for on in chosen.also_on:
        yield replace(cell, made_on=on)
    for part in PARTS if chosen.parts else ():
        yield replace(cell, part=part)
    for on in ("original", *(("hardened",) if chosen.white_box else ())):
        for steps in chosen.sweep:
            yield replace(cell, made_on=on, steps=steps)
        for starts in chosen.starts:
            yield replace(cell, made_on=on, restarts=starts)


def is_measured(cell: Cell, defence: str) -> bool:
    """Whether a cell is measured under a VAE: what is made on the hardened one says nothing about the original."""
    return cell.made_on != "hardened" or defence == "hardened"
