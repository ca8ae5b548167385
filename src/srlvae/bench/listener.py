"""What a benchmark tells whoever watches it."""

from __future__ import annotations


class BenchListener:
    """Is told of what a benchmark does. All methods do nothing; override those that matter."""

    def row_finished(self, row: str, number: int, total: int) -> None:
        """Row `number` of `total`, from 1 on, was measured or found in the cache. row: its condition and defence in words."""

    def images_made(self, count: int) -> None:
        """So many images were made that were not in the cache."""

    def stepped(self, step: int, loss: float) -> None:
        """A step of a fine-tuning was done, counted from 1."""
