"""What the tabs share that attack a picture: the request in the words of the page, the attack, and its controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from srlvae.app.models import Models
from srlvae.app.work import Watcher
from srlvae.attacks import ATTACKS
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.config import fraction
from srlvae.errors import InputError
from srlvae.images import Images, to_pil
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE

BUDGETS = ("2/255", "4/255", "8/255", "15/255", "16/255", "32/255")
ATTACK, BUDGET, STEPS, MOST_STEPS = "photoguard-encoder", "16/255", 40, 400
# All pictures have this name, since the seeds of attacks come from names: the same picture and settings give the same result.
NAME = "picture"


def offered(on_pipelines: bool) -> list[str]:
    """The attacks that ask for nothing but a picture: those on a VAE, and if wanted those on a pipeline."""
    simple = {name: attack for name, attack in ATTACKS.items() if not attack.default.wants}
    return [name for name, attack in simple.items() if attack.needs == "vae" or on_pipelines]


def asked(name: str | None, eps: str | None, steps: int | float) -> Request:
    """What is asked of an attack. Raises InputError for a budget or a name that is none."""
    budget = fraction(eps or "", "the budget")
    if budget == 0:
        raise InputError("the budget is 0, so nothing would be changed")
    return Request(name or "", eps=budget, steps=int(steps))


def attacked(listener: Watcher, request: Request, model: VAE | Pipeline, x: Images) -> tuple[Images, list[str]]:
    """Attack a batch of one. Returns it in whole grey levels, and what speaks against believing the attack."""
    attack = prepare(request, model)
    trace = attack.follow(listener)
    adversarial = attack.perturb(x, [NAME], trace)
    return adversarial, trace.doubts(1)[0]


def model_of(models: Models, request: Request, hardened: bool = False) -> VAE | Pipeline:
    """What an attack runs on: the original or the hardened VAE, in the pipeline if the attack needs one."""
    if request.attack.needs == "pipeline":
        return models.pipeline(hardened)
    return models.hardened if hardened else models.original


@dataclass(frozen=True)
class Controls:
    """The widgets that choose an attack."""

    name: Any
    eps: Any
    steps: Any

    def widgets(self) -> list[Any]:
        """In the order of the arguments of `asked`."""
        return [self.name, self.eps, self.steps]


def controls(gr: Any, on_pipelines: bool) -> Controls:
    """Add the widgets that choose an attack, on pipelines too if wanted, its budget and its steps."""
    name = gr.Dropdown(offered(on_pipelines), value=ATTACK, label="Attack")
    with gr.Row():
        eps = gr.Dropdown(list(BUDGETS), value=BUDGET, label="Budget ε", allow_custom_value=True, min_width=100)
        steps = gr.Slider(1, MOST_STEPS, value=STEPS, step=1, label="Steps", min_width=140)
    return Controls(name, eps, steps)


def shown(x: Images) -> Any:
    """A batch of one as the picture that a widget shows."""
    return to_pil(x[0].clamp(0, 1))


def said(doubts: list[str]) -> str:
    """What speaks against believing an attack, as a line of text; blank if nothing does."""
    return f"\n\n**Do not believe this attack:** {'; '.join(doubts)}." if doubts else ""
