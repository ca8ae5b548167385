"""The edits of photographs, whether clean, attacked or purified. A cache keeps them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from srlvae.attacks.through import Through
from srlvae.bench.attacked import Attacker, ImageSet, photograph_set
from srlvae.bench.cache import Cache, key_of
from srlvae.bench.cells import BEFORE_HARDENED, Cell
from srlvae.bench.protocol import ChosenPurifier, EditingProtocol
from srlvae.bench.purifiers import Purifiers
from srlvae.bench.rows import VAE_OF, vae_of
from srlvae.images import Images
from srlvae.models.pipeline import Pipeline
from srlvae.models.vae import VAE
from srlvae.rng import named_generator


class Editor:
    """Makes the attacks, purifications and edits of a protocol with a pipeline around the original and around the hardened VAE.

    - x: the photographs `n 3 h w`, with values that are multiples of 1/255.

    - twin: a VAE that was hardened with another seed, on which attacks are made.

    Its attributes include `pipelines` and `vaes` (the fingerprints) by `original`, `hardened` and `twin`, the `prompts` of all
    edits, and `photograph_of`, the number of the photograph that each edit is made from.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        hardened: VAE,
        x: Images,
        protocol: EditingProtocol,
        cache: Cache,
        twin: VAE | None = None,
    ):
        self.protocol, self.cache = protocol, cache
        pipeline = pipeline.without_safety_checker()
        self.pipelines = {"original": pipeline, "hardened": pipeline.with_vae(hardened)}
        self.pipelines |= {"twin": pipeline.with_vae(twin)} if twin else {}
        self.networks = pipeline.fingerprint()
        self.vaes = {name: pipe.vae.fingerprint() for name, pipe in self.pipelines.items()}
        self.purifiers = Purifiers(pipeline)
        steps = {chosen.label: chosen.steps or None for chosen in protocol.attacks}

        def through(name: str) -> Through:
            return self.purifiers.through(self._purifier(name))

        self.attacker = Attacker(self.pipelines, steps.__getitem__, protocol.seed, cache, through)
        self.clean = photograph_set(x)
        each, prompts = protocol.prompts_an_image, protocol.prompts
        self.photograph_of = [i for i in range(len(x)) for _ in range(each)]
        self.prompts = [prompts[k % len(prompts)] for k in range(len(self.photograph_of))]

    def attacked(self, cell: Cell) -> ImageSet:
        """The photographs after what the cell does to them."""
        return self.attacker.images(cell, self.clean)

    def edits(self, given: ImageSet, vae: str = "original", seed: int | None = None) -> ImageSet:
        """The edits of all photographs with all of their prompts, by the pipeline around the VAE of that name.

        The noise of an edit depends on the seed, the clean photograph and the prompt, and not on what was done to the
        photograph.
        """
        protocol, pipeline = self.protocol, self.pipelines[vae]
        settings: dict[str, Any] = {"strength": protocol.strength, "steps": protocol.steps, "guidance": protocol.guidance}
        seed = protocol.seed if seed is None else seed
        made_by = {**settings, "seed": seed, "vae": self.vaes[vae], "networks": self.networks, "sampling": pipeline.settings()}
        pairs = zip(self.photograph_of, self.prompts, strict=True)
        keys = [key_of("edited", **made_by, prompt=prompt, source=given.keys[i]) for i, prompt in pairs]

        def make(part: list[int]) -> tuple[Tensor, list[Any]]:
            x, prompts = given.images[[self.photograph_of[k] for k in part]], [self.prompts[k] for k in part]
            names = [self.clean.keys[self.photograph_of[k]] + self.prompts[k] for k in part]
            draws = [named_generator(seed, name) for name in names]
            return pipeline.edit(x.to(pipeline.device), prompts, draws, **settings), [None] * len(part)

        return ImageSet(keys, self.cache.images(keys, make))

    def edits_under(self, defence: str, given: ImageSet) -> ImageSet:
        """The edits of an image set under a defence.

        It is `none`, `hardened`, or the name of a purifier before the original VAE; BEFORE_HARDENED and the name is that
        purifier before the hardened one.
        """
        if defence in VAE_OF:
            return self.edits(given, VAE_OF[defence])
        chosen = self._purifier(defence.removeprefix(BEFORE_HARDENED))
        purified = self.purifiers.images(chosen, given, self.clean.keys, self.protocol.seed, self.cache)
        return self.edits(purified, vae_of(defence))

    def _purifier(self, name: str) -> ChosenPurifier:
        return next(chosen for chosen in self.protocol.purifiers if chosen.name == name)
