"""How fast things are, beside what others do or what was done before, in turns within one run."""

from srlvae.speed.run import PARTS, RESULT, SpeedSettings, speed

__all__ = ["PARTS", "RESULT", "SpeedSettings", "speed"]
