"""The scan: what it scores, how it is calibrated, and that it goes on where it stopped."""

from __future__ import annotations

import csv

import pytest
import torch

from conftest import small_kl
from srlvae.errors import InputError
from srlvae.images import write_image
from srlvae.report.scan import write_scan_page
from srlvae.scan import TILE, calibrate, disagreement, scan, score_image, write_verdicts
from srlvae.vae import VAE


@pytest.fixture
def other() -> VAE:
    vae = small_kl()
    vae.model.encoder.conv_in.weight.mul_(1.2)
    return vae


@pytest.fixture
def folder(tmp_path):
    for i, side in enumerate((32, 33, 40)):
        picture = torch.rand(3, side, 36, generator=torch.Generator().manual_seed(i))
        write_image(tmp_path / "images" / "deep" / f"{i}.png", picture)
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    return tmp_path / "images"


def test_equal_encoders_agree_and_others_do_not(vae, other, x):
    assert disagreement(vae, small_kl(), x).tolist() == [0, 0]
    assert (disagreement(vae, other, x) > 0.01).all()


def test_the_score_of_an_image_is_the_formula(vae, other, x):
    before, after = vae.mean(x), other.mean(x)
    wanted = [(b - a).square().mean().sqrt() for b, a in zip(before, after, strict=True)]
    torch.testing.assert_close(disagreement(vae, other, x), torch.stack(wanted))


def test_a_large_image_is_scored_in_tiles(vae, other):
    x = torch.rand(3, 32, TILE + 64, generator=torch.Generator().manual_seed(0))
    left, right = (disagreement(vae, other, part[None]).item() for part in (x[..., :TILE], x[..., TILE:]))
    assert score_image(vae, other, x) == pytest.approx((left * TILE + right * 64) / (TILE + 64))


def test_every_file_is_listed_once_and_a_second_run_scores_nothing(vae, other, folder, tmp_path, monkeypatch):
    scores = scan(vae, other, folder, tmp_path / "out")
    assert {score.file for score in scores} == {"broken.png", "deep/0.png", "deep/1.png", "deep/2.png"}
    assert scores == sorted(scores, key=lambda score: -score.value) and "not a readable image" in scores[-1].error
    monkeypatch.setattr("srlvae.scan.score_image", lambda *_: pytest.fail("scored again"))
    assert scan(vae, other, folder, tmp_path / "out") == scores


def test_half_a_line_is_written_again(vae, other, folder, tmp_path):
    scores = scan(vae, other, folder, tmp_path / "out")
    table = tmp_path / "out" / "scores-0.csv"
    table.write_text(table.read_text(encoding="utf-8")[:-12], encoding="utf-8")
    assert scan(vae, other, folder, tmp_path / "out") == scores


def test_scores_of_other_encoders_are_refused(vae, other, folder, tmp_path):
    scan(vae, other, folder, tmp_path / "out")
    with pytest.raises(InputError, match="other encoders"):
        scan(vae, vae, folder, tmp_path / "out")


def test_a_threshold_keeps_its_rate_on_new_clean_images():
    draw = torch.Generator().manual_seed(0)
    rates = []
    for _ in range(200):
        threshold = calibrate(torch.randn(200, generator=draw).tolist(), 0.05)
        rates.append((torch.randn(500, generator=draw) > threshold).float().mean().item())
    assert sum(rates) / len(rates) == pytest.approx(0.05, abs=0.005)


def test_too_few_clean_images_for_a_rate_are_refused():
    with pytest.raises(InputError, match="give 99 or more"):
        calibrate([0.1] * 98, 0.01)
    assert calibrate([0.1] * 98 + [0.5], 0.01) == 0.5


def test_verdicts_and_page_follow_from_the_threshold(vae, other, folder, tmp_path):
    scores = scan(vae, other, folder, tmp_path / "out")
    threshold = (scores[0].value + scores[1].value) / 2
    with write_verdicts(tmp_path / "out", scores, threshold).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["suspicious"] for row in rows] == ["yes", "no", "no", ""] and rows[0]["file"] == scores[0].file
    text = write_scan_page(tmp_path / "out", folder, scores, threshold, "some", 0.01).read_text(encoding="utf-8")
    assert "1 of 3 images are suspicious" in text and text.count("data:image/jpeg") == 3 and "1 files could not" in text
