"""The commands of `srlvae bench`."""

from __future__ import annotations

import typer

from srlvae.cli.bench_all import bench_all
from srlvae.cli.bench_pipelines import bench_editing, bench_mimicry, bench_poisoning
from srlvae.cli.bench_speed import bench_speed
from srlvae.cli.bench_vaes import bench_hardening, bench_reconstruction

bench = typer.Typer(no_args_is_help=True, help="Measure an original VAE beside its hardened twin.")
bench.command("all")(bench_all)
bench.command("reconstruction")(bench_reconstruction)
bench.command("hardening")(bench_hardening)
bench.command("editing")(bench_editing)
bench.command("poisoning")(bench_poisoning)
bench.command("mimicry")(bench_mimicry)
bench.command("speed")(bench_speed)
