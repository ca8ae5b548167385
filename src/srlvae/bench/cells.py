"""What is done to the photographs in one cell of a benchmark's table, and what it is called."""

from __future__ import annotations

from dataclasses import dataclass, replace

from srlvae.attacks import ATTACKS
from srlvae.attacks.table import NOISES
from srlvae.bench.rows import VAE_OF, Access, Condition, access_of
from srlvae.config import budget
from srlvae.words import counted

# Noise that is uniform in the ball. An attack should do more damage than noise of the same budget.
UNIFORM_NOISE = "uniform-noise"
# What a defence is called that is a purifier before the hardened VAE: this and the purifier's name.
BEFORE_HARDENED = "hardened+"
# What of a perturbation is left, by its name in cells.
PARTS = {
    "contrast": "contrast part alone",
    "rest": "without its contrast part",
    "signs": "random signs of its root mean square",
}
# The further models that an attack is made on, by their names in cells.
MADE_ON = {"both": "on both VAEs", "twin": "on a twin"}


@dataclass(frozen=True)
class Cell:
    """What is done to the photographs in one cell of a benchmark's table.

    - attack: the name of an attack, `none` for clean photographs, or the name of a noise, such as `uniform-noise`.
    - eps: the budget ε of the attack, in [0,1] units.
    - made_on: the VAE that the attack is made on, `original` or `hardened`; `both` for the sum of its objective on these two;
      `twin` for a VAE that was hardened with another seed; blank for clean photographs and for noise.
    - preset: that of the attack, if it is not the default.
    - part: which of PARTS is left of the perturbation, if not all of it.
    - through: the purifier that the attack goes through; see `bench.attacked`.
    - steps, restarts: in place of the protocol's and the preset's, in a sweep.
    """

    attack: str
    eps: float
    made_on: str
    preset: str = ""
    part: str = ""
    through: str = ""
    steps: int = 0
    restarts: int = 0

    @property
    def chosen(self) -> str:
        """The attack with its preset, such as `square:zero`: what a protocol tells its attacks apart by."""
        return f"{self.attack}:{self.preset}" if self.preset else self.attack

    @property
    def name(self) -> str:
        """What rows call the attack: all that tells it apart but the budget and what its maker knew."""
        said = [MADE_ON.get(self.made_on, ""), PARTS.get(self.part, ""), f"through {self.through}" if self.through else ""]
        said += [counted(self.steps, "step") if self.steps else "", counted(self.restarts, "start") if self.restarts else ""]
        return ", ".join([self.chosen, *filter(None, said)])

    @property
    def transferred(self) -> Cell | None:
        """The same attack made on the original VAE, of one that is made on the hardened VAE."""
        return replace(self, made_on="original") if self.made_on == "hardened" else None

    def condition(self) -> Condition:
        """The part of a row's condition that this cell decides: the attack and its budget, written `15/255`.

        A budget that is no bound on each pixel adds its `norm`, such as `rms`. What is done otherwise than by the attack as it
        is chosen adds which one it is `of`, what it is `made_on` if that is neither VAE alone, and the `steps` of a sweep.
        """
        norm = ATTACKS[self.attack].default.ball.norm if self.attack in ATTACKS else "linf"
        about: Condition = {"attack": self.name, "eps": budget(self.eps), **({} if norm == "linf" else {"norm": norm})}
        about |= {"of": self.chosen} if self.name != self.chosen else {}
        about |= {"made_on": self.made_on} if self.made_on in MADE_ON else {}
        return about | ({"steps": self.steps, "restarts": max(1, self.restarts)} if self.steps else {})

    def access(self, defence: str) -> Access:
        """What the maker of the images knew of the defence; see `access_of`.

        An attack through a purifier knows it, and an attack on both VAEs knows each of them.
        """
        if self.through:
            return "white-box" if defence in (self.through, BEFORE_HARDENED + self.through) else "transfer"
        if self.made_on == "both":
            return "white-box" if defence in VAE_OF else "transfer"
        return access_of(self.made_on, defence)

    def __str__(self) -> str:
        made = f" made on the {self.made_on} VAE" if self.made_on in VAE_OF.values() else ""
        return "clean" if self.attack == "none" else f"{self.name} {budget(self.eps)}{made}"


CLEAN = Cell("none", 0.0, "")


def noise_cells(budgets: list[float]) -> list[Cell]:
    """A cell for each noise and each budget."""
    return [Cell(noise, eps, "") for eps in budgets for noise in NOISES]
