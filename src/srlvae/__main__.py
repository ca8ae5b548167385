"""The command line, started with `python -m srlvae`."""

from srlvae.cli import main

main()
