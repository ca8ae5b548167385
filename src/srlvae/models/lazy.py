"""diffusers, loaded when something of it is asked for: its import takes longer than that of PyTorch."""

from __future__ import annotations

import importlib
from typing import Any


class _Library:
    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("diffusers"), name)


# It exports lazily, too, which type checkers do not follow.
library: Any = _Library()
