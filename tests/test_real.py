"""Real pre-trained autoencoders on real photographs; skipped where they are not on the disk."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from conftest import SHARED
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.bench.cache import key_of_image
from srlvae.bench.editing import editing
from srlvae.bench.load_protocol import editing_protocol
from srlvae.bench.photographs import load_photographs
from srlvae.bench.rows import read_rows
from srlvae.harden import harden, preset
from srlvae.images import find_images, read_square
from srlvae.metrics.pairwise import psnr, squared_shift
from srlvae.models.encoders import apply_encoder, read_encoder
from srlvae.models.load import load_pipeline
from srlvae.models.vae import load_vae
from srlvae.precision import computing
from srlvae.report.rows import find_row, find_rows, measured_value
from srlvae.scan import calibrate_scan
from srlvae.scan.evading import Evading
from srlvae.scan.evidence import evidence
from srlvae.scan.likeness import likeness

RESULTS = Path(__file__).parents[1] / "results"
TEST = SHARED / "data" / "caltech101-128" / "test"
CHANNELS = {"taesd": 4, "taef1": 16}
# Mean PSNR in dB on every eighth test photograph, measured with plain diffusers.
REFERENCE = {"taesd": 21.74, "taef1": 24.33}

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no {SHARED} (set SRLVAE_SHARED to the folder of real data)")


def test_the_bundled_vae_reconstructs_a_gradient():
    x = torch.linspace(0, 1, 128).expand(1, 3, 128, 128).contiguous()
    assert psnr(load_vae("tiny").reconstruct(x), x).item() > 30


@needs_shared
@pytest.mark.parametrize("name", CHANNELS)
def test_one_step_on_real_photographs_moves_the_encoder_only(name, tmp_path):
    original = load_vae(SHARED / "models" / name)
    assert (original.channels, original.factor) == (CHANNELS[name], 8)
    config = preset("cpu", steps=1, batch_size=2, held_out=2, resolution=64)
    hardened = harden(original, SHARED / "data" / "caltech101-128" / "train", tmp_path / "out", config)
    pairs = zip(original.model.named_parameters(), hardened.model.parameters(), strict=True)
    changed = {key.split(".")[0] for (key, before), after in pairs if not torch.equal(before, after)}
    assert changed == {"encoder"}


@needs_shared
@pytest.mark.parametrize("base", CHANNELS)
def test_the_published_encoder_is_the_one_that_ships_on_its_base(base):
    name = f"{base}-srl"
    hardened = apply_encoder(name, load_vae(SHARED / "models" / base)).fingerprint()
    published = json.loads((RESULTS / f"reconstruction-{name}.json").read_text(encoding="utf-8"))
    assert hardened == published["hardened"] == read_encoder(name).facts["hardened"]


def test_the_published_tiny_srl_is_the_one_that_ships():
    published = json.loads((RESULTS / "reconstruction-tiny-srl.json").read_text(encoding="utf-8"))
    assert load_vae("tiny-srl").fingerprint() == published["hardened"]


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("name", REFERENCE)
def test_reconstructions_score_what_plain_diffusers_scores(name):
    vae = load_vae(SHARED / "models" / name)
    paths = find_images(TEST)[::8]
    x = torch.stack([read_square(path, 128) for path in paths])
    with torch.no_grad():
        y = torch.cat([vae.reconstruct(part) for part in x.split(8)])
    # The reference is given to two digits.
    assert psnr(y, x).mean().item() == pytest.approx(REFERENCE[name], abs=0.01)


def measured_on_what_ships(name: str) -> None:
    """Skips where a result was measured on another `tiny-srl` than the one in the package."""
    measured = json.loads((RESULTS / name).read_text(encoding="utf-8"))["hardened"]
    if measured != load_vae("tiny-srl").fingerprint():
        pytest.skip(f"{name} was measured on an earlier tiny-srl, {measured[:12]}…")


@needs_shared
@pytest.mark.slow
def test_the_clean_row_of_the_editing_results_comes_out_again(tmp_path):
    measured_on_what_ships("editing-tiny-sd.json")
    protocol = dataclasses.replace(editing_protocol("full"), attacks=(), purifiers=())
    found = editing(load_pipeline("tiny-sd"), load_vae("tiny-srl"), TEST, tmp_path, protocol)
    published = json.loads((RESULTS / "editing-tiny-sd.json").read_text(encoding="utf-8"))
    row, wanted = (find_row(read_rows(result["rows"]), attack="none", defence="hardened") for result in (found, published))
    assert row and wanted
    # Processors round otherwise, and 25 steps of denoising carry that on.
    assert measured_value(row, "psnr") == pytest.approx(measured_value(wanted, "psnr"), abs=0.05)
    assert measured_value(row, "frechet") == pytest.approx(measured_value(wanted, "frechet"), rel=0.02)


@needs_shared
@pytest.mark.slow
def test_what_is_normal_in_the_scan_results_comes_out_again():
    measured_on_what_ships("scan-tiny.json")
    published = json.loads((RESULTS / "scan-tiny.json").read_text(encoding="utf-8"))
    n = published["n"]
    x = load_photographs(TEST, n + published["known"] + published["clean"], 128, published["seed"])[0]
    found = evidence(load_vae("tiny"), load_vae("tiny-srl"), x[n : n + 16])
    torch.testing.assert_close(found, torch.tensor(published["normal"][:16]), rtol=1e-3, atol=1e-4)


@needs_shared
@pytest.mark.slow
def test_a_row_of_an_attacker_who_knows_the_scan_comes_out_again():
    measured_on_what_ships("scan-knows-tiny.json")
    published = json.loads((RESULTS / "scan-knows-tiny.json").read_text(encoding="utf-8"))
    n, known, precision = published["n"], published["known"], published["precision"]
    x, normal = load_photographs(TEST, n + known, 128, published["seed"])[0].split([n, known])
    vae, hardened = load_vae("tiny"), load_vae("tiny-srl")
    calibration = calibrate_scan(torch.tensor(published["normal"]), likeness(normal), published["rate"])
    rows = find_rows(read_rows(published["rows"]), attack="photoguard-encoder", eps="8/255", weight=1.0)
    request = Request("photoguard-encoder", eps=8 / 255, steps=published["steps"], precision=precision)
    attack = dataclasses.replace(prepare(request, vae), knows=Evading(vae, hardened, calibration, 1.0))
    attacked = torch.cat([attack.perturb(part, [key_of_image(image) for image in part]) for part in x.split(8)])
    with computing(precision, vae.device):
        scores = calibration.scores(
            torch.cat([evidence(vae, hardened, part) for part in attacked.split(8)]), likeness(attacked)
        )
    shift = torch.cat(
        [squared_shift(vae.mean(y), vae.mean(z)) for y, z in zip(attacked.split(8), x.split(8), strict=True)]
    ).sqrt()
    # Processors round otherwise, and twenty steps carry that on.
    assert scores.mean().item() == pytest.approx(measured_value(rows[0], "score"), abs=0.1)
    assert shift.mean().item() == pytest.approx(measured_value(rows[1], "shift"), rel=0.02)
