"""The scan: what it scores, how it is calibrated, and that it goes on where it stopped."""

from __future__ import annotations

import copy
import csv
import dataclasses
import functools
import json
import math
import multiprocessing
import os
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch

from conftest import small_kl
from heard import Heard
from srlvae.attacks.engine.pgd import slope
from srlvae.attacks.papers.photoguard import photoguard_encoder_objective
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from srlvae.errors import InputError
from srlvae.images import write_image
from srlvae.models.vae import VAE, load_vae
from srlvae.provenance import code_digest
from srlvae.report.scan import write_scan_page
from srlvae.scan import Calibration, Encoders, Normal, Score, calibrate, count, scan, score, write_summary, write_verdicts
from srlvae.scan.calibration import calibrate_looks
from srlvae.scan.evading import Evading
from srlvae.scan.evidence import EVIDENCE, PATCH, SIGNS, TILE, columns, evidence, evidence_of_image, scrambled
from srlvae.scan.familiar import Familiar
from srlvae.scan.folder import COLUMNS, FileEvidence
from srlvae.scan.likeness import TRAITS
from srlvae.scan.look import Look
from srlvae.scan.surroundings import Surroundings
from twins import hardened_twin

REST = len(EVIDENCE) - SIGNS + 1
NORMAL = Normal(torch.zeros(REST, SIGNS).double(), torch.ones(SIGNS).double())
# Everything is like the clean images.
ANYTHING = Familiar(torch.zeros(9, len(TRAITS)), torch.ones(len(TRAITS)), math.inf)
# Mean 0, variance 1 everywhere.
AS_IT_IS = Surroundings(torch.zeros(40, len(TRAITS)), torch.tensor([-1.0, 1.0]).repeat(20))


def calibration(threshold: float = 1.0, rate: float = 0.01) -> Calibration:
    return Calibration(NORMAL, AS_IT_IS, ANYTHING, threshold, rate, images=99)


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


def test_evidence_is_the_formula(vae, other):
    x = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    y = other.decode(other.mean(x)).clamp(0, 1)
    for i, found in enumerate(evidence(vae, other, x)):
        before, after, before_y, after_y = (net.mean(image[i : i + 1])[0] for image in (x, y) for net in (vae, other))
        u, v = before - before_y, after - after_y
        mixed = (y + scrambled(x - y, vae.factor)).clamp(0, 1)
        others = [net.mean(mixed[i : i + 1])[0] - seen_y for net, seen_y in ((vae, before_y), (other, after_y))]
        wanted = [*signs(u, v), (before_y - after_y).square().mean().sqrt().log(), *signs(*others)]
        torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-3, atol=1e-3)  # encodings one by one and together


