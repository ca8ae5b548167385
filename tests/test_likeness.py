"""What kind of picture an image is: what moves it and what does not, and what is said of an image unlike the clean ones."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from torch.nn.functional import interpolate

from srlvae.bench.kinds import KINDS, of_kind
from srlvae.errors import InputError
from srlvae.images import to_levels, write_image
from srlvae.report.scan import scan_lines, write_scan_page
from srlvae.scan import calibrate_looks, calibrate_scan, count, place_of, score, write_summary, write_verdicts
from srlvae.scan.calibration import Calibration
from srlvae.scan.copies import distinct, thumbnail
from srlvae.scan.evidence import EVIDENCE
from srlvae.scan.familiar import compared, familiar
from srlvae.scan.folder import FileEvidence
from srlvae.scan.likeness import TRAITS, likeness
from srlvae.scan.look import Look
from srlvae.scan.places import RECORD
from srlvae.scan.surroundings import Surroundings


def pictures(n: int, seed: int = 0) -> torch.Tensor:
    """Something like photographs: places and tones of all sizes, with more or less detail, in whole grey levels."""
    draw = torch.Generator().manual_seed(seed)
    detail, x = torch.rand(n, 1, 1, 1, generator=draw) * 1.5, torch.zeros(n, 3, 64, 64)
    for side in (2, 4, 8, 16, 32, 64):
        layer = torch.rand(n, 1, side, side, generator=draw) + 0.3 * torch.rand(n, 3, side, side, generator=draw)
        x = x + interpolate(layer, 64, mode="bicubic") * side**-detail
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return to_levels((x - low) / (high - low)).float() / 255


def noise(eps: float, x: torch.Tensor) -> torch.Tensor:
    """Signs, as strong as a perturbation within ε can be."""
    return (x + eps * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).sign()).clamp(0, 1)


def column(name: str, x: torch.Tensor) -> torch.Tensor:
    return likeness(x)[:, list(TRAITS).index(name)]


def test_traits_of_simple_pictures_are_known():
    board = torch.tensor([0.0, 1.0]).repeat(16)
    checks = (board[:, None] - board).abs()
    x = torch.stack([torch.full((32, 32), 0.5), checks])[:, None].expand(2, 3, 32, 32)
    assert column("contrast", x).tolist() == pytest.approx([0, 0], abs=1e-6)  # a fine pattern is grey from afar
    assert column("tones", x).tolist() == pytest.approx([0, torch.tensor(2.0).log().item()])
    assert column("colour", x).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert column("flatness", x).tolist() == [1, 1] and column("lights", x).tolist() == pytest.approx([0.5, 0.5])
    # The blur leaves nothing of a pattern of every other pixel, so all of it is fine detail, but at the edges.
    assert column("calmest", x)[0] == 0 and column("calm", x)[1].item() == pytest.approx(0.5, abs=0.05)


def test_an_image_has_the_same_traits_in_any_batch_and_at_any_size():
    x = pictures(5)
    torch.testing.assert_close(likeness(x)[2:3], likeness(x[2:3]))
    for shape in ((1, 1), (3, 50), (70, 33)):
        assert likeness(torch.rand(1, 3, *shape)).isfinite().all()


def test_a_perturbation_hardly_moves_what_an_image_is_like_but_noise_does():
    x = pictures(40)
    known, _ = familiar(likeness(x))
    before = known.distances(likeness(x))
    moved = [(known.distances(likeness(noise(eps / 255, x))) - before).median().item() for eps in (8, 50)]
    assert moved[0] < 0.5 and moved[1] > 4


def test_images_are_unlike_at_about_the_rate_and_other_kinds_with_a_reason():
    known, beyond = familiar(likeness(pictures(200)))
    assert (beyond > 0).sum() == 3  # those beyond the fourth of 201
    others = known.unlike(likeness(pictures(300, seed=1)))
    assert sum(bool(reason) for reason in others) <= 20
    assert all("nois" in why for why in known.unlike(likeness(noise(50 / 255, pictures(8)))))
    assert set(known.unlike(likeness(pictures(4) * 0.05))) <= {"darker", "fewer tones", "less contrast", "no strong detail"}


def test_what_is_like_reaches_to_the_eighth_nearest_of_the_others():
    known, _ = familiar(likeness(pictures(60)))
    # The nearest is the image itself; of sixty images none but the furthest may lie at the reach.
    nearest = torch.cdist(known.clean, known.clean).sort(1).values
    assert known.reach == pytest.approx(nearest[:, 8].max().item(), rel=1e-4)
    torch.testing.assert_close(known.distances(likeness(pictures(60))), nearest[:, 7])


def test_a_trait_that_all_clean_images_share_does_not_exclude_all_others():
    grey = pictures(50).mean(1, keepdim=True).expand(50, 3, 64, 64)
    known, _ = familiar(likeness(grey))
    assert known.scale.isfinite().all() and (known.scale >= torch.tensor([trait.least for trait in TRAITS.values()])).all()
    assert compared(likeness(grey)).isfinite().all()


def test_copies_of_a_picture_count_once_but_other_pictures_all_do():
    x = pictures(20)
    small = interpolate(x, scale_factor=0.5, mode="bicubic", antialias=True).clamp(0, 1)
    pale = x * 0.8 + 0.1
    assert distinct([thumbnail(image) for image in x]) == list(range(20))
    assert distinct([thumbnail(image) for part in (x, x, small, pale) for image in part]) == list(range(20))
    assert distinct([]) == []


def test_a_hundred_copies_are_no_clean_images():
    look = Look((0.0,) * len(EVIDENCE), (0.5,) * len(TRAITS), bytes(range(64)))
    with pytest.raises(
        InputError, match=r"1 clean images \(98 more are copies of them\) are too few for a rate of 0.01; give 99"
    ):
        calibrate_looks([look] * 99, 0.01)


def calibrated(n: int = 100) -> Calibration:
    draw = torch.Generator().manual_seed(0)
    return calibrate_scan(torch.randn(n, len(EVIDENCE), generator=draw), likeness(pictures(n)), 0.1)


def seen(name: str, x: torch.Tensor, parting: float) -> FileEvidence:
    traits = tuple(likeness(x[None])[0].tolist())
    return FileEvidence(name, "", Look((parting, *[0.0] * (len(EVIDENCE) - 1)), traits, thumbnail(x)))


def test_a_score_is_compared_with_those_of_the_clean_images_nearby():
    draw = torch.Generator().manual_seed(0)
    places = torch.cat([torch.zeros(100, 2), torch.full((100, 2), 9.0)]) + torch.rand(200, 2, generator=draw)
    scores = torch.randn(200, generator=draw) * torch.tensor([1.0, 5.0]).repeat_interleave(100)
    around = Surroundings(places, scores)
    calm, wild = around.standard(torch.tensor([6.0, 6.0]), torch.tensor([[0.5, 0.5], [9.5, 9.5]])).tolist()
    assert calm > 1.2 * wild > 0
    # A clean image is not compared with itself: what is left of it does not move its neighbours' mean towards it.
    odd = scores.index_fill(0, torch.tensor([0]), 100.0)
    own = [Surroundings(places, odd).standard(odd[:1], places[:1], skip=skip).item() for skip in (0, 1)]
    assert own[1] > own[0]


def test_a_standard_score_is_its_formula():
    draw = torch.Generator().manual_seed(0)
    places, scores, place = torch.rand(60, 2, generator=draw), 3 + torch.randn(60, generator=draw), torch.tensor([[0.2, 0.4]])
    near = scores[torch.cdist(place, places)[0].argsort()[:40]]
    mean, variance = (near.mean() + scores.mean()) / 2, (near.var(correction=0) + scores.var(correction=0)) / 2
    found = Surroundings(places, scores).standard(torch.tensor([5.0]), place)
    torch.testing.assert_close(found, (5 - mean)[None] / variance.sqrt())


def test_many_images_have_the_scores_that_each_has_alone():
    draw = torch.Generator().manual_seed(0)
    around = Surroundings(torch.rand(50, 2, generator=draw), torch.randn(50, generator=draw))
    scores, places = torch.randn(1500, generator=draw), torch.rand(1500, 2, generator=draw)
    found = around.standard(scores, places)
    for i in (0, 1023, 1024, 1499):
        torch.testing.assert_close(found[i : i + 1], around.standard(scores[i : i + 1], places[i : i + 1]))
    assert around.standard(scores[:0], places[:0]).shape == (0,)


def test_an_image_that_is_unlike_is_reported_as_such(tmp_path):
    calibration, x = calibrated(), pictures(100)[0]
    dark = x * 0.03
    files = [seen("a.png", x, 50.0), seen("b.png", x, -50.0), seen("dark.png", dark, 50.0), seen("night.png", dark, -50.0)]
    scores = score([*files, FileEvidence("broken.png", "", None, "broken")], calibration)
    assert [one.file for one in scores] == ["a.png", "b.png", "dark.png", "night.png", "broken.png"]
    write_summary(tmp_path, count(scores, calibration.threshold), calibration, tmp_path)
    with write_verdicts(tmp_path, scores, calibration).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["suspicious"] for row in rows] == ["yes", "no", "unlike", "unlike", ""]
    assert [bool(row["reason"]) for row in rows] == [False, False, True, True, False]
    about = json.loads((tmp_path / "verdict.json").read_text(encoding="utf-8"))
    assert [about[name] for name in ("images", "suspicious", "unlike", "unreadable", "expected")] == [4, 1, 2, 1, 0.2]
    assert about["reasons"] == {rows[2]["reason"]: 2}


def test_an_image_that_is_unlike_and_far_above_the_threshold_is_suspicious():
    calibration = calibrated()
    (one,) = score([seen("dark.png", pictures(1)[0] * 0.03, 1e6)], calibration)
    assert one.verdict(calibration.threshold) == "yes" and not one.unlike


def test_clean_images_unlike_the_others_have_no_part_in_what_is_normal():
    evidence = torch.randn(101, len(EVIDENCE), generator=torch.Generator().manual_seed(0))
    traits, odd = likeness(torch.cat([pictures(100), pictures(1, seed=1) * 0.03])), evidence.clone()
    odd[-1, 0] = 1e4
    one, other = (calibrate_scan(found, traits, 0.1).normal.weights for found in (evidence, odd))
    assert torch.equal(one, other)


def test_what_is_expected_is_said_of_the_images_that_are_like_the_clean_ones(tmp_path):
    calibration, x = calibrated(), pictures(100)
    files = [seen(f"{i}.png", x[i], -50.0) for i in range(10)] + [seen(f"dark {i}.png", x[i] * 0.03, 50.0) for i in range(7)]
    for one, image in zip(files, x, strict=False):
        write_image(tmp_path / one.file, image)
    scores = score(files, calibration)
    lines = scan_lines(count(scores, calibration.threshold), calibration)
    like = sum(not one.unlike for one in scores)
    assert lines[0].startswith(f"0 of {like} images are suspicious") and f"about {0.1 * like:.1f} would" in lines[1]
    assert lines[2].startswith(f"{17 - like} more are unlike") and 17 - like >= 7
    text = write_scan_page(tmp_path, tmp_path, scores, calibration, "some").read_text(encoding="utf-8")
    assert f"{17 - like} more are unlike the clean images" in text and text.count("<figure") == 17


def test_another_folder_has_a_place_of_its_own_and_the_first_keeps_its(tmp_path):
    first, second, out = tmp_path / "first", tmp_path / "second", tmp_path / "out"
    assert place_of(out, first) == out
    out.mkdir()
    (out / RECORD).write_text(json.dumps({"folder": str(first.resolve())}), encoding="utf-8")
    assert place_of(out, first) == out
    assert place_of(out, second).parent == out and place_of(out, second) == place_of(out, tmp_path / "first" / ".." / "second")


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_are_pictures_that_depend_on_their_number_alone(kind):
    x = pictures(3)
    found = of_kind(kind, x, 0)
    assert found.shape == x.shape and found.dtype == torch.float32 and found.min() >= 0 and found.max() <= 1
    assert torch.equal(found[:2], of_kind(kind, x[:2], 0)) and torch.equal((found * 255).round() / 255, found)
    assert not torch.equal(found, x)
