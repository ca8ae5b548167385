"""Photographs that are set apart from training: scores are measured on them, and the variance is held at theirs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from srlvae.errors import InputError
from srlvae.harden.crops import name_skipped, skipped_as
from srlvae.harden.photographs import (
    MAX_UNREADABLE,
    FolderPhotographs,
    HubPhotographs,
    Photographs,
    StreamPhotographs,
    check_large,
)
from srlvae.harden.stream import Deal
from srlvae.images import LeftOut, to_tensor

# Photographs that can be told apart by what is in their files.
KNOWN = (FolderPhotographs, HubPhotographs, StreamPhotographs)


def set_apart(
    photographs: Photographs, count: int, size: int, seed: int, left_out: LeftOut | None = None
) -> tuple[Tensor, Photographs, Sequence[int] | range]:
    """Set apart the centres of `count` readable photographs, as `count 3 size size` in [0,1].

    Returns them, the photographs that are left, of which copies of those set apart cannot be read, and the indices of those
    that are left. At most a tenth of the photographs is set apart, but at least one. What cannot be used on the way is added to
    `left_out`.

    Raises InputError if too few photographs can be read.
    """
    if isinstance(photographs, StreamPhotographs):
        order: Sequence[int] | range = range(len(photographs))
    else:
        order = np.random.default_rng((seed, 3)).permutation(len(photographs)).tolist()
    found: list[Tensor] = []
    apart: set[str] = set()
    used, last_error = 0, "at least two are needed, as some are set apart"
    # At most a tenth of the photographs, at least one: few photographs are for training, too.
    wanted = max(1, min(count, len(order) // 10))
    while len(found) < wanted and used < len(order) and used - len(found) < MAX_UNREADABLE:
        try:
            image = photographs[order[used]]
            check_large(image.size, size)
            digest = photographs.digest(order[used]) if isinstance(photographs, KNOWN) else None
            if digest not in apart:
                found.append(to_tensor(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)))
            if digest:
                apart.add(digest)
        except InputError as error:
            last_error = str(error)
            name_skipped([skipped_as(photographs, order[used], error)], left_out or LeftOut())
        used += 1
        if isinstance(photographs, StreamPhotographs) and photographs.length:
            raise InputError(
                f"the stream has only {photographs.length} rows, too few to set {wanted} apart; give a lower --held-out"
            )
    if not found or used >= len(order):
        unseen = photographs.left_out.files if isinstance(photographs, FolderPhotographs) else []
        also = f"; {len(unseen)} more were left out, such as {unseen[0].file}: {unseen[0].reason}" if unseen else ""
        raise InputError(f"too few readable images: {len(found)} of {used} ({last_error}){also}")
    # Wherever they are, and as often: there may be copies, and a stream has no numbers that hold in another order.
    if isinstance(photographs, StreamPhotographs):
        _check_left(photographs, used, apart)
        return torch.stack(found), photographs.dealt(Deal(), frozenset(apart), {}), order
    if isinstance(photographs, FolderPhotographs | HubPhotographs):
        photographs = photographs.without(frozenset(apart))
    return torch.stack(found), photographs, order[used:]


def _check_left(photographs: StreamPhotographs, first: int, apart: set[str]) -> None:
    """Raise InputError if no row from `first` on is another than those set apart."""
    index = first
    while photographs.digest(index) in apart and not photographs.length:
        index += 1
    # Known as soon as a row of the second round was read.
    if photographs.length:
        raise InputError(f"nothing is left to train on: all {photographs.length} rows are set apart; give a lower --held-out")
