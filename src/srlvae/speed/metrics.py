"""Distances between sets of features, beside those of torch-fidelity and torchmetrics where they are installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from srlvae.metrics.frechet import frechet_distance
from srlvae.metrics.kernel import kernel_distance
from srlvae.speed.rounds import Work

# Features of so many images a set, of the width of Inception's last layer but one; a subset of KID is all of them.
IMAGES, WIDTH = 500, 2048
OTHERS = {"torch-fidelity": "torch_fidelity", "torchmetrics": "torchmetrics.image"}
Distance = Callable[[Tensor, Tensor], float]


def metric_works() -> tuple[list[Work], list[str]]:
    """The works, and a sentence for each package that is not installed."""
    x, y = features()
    distances: dict[str, dict[str, Distance]] = {
        "Fréchet distance": {"srlvae": frechet_distance},
        "KID": {"srlvae": kernel_distance},
    }
    skipped = []
    for package, module in OTHERS.items():
        try:
            imported = importlib.import_module(module)
        except ImportError:
            skipped.append(f"{package} is not installed, so metrics are not compared with it: pip install {package}")
            continue
        found = fidelity(imported) if package == "torch-fidelity" else torchmetrics(imported)
        for name, distance in zip(distances, found, strict=True):
            distances[name][package] = distance
    return [_work(name, ways, x, y) for name, ways in distances.items()], skipped


def _work(name: str, distances: dict[str, Distance], x: Tensor, y: Tensor) -> Work:
    ways: dict[str, Callable[[], object]] = {package: _call(of, x, y) for package, of in distances.items()}
    reference = list(ways)[-1] if len(ways) > 1 else ""
    return Work(f"{name}, {WIDTH} features", len(x), ways, reference)


def _call(distance: Distance, x: Tensor, y: Tensor) -> Callable[[], float]:
    return lambda: distance(x, y)


def features() -> tuple[Tensor, Tensor]:
    """Two sets of random features, correlated as those of networks are, `IMAGES WIDTH`."""
    draw = torch.Generator().manual_seed(0)
    mix = torch.randn(64, WIDTH, generator=draw) / 8
    common, own = torch.randn(2, IMAGES, 64, generator=draw), torch.randn(2, IMAGES, WIDTH, generator=draw)
    first, second = common @ mix + 0.1 * own
    return first, 1.1 * second + 0.1


def fidelity(package: Any) -> tuple[Distance, Distance]:
    """torch-fidelity's Fréchet distance and KID on features."""
    fid, kid = (importlib.import_module(f"{package.__name__}.metric_{name}") for name in ("fid", "kid"))

    def frechet(x: Tensor, y: Tensor) -> float:
        found = fid.fid_statistics_to_metric(*map(fid.fid_features_to_statistics, (x, y)), verbose=False)
        return float(found["frechet_inception_distance"])

    def kernel(x: Tensor, y: Tensor) -> float:
        settings = {"kid_subsets": 1, "kid_subset_size": len(x), "kid_kernel": "poly", "kid_kernel_poly_degree": 3}
        settings |= {"kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1, "rng_seed": 0, "verbose": False}
        return float(kid.kid_features_to_metric(x, y, **settings)["kernel_inception_distance_mean"])

    return frechet, kernel


def torchmetrics(package: Any) -> tuple[Distance, Distance]:
    """Torchmetrics' Fréchet distance and KID on features."""
    fid, kid = (importlib.import_module(f"{package.__name__}.{name}") for name in ("fid", "kid"))

    def frechet(x: Tensor, y: Tensor) -> float:
        sums = [(z.double().mean(0), z.double().T.cov()) for z in (x, y)]
        return float(fid._compute_fid(*sums[0], *sums[1]))

    return frechet, lambda x, y: float(kid.poly_mmd(x.double(), y.double()))
