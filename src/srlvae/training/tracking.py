"""Curves and pictures of a training for TensorBoard, trackio or Weights & Biases, through accelerate's trackers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from srlvae.errors import InputError
from srlvae.events import Listener
from srlvae.images import to_levels

Tracker = Literal["tensorboard", "trackio", "wandb"]
# The folder in the output folder in which TensorBoard writes.
LOGS = "logs"


def tracked(name: Tracker | None, out: Path, listener: Listener) -> AbstractContextManager[Listener]:
    """A context with `listener`, which tells the tracker called `name`, too, if there is a name. At its end the run ends."""
    return Tracking(name, out, listener) if name else nullcontext(listener)


class Tracking(Listener):
    """Hands everything on to `listener`, and what is measured or shown of a training to a tracker as well.

    The tracker starts with the first number, once the output folder `out` is the run's. `out` also names the run.

    Raises InputError if the tracker is not installed.
    """

    wants_pictures = True

    def __init__(self, name: Tracker, out: Path, listener: Listener):
        self.name, self.out, self.listener = name, out, listener
        self.started: Any = None
        if find_spec(name) is None:
            raise InputError(f"--report-to {name} needs a package that is not installed; run: pip install {name}")

    def says(self, text: str) -> None:
        """As the listener."""
        self.listener.says(text)

    def at(self, bar: str, number: int, total: int | None = None, note: str = "") -> None:
        """As the listener."""
        self.listener.at(bar, number, total, note)

    def left_out(self, file: str, reason: str, whole: bool = True) -> None:
        """As the listener."""
        self.listener.left_out(file, reason, whole)

    def should_stop(self) -> bool:
        """As the listener."""
        return self.listener.should_stop()

    def measured(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to the curve of each value."""
        self._tracker().log(dict(values), step=step)

    def pictured(self, step: int, name: str, picture: Float[Tensor, "3 h w"]) -> None:
        """Add a picture in [0,1]. accelerate has no pictures for trackio."""
        # TensorBoard takes the colours first unless it is told otherwise.
        formats = {"dataformats": "NHWC"} if self.name == "tensorboard" else {}
        if hasattr(self._tracker(), "log_images"):
            self._tracker().log_images({name: to_levels(picture).permute(1, 2, 0)[None].cpu().numpy()}, step=step, **formats)

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the tracker's run."""
        if self.started:
            self.started.finish()

    def _tracker(self) -> Any:
        if self.started is None:
            from accelerate.tracking import LOGGER_TYPE_TO_CLASS

            kind: Any = LOGGER_TYPE_TO_CLASS[self.name]
            where = (str(self.out),) if kind.requires_logging_directory else ()
            self.started = kind(LOGS if where else self.out.resolve().name, *where)
            self.started.start()
        return self.started