def signs(u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    corners = [(r, c) for r in range(0, u.shape[1], PATCH) for c in range(0, u.shape[2], PATCH)]
    patches = [[z[:, r : r + PATCH, c : c + PATCH].flatten() for z in (u, v)] for r, c in corners]
    assert len(patches) > 1
    cosines = torch.stack([p @ q / (p.norm() * q.norm()) for p, q in patches])
    change = torch.stack([place.square().mean().sqrt().log() for place in (u - v).flatten(1).T]).mean()
    return -cosines.median(), change


def test_scrambling_keeps_the_pixels_of_every_square():
    x = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    y = scrambled(x, 4)
    assert not torch.equal(x, y)
    for r, c in ((0, 0), (4, 8)):
        squares = [z[..., r : r + 4, c : c + 4].flatten(2) for z in (x, y)]
        assert torch.equal(*(square.sort(2).values for square in squares))


def test_equal_encoders_do_not_part(vae, x):
    found = evidence(vae, small_kl(), x)
    assert found.isfinite().all() and found[:, 0].tolist() == pytest.approx([-1] * len(x), abs=1e-4)


def test_a_perturbation_that_one_encoder_alone_sees_makes_them_part(vae, x):
    class Moved(VAE):
        def mean(self, x):
            # Of the given images alone: what the VAE makes of them is free of it.
            z, pattern = super().mean(x), torch.randn(4, 1, 1, generator=torch.Generator().manual_seed(0))
            return z + pattern if torch.equal(x, given) else z

    given = x
    moved, still = evidence(Moved(vae.model), vae, x), evidence(vae, vae, x)
    assert (moved[:, :2] > still[:, :2] + 0.3).all() and torch.equal(moved[:, 2], still[:, 2])


def test_a_large_image_is_seen_in_tiles(vae, other):
    x, listener = torch.rand(3, 32, TILE + 65, generator=torch.Generator().manual_seed(0)), Heard()
    left, right = (evidence(vae, other, part[None])[0] for part in (x[..., :289], x[..., 289:]))
    torch.testing.assert_close(evidence_of_image(vae, other, x, listener), (left * 289 + right * 288) / (TILE + 65))
    with pytest.raises(KeyboardInterrupt):
        evidence_of_image(vae, other, x, Stopping())


@pytest.mark.parametrize("size", [(500, 4), (3, 500), (1, 1)])
def test_a_picture_smaller_than_a_patch_is_left_out_and_the_others_are_judged(size, tmp_path):
    for i in range(2):
        write_image(tmp_path / "in" / f"{i}.png", torch.rand(3, 32, 40, generator=torch.Generator().manual_seed(i)))
    write_image(tmp_path / "in" / "narrow.png", torch.rand(3, *size, generator=torch.Generator().manual_seed(9)))
    pair = Encoders(load_vae("tiny"), load_vae("tiny-srl"))
    heard = Heard()
    found = {Path(one.file).name: one for one in scan(pair, tmp_path / "in", tmp_path / "out", heard)}
    assert [name for name, one in found.items() if one.evidence is None] == ["narrow.png"]
    assert f"{size[1]} x {size[0]} pixels: too small to be judged, which takes 32" in found["narrow.png"].error
    assert len(heard.omissions) == 1


class Stopping(Heard):
    def should_stop(self):
        return True


def test_a_score_counts_deviations_from_the_regression():
    normal = Normal(torch.tensor([[2.0, 1.0], [-1.0, 0.0]]).double(), torch.tensor([2.0, 0.5]).double())  # on one more column
    found = torch.tensor([[7.0, 1.0, 1.0], [1.0, 4.0, 1.0], [-1.0, 0.0, 0.0]])
    assert normal.scores(found).tolist() == [3, 6, 0]


def test_clean_images_are_scored_by_the_regression_on_all_others():
    clean = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    left_out = []
    for i in range(len(clean)):
        others = torch.cat([clean[:i], clean[i + 1 :]])
        regressors = torch.stack([others[:, 2], torch.ones(11)], 1)
        weights = torch.linalg.lstsq(regressors, others[:, :2]).solution
        left_out.append(clean[i, :2] - torch.stack([clean[i, 2], torch.tensor(1.0)]) @ weights)
    residuals = torch.stack(left_out)
    normal, threshold = calibrate(clean, 0.1)
    torch.testing.assert_close(normal.deviations.float(), residuals.std(0))
    assert threshold == pytest.approx((residuals / residuals.std(0)).sum(1).max().item(), rel=1e-4)


@contextmanager
def encodings(vae: VAE) -> Iterator[list[torch.Tensor]]:
    """What the VAE encodes in the meantime."""
    seen: list[torch.Tensor] = []
    hook = vae.model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    yield seen
    hook.remove()


def test_a_scan_that_was_cut_off_looks_at_what_is_left(vae, other, folder, tmp_path):
    (folder / "broken.png").unlink()
    whole = scan(Encoders(vae, other), folder, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power cut"):
        scan(Encoders(vae, other), folder, tmp_path / "out", Heard(crash_at=2, bar=str(folder)))
    encoders = Encoders(vae, other)
    with encodings(vae) as all_seen:
        scan(encoders, folder, tmp_path / "again")
    with encodings(vae) as seen:
        assert scan(encoders, folder, tmp_path / "out") == whole
    assert len(seen) == len(all_seen) / 3 > 0


def test_an_encoder_whose_latents_overflow_is_named(vae, x):
    broken = small_kl()
    with torch.no_grad():
        next(broken.model.encoder.parameters()).fill_(torch.inf)
    with pytest.raises(InputError, match="the hardened VAE's latents are not finite numbers"):
        evidence(vae, broken, x)


def test_every_file_is_listed_once_and_a_second_run_scores_nothing(vae, other, folder, tmp_path):
    seen = scan(Encoders(vae, other), folder, tmp_path / "out")
    assert {one.file for one in seen} == {"broken.png", "deep/0.png", "deep/1.png", "deep/2.png"}
    scores = score(seen, calibration())
    values = [score.value for score in scores[:-1]]
    assert values == sorted(values, reverse=True) and scores[-1].value is None
    assert "not a readable image" in scores[-1].error
    encoders = Encoders(vae, other)
    with encodings(vae) as again:
        assert scan(encoders, folder, tmp_path / "out") == seen
    assert again == []


def test_a_file_whose_name_is_no_text_is_scanned(vae, other, folder, tmp_path):
    strange = os.fsdecode(b"caf\xe9.png")
    try:
        write_image(folder / strange, torch.rand(3, 32, 32))
    except OSError:
        pytest.skip("this file system takes no such name")
    for _ in range(2):
        seen = scan(Encoders(vae, other), folder, tmp_path / "out")
        assert strange in {one.file for one in seen if one.evidence}
    scores = score(seen, calibration())
    write_verdicts(tmp_path / "out", scores, calibration())
    assert "caf" in write_scan_page(tmp_path / "out", folder, scores, calibration(), "some").read_text(encoding="utf-8")


SCANNED = """
import resource, sys
from pathlib import Path
from conftest import small_kl
from srlvae.scan import Encoders, scan
other = small_kl()
other.model.encoder.conv_in.weight.mul_(1.2)
seen = scan(Encoders(small_kl(), other), Path(sys.argv[1]), Path(sys.argv[2]))
print(sum(one.evidence is not None for one in seen), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.slow
def test_ten_thousand_images_take_no_more_memory_than_a_few(tmp_path):
    pictures = torch.rand(10_000, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    for name, number in (("few", 200), ("many", 10_000)):
        for i in range(number):
            write_image(tmp_path / name / f"{i // 1000}" / f"{i}.png", pictures[i])
    peaks = {}
    for name, number in (("few", 200), ("many", 10_000)):
        # A process of its own, as a peak is that of its whole life.
        command = [sys.executable, "-c", SCANNED, tmp_path / name, tmp_path / f"{name}-out"]
        said = subprocess.run(command, cwd=Path(__file__).parent, check=True, capture_output=True, text=True).stdout.split()
        assert int(said[0]) == number
        peaks[name] = float(said[1])
    # In MiB: the lines themselves, and what the allocator keeps. The images are 66.
    assert peaks["many"] - peaks["few"] < 30


def test_a_file_that_was_removed_is_gone_and_one_that_was_replaced_is_seen_again(vae, other, folder, tmp_path):
    first = {one.file: one.evidence for one in scan(Encoders(vae, other), folder, tmp_path / "out")}
    (folder / "deep" / "0.png").unlink()
    write_image(folder / "deep" / "1.png", torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(9)))
    write_image(folder / "broken.png", torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(8)))
    second = {one.file: one.evidence for one in scan(Encoders(vae, other), folder, tmp_path / "out")}
    assert set(second) == {"broken.png", "deep/1.png", "deep/2.png"} and all(second.values())
    assert second["deep/2.png"] == first["deep/2.png"] and second["deep/1.png"] != first["deep/1.png"]


def test_evidence_counts_more_than_an_error_whichever_table_comes_first(vae, other, folder, tmp_path):
    seen = scan(Encoders(vae, other), folder, tmp_path / "out")
    one = next(one for one in seen if one.evidence)
    failed = f"{','.join(COLUMNS)}\n{one.file},{one.version},{',' * (len(COLUMNS) - 3)}no luck\n"
    (tmp_path / "out" / "evidence-3.csv").write_text(failed, encoding="utf-8")
    assert scan(Encoders(vae, other), folder, tmp_path / "out") == seen


def test_half_a_line_of_another_process_is_no_evidence(vae, other, folder, tmp_path):
    seen = scan(Encoders(vae, other), folder, tmp_path / "out")
    lines = (tmp_path / "out" / "evidence-0.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    # Cut off within the last number of the last line.
    (tmp_path / "out" / "evidence-3.csv").write_text("".join(lines)[:-5], encoding="utf-8")
    assert scan(Encoders(vae, other), folder, tmp_path / "out") == seen


def test_half_a_line_is_written_again(vae, other, folder, tmp_path):
    seen = scan(Encoders(vae, other), folder, tmp_path / "out")
    table = tmp_path / "out" / "evidence-0.csv"
    table.write_text(table.read_text(encoding="utf-8")[:-12], encoding="utf-8")
    assert scan(Encoders(vae, other), folder, tmp_path / "out") == seen


def test_scores_of_other_encoders_are_refused(vae, other, folder, tmp_path):
    scan(Encoders(vae, other), folder, tmp_path / "out")
    with pytest.raises(InputError, match="begun with other settings: hardened was"):
        scan(Encoders(other, vae), folder, tmp_path / "out")


def test_encoders_that_are_no_twins_are_refused(vae, folder, tmp_path):
    with pytest.raises(InputError, match="one and the same"):
        scan(Encoders(vae, vae), folder, tmp_path / "out")
    with pytest.raises(InputError, match="do not belong together: one has latents of 4 channels"):
        scan(Encoders(vae, load_vae("tiny")), folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_encoders_that_do_not_share_a_decoder_are_told(vae, other):
    model = copy.deepcopy(other.model)
    model.decoder.conv_in.weight += 1
    with pytest.warns(UserWarning, match="do not share a decoder"):
        Encoders(vae, VAE(model))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Encoders(vae, other)


def test_a_threshold_keeps_its_rate_on_new_clean_images():
    draw = torch.Generator().manual_seed(0)
    rates = []
    for _ in range(200):
        normal, threshold = calibrate(textured(200, draw), 0.05)
        rates.append((normal.scores(textured(500, draw)) > threshold).float().mean().item())
    assert sum(rates) / len(rates) == pytest.approx(0.05, abs=0.004)


def textured(n: int, draw: torch.Generator) -> torch.Tensor:
    """Evidence whose first columns go with the last."""
    found = torch.randn(n, 3, generator=draw)
    found[:, :2] += found[:, 2:] * torch.tensor([1.0, -2.0])
    return found


@pytest.mark.parametrize(("n", "rate", "needed"), [(98, 0.01, 99), (5, 0.5, 6)])
def test_too_few_clean_images_are_refused(n, rate, needed):
    clean = torch.randn(99, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=f"give {needed} or more"):
        calibrate(clean[:n], rate)
    calibrate(clean[:needed], rate)


def test_no_clean_image_at_all_is_too_few():
    with pytest.raises(InputError, match="0 clean images are too few"):
        calibrate_looks([], 0.2)


def test_a_higher_rate_has_a_lower_threshold_up_to_all_images():
    clean = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    thresholds = [calibrate(clean, rate)[1] for rate in (0.05, 0.5, 1.0)]
    assert thresholds == sorted(thresholds, reverse=True) and len(set(thresholds)) == 3


def looked(parting: float = 0.0, trait: float = 0.5, thumbnail: bytes = bytes(64)) -> Look:
    return Look((parting, *[0.0] * (len(EVIDENCE) - 1)), (trait,) * len(TRAITS), thumbnail)


def test_verdicts_and_page_follow_from_the_threshold(vae, other, folder, tmp_path):
    seen = [FileEvidence(f"deep/{i}.png", "", looked(float(i))) for i in range(3)]
    scores = score([*seen, FileEvidence("broken.png", "", None, "broken")], calibration())
    write_summary(tmp_path / "out", count(scores, 1.5), calibration(1.5), tmp_path)
    with write_verdicts(tmp_path / "out", scores, calibration(1.5)).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["suspicious"] for row in rows] == ["yes", "no", "no", ""] and rows[0]["file"] == "deep/2.png"
    about = json.loads((tmp_path / "out" / "verdict.json").read_text(encoding="utf-8"))
    assert [about[name] for name in ("threshold", "images", "suspicious", "unlike", "unreadable")] == [1.5, 3, 1, 0, 1]
    text = write_scan_page(tmp_path / "out", folder, scores, calibration(1.5), "some").read_text(encoding="utf-8")
    assert "1 of 3 images are suspicious" in text and text.count("data:image/jpeg") == 3 and "1 files could not" in text


def test_all_suspicious_images_are_on_the_page_up_to_some_hundreds(folder, tmp_path):
    for suspicious, shown in ((5, 60), (80, 80), (400, 300)):
        scores = [Score("deep/0.png", float(i < suspicious)) for i in range(500)]
        text = write_scan_page(tmp_path / "out", folder, scores, calibration(0.5), "some").read_text(encoding="utf-8")
        assert text.count("<figure") == shown and f"The {shown} highest scores" in text


def test_names_of_files_are_text_on_the_page(folder, tmp_path):
    hostile = "<img src=x onerror=alert(1)>&'.png"
    (folder / "deep" / "0.png").rename(folder / "deep" / hostile)
    scores = [Score(f"deep/{hostile}", 2.0), Score(f"deep/{hostile}", 0.1, unlike="<b>bold</b>")]
    text = write_scan_page(tmp_path / "out", folder, scores, calibration(0.5), "<i>clean</i>").read_text(encoding="utf-8")
    assert not any(tag in text for tag in ("<img src=x", "<b>bold", "<i>clean")) and text.count("&lt;img src=x") >= 2


def test_hundreds_of_images_take_no_more_memory_than_a_few(tmp_path):
    pictures = torch.rand(300, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    peaks = {}
    # More than a group of files in both.
    for name, number in (("few", 80), ("many", 300)):
        for i in range(number):
            write_image(tmp_path / name / f"{i}.png", pictures[i])
        encoders = Encoders(small_kl(), hardened_twin())
        peaks[name] = peak_of(functools.partial(scan, encoders, tmp_path / name, tmp_path / f"{name}-out"))
    # In MiB. The images are 32, and 24 more than the few. What the tests before left free changes the rest by a few.
    assert peaks["many"] - peaks["few"] < 12


def peak_of(work: Callable[[], object]) -> float:
    """How far, in MiB, the memory of a process of its own rises that does the work.

    It begins with what the tests before left in this one.
    """

    def measured() -> None:
        before = psutil.Process().memory_info().rss / 2**20
        work()
        sender.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before)

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=measured)
    process.start()
    process.join()
    assert process.exitcode == 0
    return receiver.recv()


# --- an attacker who knows the scan


def knowing(vae: VAE, other: VAE, weight: float) -> Evading:
    """Of a scan whose score is parting and change less a half of their scrambled kin, 3 more of it."""
    weights = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5], [-6.0, -4.0]]).double()
    normal = Normal(weights, torch.tensor([1.0, 2.0]).double())
    return Evading(vae, other, Calibration(normal, AS_IT_IS, ANYTHING, 1.0, 0.01, images=99), weight)


def test_the_penalty_is_the_score_by_means_over_patches(vae, other, x):
    evading, draw = knowing(vae, other, 0.5), torch.Generator().manual_seed(1)
    near = (x + 0.02 * torch.randn(x.shape, generator=draw)).clamp(0, 1)
    with torch.no_grad():
        found = columns(vae, other, near, middle=lambda patches: patches.mean(1))
    scores = ((found[:, :2] - found[:, 3:] * 0.5 - torch.tensor([-6.0, -4.0])) / torch.tensor([1.0, 2.0])).sum(1)
    assert (scores > 1).all()
    torch.testing.assert_close(evading.penalty(x)(near), 0.5 * scores, rtol=1e-4, atol=1e-4)
    # All but the two cosines is what the scan itself looks at.
    cosines = [EVIDENCE.index("parting"), EVIDENCE.index("scrambled parting")]
    seen, rest = evidence(vae, other, near), [i for i in range(len(EVIDENCE)) if i not in cosines]
    assert torch.equal(seen[:, rest], found[:, rest]) and not torch.equal(seen[:, cosines], found[:, cosines])


def test_the_gradient_of_the_penalty_is_its_slope(vae, other, x):
    draw = torch.Generator().manual_seed(1)
    penalty, near = knowing(vae, other, 0.5).penalty(x), (x + 0.02 * torch.randn(x.shape, generator=draw)).clamp(0.01, 0.99)
    _, gradient = slope(penalty, near)
    for share in (1.0, 0.5, 0.5):
        # Along the gradient on some of the pixels, where the slope is far from zero.
        direction = gradient.sign() * (torch.rand(x.shape, generator=draw) < share)
        ahead, behind = (penalty(near + sign * 2e-4 * direction) for sign in (1, -1))
        found = (gradient * direction).flatten(1).sum(1)
        assert (found > 0).all()
        torch.testing.assert_close(found, (ahead - behind) / 4e-4, rtol=0.03, atol=0)


def test_a_score_below_the_mean_of_clean_images_costs_nothing(vae, other, x):
    weights = torch.tensor([[0.0, 0.0]] * 3 + [[100.0, 0.0]]).double()
    low = Calibration(Normal(weights, torch.ones(2).double()), AS_IT_IS, ANYTHING, 1.0, 0.01, images=99)
    value, gradient = slope(Evading(vae, other, low, 1.0).penalty(x), x)
    assert not value.any() and not gradient.any()


def attacked(vae: VAE, x: torch.Tensor, knows: Evading | None) -> torch.Tensor:
    attack = prepare(Request("photoguard-encoder", eps=8 / 255, steps=8), vae)
    return dataclasses.replace(attack, knows=knows).perturb(x, ["a", "b"])


def test_an_attacker_to_whom_the_scan_is_worth_nothing_attacks_as_any_other(vae, other, x):
    assert torch.equal(attacked(vae, x, knowing(vae, other, 0.0)), attacked(vae, x, None))
    settings = [
        dataclasses.replace(prepare(Request("latent"), vae), knows=knows).settings()
        for knows in (None, knowing(vae, other, 0.0))
    ]
    assert settings[0] == settings[1]


def test_an_attacker_who_knows_the_scan_lowers_the_score_for_less_of_his_aim(vae, other, x):
    score_of, aim = knowing(vae, other, 1.0).penalty(x), photoguard_encoder_objective(vae)
    plain, knows = attacked(vae, x, None), attacked(vae, x, knowing(vae, other, 100.0))
    assert score_of(knows).mean() < score_of(plain).mean() and aim(knows).mean() > aim(plain).mean()
    said = dataclasses.replace(prepare(Request("latent"), vae), knows=knowing(vae, other, 2.0)).settings()["evading"]
    assert (said["hardened"], said["weight"]) == (other.fingerprint(), 2.0)
    # Of all attacks these alone depend on how a scan scores.
    assert said["code"] == code_digest("scan")
