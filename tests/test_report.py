"""The page of the editing benchmark: what it says follows from the rows, and it can be read in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from srlvae.bench.cells import Cell
from srlvae.bench.poisoning import sheet_name
from srlvae.bench.rows import Estimate, Row, access_of, as_data, read_rows
from srlvae.errors import InputError
from srlvae.images import write_image
from srlvae.metrics.shares import wilson_interval
from srlvae.report.attacks import half_way, plot_curves
from srlvae.report.defences import defence_table, share_removed
from srlvae.report.editing import (
    editing_table,
    headline_measures,
    measures_of,
    summary_table,
)
from srlvae.report.editing_page import doubts
from srlvae.report.editing_variants import square_doubts, steps_table, variants_table, white_box_table, worst_table
from srlvae.report.page import write_report
from srlvae.report.plots import plot_hardening
from srlvae.report.poisoning import counts_table, curves, defences_table, format_pooled, pooled_share, share_over_pairs
from srlvae.report.rows import doubts_of, find_rows, format_factor, format_share_left
from srlvae.report.runs import load_runs, other_settings
from srlvae.report.scan_tables import knowing_table
from srlvae.report.verdicts import verdicts

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def estimates(**values: float) -> dict[str, Estimate]:
    return {name: Estimate(value, value * 0.9, value * 1.1, 2) for name, value in values.items()}


def row(attack: str, eps: str, made_on: str, defence: str, frechet: float, clip_i: float, **more) -> Row:
    measures = estimates(frechet=frechet, frechet_pca=frechet / 10, kid=frechet / 1000, distance=frechet / 100)
    measures |= estimates(clip_i=clip_i, psnr=20.0, ssim=0.5, clip_t=0.3)
    condition = {"attack": attack, "eps": eps, **more.pop("condition", {})}
    return Row(condition, access_of(made_on, defence), defence, 2, measures, **more)


def editing_rows(hardened: float) -> list[Row]:
    """An attack at two budgets, where hardening takes the distance from 100 to `hardened`, and a JPEG to 50."""
    rows = [row("none", "0", "", "none", 0.0, 1.0), row("none", "0", "", "hardened", 5.0, 0.97)]
    for eps in ("8/255", "15/255"):
        rows.append(row("photoguard-encoder", eps, "original", "none", 100.0, 0.6))
        rows.append(row("photoguard-encoder", eps, "original", "hardened", hardened, 0.95))
        rows.append(row("photoguard-encoder", eps, "hardened", "hardened", 60.0, 0.8, doubts=["it is flat"]))
        rows.append(row("photoguard-encoder", eps, "original", "jpeg", 50.0, 0.8))
    return rows


def write_run(folder: Path, hardened: float = 20.0) -> Path:
    """A folder of the editing benchmark with those rows."""
    clean = [
        Row({"attack": "none", "eps": "0"}, "none", defence, 2, estimates(psnr=psnr, ssim=0.5, distance=distance))
        for defence, psnr, distance in (("none", 20.0, 1.0), ("hardened", 21.0, 0.9))
    ]
    floor = [row("none", "0", "", "none", 30.0, 0.98, condition={"compared": "other noise"})]
    protocol = {"pipeline": "p", "hardened": "h", "clip": "small", "pairs": "net", "sets": "net", "strength": 0.5, "steps": 25}
    plans = [{"name": "photoguard-encoder", "eps": ["8/255", "15/255"]}]
    result = {
        "benchmark": "editing",
        "protocol": {**protocol, "guidance": 5.0, "attacks": plans, "purifiers": [{"name": "jpeg"}]},
        "images": ["a.png", "b.png"],
        "versions": {"torch": "2"},
        "floor": as_data(floor),
        "reconstruction": as_data(clean),
        "costs": {
            "purifiers": {"jpeg": {"seconds": 0.002, "memory": 2e6, "passes": {"encoder": 0, "unet": 0}}},
            "encoder": {"original": 0.01, "hardened": 0.0101, "ratio": 1.01},
        },
        "doubts": ["another doubt"],
        "seconds": 1.0,
        "rows": as_data(editing_rows(hardened)),
    }
    folder.mkdir(parents=True)
    (folder / "editing.json").write_text(json.dumps(result))
    write_image(folder / "sheets" / "photoguard-encoder.webp", torch.rand(3, 60, 400))
    return folder


def result_of(folder: Path) -> dict:
    return load_runs([folder])[0].result


def test_verdicts_follow_from_the_rows(tmp_path):
    good, bad = (verdicts(result_of(write_run(tmp_path / str(value), value))) for value in (20.0, 70.0))
    # Of the attack at both budgets the one of 15/255 is told: transfer and white-box.
    assert [holds for holds, _ in good] == [True, False, True, True, True]
    said = [text for _, text in good]
    assert "20.00 → 21.00 dB" in said[0] and "1000 × KID 5.0 [4.5, 5.5] from those" in said[1]
    assert "1000 × KID (net) 100.0 → 20.0, a factor of 5.0" in said[2] and "it takes 0.002 s" in said[4]
    assert "60% of the KID and 60% of the dist" in said[3]
    assert [holds for holds, _ in bad] == [True, False, False, True, False]
    assert "better than hardening on photoguard-encoder" in bad[4][1]


def test_a_claim_holds_by_its_factor_and_its_likeness(tmp_path):
    result = result_of(write_run(tmp_path / "run"))
    for found in result["rows"]:
        if found["defence"] == "hardened" and found["access"] == "transfer":
            found["measures"]["clip_i"]["value"] = 0.88
    assert [holds for holds, _ in verdicts(result)] == [True, False, False, True, True]


def test_a_white_box_claim_wants_little_left_of_the_kid_and_of_the_distance(tmp_path):
    result = result_of(write_run(tmp_path / "run"))
    for found in result["rows"]:
        if found["access"] == "white-box" and found["defence"] == "hardened":
            found["measures"]["distance"]["value"] = 0.7
    assert [holds for holds, text in verdicts(result) if "white-box" in text] == [False]


@pytest.mark.parametrize(("measure", "value"), [("psnr", 19.0), ("distance", 1.1)])
def test_clean_reconstructions_have_to_be_better_by_both_measures(measure, value, tmp_path):
    result = result_of(write_run(tmp_path / "run"))
    result["reconstruction"][1]["measures"][measure]["value"] = value
    assert not verdicts(result)[0][0]


def test_clean_edits_hold_where_the_interval_reaches_nought(tmp_path):
    result = result_of(write_run(tmp_path / "run"))
    result["rows"][1]["measures"]["kid"] |= {"value": 0.001, "low": -0.001}
    assert verdicts(result)[1][0]


def test_an_attack_without_effect_supports_no_claim(tmp_path):
    result = result_of(write_run(tmp_path / "run"))
    for found in result["rows"]:
        if found["defence"] == "none" and found["condition"]["attack"] == "photoguard-encoder":
            found["measures"]["kid"]["value"] = -0.001
    told = [(holds, text) for holds, text in verdicts(result) if text.startswith("photoguard-encoder")]
    assert [holds for holds, _ in told] == [False] and "no effect with the original VAE" in told[0][1]


def test_where_the_kid_before_is_not_above_zero_no_share_of_it_is_removed(tmp_path):
    result = result_of(write_run(tmp_path / "run"))
    assert share_removed(result, "hardened") == pytest.approx(0.8)
    for found in result["rows"]:
        if found["defence"] == "none" and found["condition"]["attack"] == "photoguard-encoder":
            found["measures"]["kid"]["value"] = -0.001
    assert share_removed(result, "hardened") is None
    assert not any("jpeg" in text for _, text in verdicts(result))


def test_nothing_depends_on_the_order_of_rows_and_measures(tmp_path):
    result = result_of(write_run(tmp_path / "run"))
    rows = [{**found, "measures": dict(reversed(found["measures"].items()))} for found in result["rows"]]
    turned = {**result, "rows": rows[::-1]}
    assert set(verdicts(turned)) == set(verdicts(result)) and share_removed(turned, "jpeg") == share_removed(result, "jpeg")
    assert sorted(summary_table(turned)[1]) == sorted(summary_table(result)[1])
    assert sorted(defence_table(turned)[1]) == sorted(defence_table(result)[1])


def test_the_table_has_a_line_a_set_and_a_column_a_defence(tmp_path):
    result = result_of(write_run(tmp_path / "run"))
    header, lines = editing_table(result, measures_of(result)["frechet"])
    assert header[3:] == ["no defence", "hardened", "jpeg"] and len(lines) == 5
    assert lines[1] == ["photoguard-encoder", "8/255", "transfer", *lines[1][3:]]
    assert [cell.split()[0] for cell in lines[1][3:]] == ["100.0", "20.0", "50.0"]
    # A cell without a number says why.
    assert lines[2][3:] == ["– made on the hardened VAE", "60.0 [54.0, 66.0]", "– made on the hardened VAE"]
    assert lines[0][5] == "– not run"


def test_the_summary_has_a_line_an_attack_with_its_factor(tmp_path):
    header, lines = summary_table(result_of(write_run(tmp_path / "run")))
    columns = [["1000 × KID (net), 15/255", "factor", "white-box"], ["Fréchet (32 PCA dims of real photographs, net), 15/255"]]
    columns += [["factor", "white-box"], ["CLIP-I (small), 15/255", "1000 × KID (net), 8/255"]]
    assert header == ["attack", *(column for part in columns for column in part)]
    kid, frechet = "0.0 [0.0, 0.0] → 5.0 [4.5, 5.5]", "0.00 [0.00, 0.00] → 0.50 [0.45, 0.55]"
    missing = "– no attack"
    assert lines[0] == ["none", kid, missing, missing, frechet, missing, missing, "1.000 → 0.970", missing]
    kid = ["100.0 [90.0, 110.0] → 20.0 [18.0, 22.0]", "5.0", "60.0 [54.0, 66.0]"]
    frechet = ["10.00 [9.00, 11.00] → 2.00 [1.80, 2.20]", "5.0", "6.00 [5.40, 6.60]"]
    assert lines[1:] == [["photoguard-encoder", *kid, *frechet, "0.600 → 0.950", "100.0 → 20.0"]]


def test_an_attack_that_was_not_run_stands_in_the_summary_with_its_reason(tmp_path):
    result = result_of(write_run(tmp_path / "run")) | {"not_run": {"pid": "this VAE has no posterior to attack"}}
    assert summary_table(result)[1][-1] == ["pid", *["– this VAE has no posterior to attack"] * 8]


def variant_rows() -> list[Row]:
    """Variants of an attack at 15/255: on both VAEs, a part, steps, and through a JPEG; and the worst case."""
    rows, about = editing_rows(20.0), {"of": "photoguard-encoder"}
    both = Cell("photoguard-encoder", 15 / 255, "both")
    part = Cell("photoguard-encoder", 15 / 255, "original", part="contrast")
    for cell, hardened in ((both, 80.0), (part, 40.0)):
        for defence, frechet in (("none", 100.0), ("hardened", hardened)):
            found = row(cell.name, "15/255", "original", defence, frechet, 0.9, condition=cell.condition())
            rows.append(replace(found, access=cell.access(defence)))
    for steps, frechet in ((25, 80.0), (50, 97.0)):
        more = {**about, "steps": steps, "restarts": 1}
        rows.append(row(f"photoguard-encoder, {steps} steps", "15/255", "original", "none", frechet, 0.6, condition=more))
    through = row("photoguard-encoder, through jpeg", "15/255", "original", "jpeg", 90.0, 0.6, condition=about)
    rows.append(replace(through, access="white-box"))
    for defence, access, frechet in (
        ("none", "white-box", 120.0),
        ("hardened", "transfer", 30.0),
        ("hardened", "white-box", 70.0),
    ):
        found = row("worst case", "15/255", "original", defence, frechet, 0.5, condition={"attacks": 2})
        measures = {"distance": found.measures["distance"]}
        rows.append(replace(found, access=access, measures=measures))
    return rows


def test_variants_the_worst_case_and_steps_have_tables_of_their_own(tmp_path):
    folder = write_run(tmp_path / "run")
    result = result_of(folder) | {"rows": as_data(variant_rows())}
    result["protocol"]["attacks"] = [{"name": "photoguard-encoder", "preset": "", "eps": ["8/255", "15/255"], "steps": 100}]
    found = {line[0]: line[1:4] for line in variants_table(result)[1]}
    assert found == {
        "photoguard-encoder, on both VAEs": ["white-box", "100.0 → 80.0", "1.2"],
        "photoguard-encoder, contrast part alone": ["transfer", "100.0 → 40.0", "2.5"],
    }
    worst = [line[:5] for line in worst_table(result)[1]]
    assert worst[0] == ["none", "white-box", "15/255", "2", "1.200 [1.080, 1.320]"] and len(worst) == 3
    # An attack that knows the hardened VAE by KID and by pairs, and the worst of all attacks by pairs alone.
    assert white_box_table(result)[1] == [
        ["photoguard-encoder", "100.0 → 60.0", "60 %", "1.000 → 0.600", "60 %"],
        ["worst case", *["– not of a mixture"] * 2, "1.200 → 0.700", "58 %"],
    ]
    # The attack as it is chosen, with 100 steps, is the last point.
    said = ["photoguard-encoder", "original", "25: 0.800; 50: 0.970; 100: 1.000", "+3%, flat"]
    assert steps_table(result)[1] == [said]
    assert defence_table(result)[1][2][3] == "photoguard-encoder, through jpeg 90.0"
    summary = {line[0]: line for line in summary_table(result)[1]}
    assert list(summary) == ["none", "photoguard-encoder"]
    # What of a perturbation is contrast stands in its attack's line.
    assert [line[-1] for line in summary.values()] == ["– not split", "100.0 → 40.0"]
    lines = {(line[0], line[2]): line[3:] for line in editing_table(result, measures_of(result)["kid"], intervals=False)[1]}
    assert lines["photoguard-encoder, through jpeg", "white-box"] == ["– made through jpeg"] * 2 + ["90.0"]
    assert lines["photoguard-encoder, on both VAEs", "white-box"][:2] == ["100.0", "80.0"]
    (folder / "editing.json").write_text(json.dumps(result))
    text = write_report([folder]).read_text(encoding="utf-8")
    assert "The worst case, image by image" in text and "Over steps" in text and "<!-- steps -->" in text


def test_queries_that_win_over_gradients_are_a_doubt(tmp_path):
    result = result_of(write_run(tmp_path / "run"))
    makers = (("original", "none", 50.0, 40.0), ("hardened", "hardened", 50.0, 60.0))
    rows = [row("photoguard-encoder", "15/255", on, defence, value, 0.9) for on, defence, value, _ in makers]
    rows += [row("square:zero", "15/255", on, defence, value, 0.9) for on, defence, _, value in makers]
    (doubt,) = square_doubts(result | {"rows": as_data(rows)})
    assert doubt.startswith("square:zero hurts edits under hardened more than photoguard-encoder")


def test_a_result_without_few_directions_shows_the_distance_in_all(tmp_path):
    result = result_of(write_run(tmp_path / "run"))
    for found in result["rows"]:
        del found["measures"]["frechet_pca"]
    assert list(headline_measures(result)) == ["kid", "frechet", "clip_i"] and "frechet_pca" not in measures_of(result)
    assert measures_of({**result, "protocol": {**result["protocol"], "sets": "inception"}})["frechet"].label == "FID"


def test_the_distance_in_all_directions_is_shown_from_so_many_images_on_that_it_is_hardly_biased(tmp_path):
    result = result_of(write_run(tmp_path / "run"))
    for n, shown in ((2047, "frechet_pca"), (2048, "frechet")):
        for found in result["rows"]:
            found["n"] = n
        assert list(headline_measures(result)) == ["kid", shown, "clip_i"]


def test_a_factor_of_what_is_not_above_zero_is_the_least_that_is_left():
    before, after = (row("advdm", "15/255", "original", defence, 10.0, 0.9) for defence in ("none", "hardened"))
    for kid, text in ((0.002, "5.0"), (-0.001, "> 2.0"), (-0.01, "no distance left")):
        after.measures["kid"] = Estimate(kid, kid - 0.006, kid + 0.006, 2)
        assert format_factor(before, after, "kid") == text
    before.measures["kid"] = Estimate(-0.001, -0.01, 0.01, 2)
    assert format_factor(before, after, "kid") == format_share_left(before, after, "kid") == "– no distance to begin with"


def test_a_purifier_is_compared_where_the_attacker_knew_as_much(tmp_path):
    result = result_of(write_run(tmp_path / "run"))
    (before,) = [text for _, text in verdicts(result) if text.startswith("jpeg")]
    # An attack through the purifier, and the worst of several: neither has a row of hardening in transfer beside it.
    known = replace(row("photoguard-encoder", "15/255", "original", "jpeg", 1.0, 0.8), access="white-box")
    worst = row("worst case", "15/255", "original", "jpeg", 1.0, 0.8)
    hardened = row("worst case", "15/255", "original", "hardened", 90.0, 0.8)
    original = replace(row("worst case", "15/255", "original", "none", 100.0, 0.8), access="white-box")
    result["rows"] += as_data([known, worst, hardened, original])
    assert [text for _, text in verdicts(result) if text.startswith("jpeg")] == [before]


def test_gains_and_costs_stand_beside_each_other(tmp_path):
    result = result_of(write_run(tmp_path / "run"))
    assert share_removed(result, "hardened") == pytest.approx(0.8) and share_removed(result, "jpeg") == pytest.approx(0.5)
    header, lines = defence_table(result)
    judged = "1000 × KID (net); Fréchet (32 PCA dims of real photographs, net)"
    costs = ["attacked through it: 1000 × KID (net)", "seconds per image", "memory", "network passes per image"]
    assert header == ["defence", f"clean: {judged}", f"PhotoGuard: {judged}", *costs]
    assert lines[1] == ["hardened", "5.0; 0.50", "20.0; 2.00", "", "0 (encoder: × 1.01)", "0", "0"]
    assert lines[2] == ["jpeg", "– not run", "50.0; 5.00", "not attacked adaptively", "0.002", "2 MB", "0"]


def test_doubts_name_few_images_the_network_and_the_attacks(tmp_path):
    text = " ".join(doubts(load_runs([write_run(tmp_path / "run")])[0]))
    assert "of 2 images" in text and "No number here is FID" in text and "it is flat (photographs: 1)" in text
    assert "another doubt" in text


def test_doubts_of_shared_photographs_count_once_and_name_their_subjects():
    rows = [row("glaze", "15/255", "original", defence, 1.0, 0.9, doubts=["it is flat"] * 3) for defence in ("none", "jpeg")]
    style = {"style": "sketch"}
    rows.append(row("glaze", "15/255", "hardened", "hardened", 1.0, 0.9, condition=style, doubts=["it is flat"]))
    pair = {"concept": "cat", "target": "dog"}
    rows += [row("nightshade", "8/255", "original", "none", 1.0, 0.9, condition=pair, doubts=["odd"] * n) for n in (2, 5)]
    assert doubts_of({"rows": as_data(rows), "doubts": ["as a whole"]}) == [
        "as a whole",
        "glaze at 15/255 made on the original VAE: it is flat (photographs: 3)",
        "sketch, glaze at 15/255 made on the hardened VAE: it is flat (photographs: 1)",
        "cat → dog, nightshade at 8/255 made on the original VAE: odd (photographs: 5)",
    ]


def test_a_run_that_was_cut_off_has_a_page_that_says_so(tmp_path):
    folder = write_run(tmp_path / "run")
    result = json.loads((folder / "editing.json").read_text())
    whole = result["rows"]
    for rows in range(1, len(whole)):
        cut = {key: value for key, value in result.items() if key != "seconds"} | {"costs": {}, "rows": whole[:rows]}
        (folder / "editing.json").write_text(json.dumps(cut))
        assert "not finished" in write_report([folder]).read_text(encoding="utf-8")


def test_names_in_results_are_text_on_the_page(tmp_path):
    hostile = "<img src=x onerror=alert(1)>&\"'"
    folder = write_run(tmp_path / hostile)
    result = json.loads((folder / "editing.json").read_text(encoding="utf-8"))
    result["protocol"]["clip"] = result["versions"]["torch"] = hostile
    result["doubts"] = [hostile]
    result["images"] = [hostile, hostile]
    (folder / "editing.json").write_text(json.dumps(result))
    text = write_report([folder, write_run(tmp_path / "other")]).read_text(encoding="utf-8")
    assert "<img src=x" not in text and text.count("&lt;img src=x") >= 4


def test_several_runs_stand_side_by_side(tmp_path):
    folders = [write_run(tmp_path / name, value) for name, value in (("one", 20.0), ("two", 70.0))]
    text = write_report(folders, tmp_path / "both").read_text(encoding="utf-8")
    assert "Side by side" in text and "100.0 → 20.0; 0.600 → 0.950" in text and "100.0 → 70.0; 0.600 → 0.950" in text
    assert not re.search(r'(src|href)="(?!data:|#)', text), "the page is to be one file"
    table = (folders[1] / "table.md").read_text(encoding="utf-8")
    assert "| photoguard-encoder | 15/255 |" in table and table.startswith("## Edits\n| attack |")
    assert "These runs differ" not in text and "n = 2" in text
    result = json.loads((folders[1] / "editing.json").read_text(encoding="utf-8"))
    result["protocol"]["steps"] = 99
    (folders[1] / "editing.json").write_text(json.dumps(result))
    text = write_report(folders, tmp_path / "both").read_text(encoding="utf-8")
    assert "These runs differ in steps: compare within a run" in text


def test_runs_in_folders_of_one_name_are_told_apart_and_may_differ_in_their_hardened_vae(tmp_path):
    runs = load_runs([write_run(tmp_path / name / "editing") for name in ("one", "two")])
    assert [run.name for run in runs] == ["one/editing", "two/editing"] and other_settings(runs) == ""
    runs[1].result["protocol"]["hardened"] = "mine"
    assert other_settings(runs) == ""
    runs[0].result["photographs"], runs[1].result["photographs"] = "aa", "bb"
    assert "differ in photographs:" in other_settings(runs)
    assert [run.name for run in load_runs([runs[0].folder])] == ["editing"]


def test_a_folder_without_rows_is_an_error_that_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match="run: srlvae bench"):
        write_report([tmp_path], tmp_path / "out")
    # Nothing is claimed for what is not written.
    (tmp_path / "poisoning.json").write_text("{}")
    with pytest.raises(InputError, match="has poisoning.json: give it alone"):
        write_report([write_run(tmp_path / "run"), tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def poisoning_rows() -> list[Row]:
    """A pair and two seeds: without poison nothing, with 80 poisons half and all of the images are called the target."""
    rows = []
    for seed, shares in ((0, (0.0, 0.5)), (1, (0.0, 1.0))):
        for defence, share_of in (("none", 1.0), ("hardened", 0.0)):
            for count, share in zip((0, 80), shares, strict=True):
                called = share * share_of
                values = {"target": called, "concept": 1 - called, "neither": 0.0, "others": 0.75, "clip_t": 0.5}
                measures = {name: Estimate(value, value, value, 4) for name, value in values.items()}
                attack, eps = ("nightshade", "10/255") if count else ("none", "0")
                about = {"attack": attack, "eps": eps, "concept": "cat", "target": "dog", "poisons": count, "seed": seed}
                rows.append(Row(about, access_of("original" if count else "", defence), defence, 4, measures))
    return rows


def poisoning_result() -> dict:
    protocol = {"pairs": [{"concept": "cat", "target": "dog"}], "counts": [0, 80], "eps": ["10/255"], "seeds": [0, 1]}
    return {"benchmark": "poisoning", "protocol": protocol, "points": 10, "rows": as_data(poisoning_rows())}


def test_shares_are_pooled_over_fine_tunings():
    poisoned = [row for row in find_rows(poisoning_rows(), defence="none") if row.condition["poisons"]]
    # Eight images of two fine-tunings, half and all of which are called the target: they vary like 1.5 independent images.
    found = pooled_share(poisoned, "target")
    assert (found.value, found.n) == (0.75, 8)
    assert (found.low, found.high) == pytest.approx(wilson_interval(0.75, 0.75 * 0.25 / (0.125 / 2), 12.706))
    # Of one fine-tuning alone the images are what there is to count.
    alone = pooled_share(find_rows(poisoned, seed=0), "target")
    assert alone == Estimate(0.5, *wilson_interval(0.5, 4), 4) and share_over_pairs(poisoned, "target") is None
    said = {line[0]: line[1:] for line in defences_table(poisoning_result(), likeness=True)[1]}
    assert said["original"] == ["75 % [1, 100]", "25 % [0, 99]", "75 % [3, 100]", "0.500"]
    assert said["hardened, no poison"][0] == "0 % [0, 95]"
    assert counts_table(poisoning_result())[1][1][:3] == ["80", "75 % [1, 100]", "0 % [0, 95]"]


def test_shares_of_pairs_have_an_interval_for_these_pairs_and_one_over_pairs():
    # Two pairs of two fine-tunings: the pairs are far apart, and each pair's fine-tunings close together.
    shares = {("cat", "dog"): (0.25, 0.5), ("car", "cat"): (0.75, 1.0)}
    rows = []
    for (concept, target), of_pair in shares.items():
        for seed, share in enumerate(of_pair):
            about = {"attack": "nightshade", "eps": "10/255", "concept": concept, "target": target, "poisons": 80, "seed": seed}
            rows.append(Row(about, "transfer", "hardened", 400, {"target": Estimate(share, None, None, 400)}))
    these, over = pooled_share(rows, "target"), share_over_pairs(rows, "target")
    assert over and (these.value, these.n, over.value, over.n) == (0.625, 1600, 0.625, 1600)
    # By hand: each pair's variance is .03125, of which two fine-tunings leave half, and two pairs a quarter.
    assert (these.low, these.high) == pytest.approx(wilson_interval(0.625, 0.625 * 0.375 / (2 * 0.03125 / 2 / 4), 4.303))
    assert (over.low, over.high) == pytest.approx(wilson_interval(0.625, 0.625 * 0.375 / (0.125 / 2), 12.706))
    # Without poison, both pairs are of the same fine-tunings.
    clean = [replace(row, condition=row.condition | {"poisons": 0}) for row in rows]
    apart = wilson_interval(0.625, 0.625 * 0.375 / (0.03125 / 2), 12.706)
    assert (pooled_share(clean, "target").low, pooled_share(clean, "target").high) == pytest.approx(apart)
    assert format_pooled(rows, "target").startswith("62 % [") and "; over pairs [" in format_pooled(rows, "target")


def test_curves_begin_without_poison():
    lines = curves(poisoning_result(), "10/255")["cat → dog"]
    assert [(n, share) for n, share, _ in lines["no defence"]] == [(0, 0), (80, 0.75)]
    assert [share for _, share, _ in lines["hardened"]] == [0, 0]
    assert curves(poisoning_result(), "8/255")["cat → dog"] == {}


def test_the_poisoning_page_shows_what_is_there_and_says_what_is_missing(tmp_path):
    result = poisoning_result()
    result["protocol"]["eps"] = ["8/255", "10/255"]
    (tmp_path / "poisoning.json").write_text(json.dumps(result))
    for row in read_rows(result["rows"]):
        write_image(tmp_path / "sheets" / sheet_name(row.condition, row.access, row.defence), torch.rand(3, 60, 400))
    text = write_report([tmp_path]).read_text(encoding="utf-8")
    assert "cat → dog" in text and "(25 %)" in text and "<svg" in text and "data:image/jpeg" in text
    assert "2 points are still to be run" in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["desk", "phone"])
def test_the_page_reads_well_in_a_browser(tmp_path, scheme, size):
    """Nothing wider than the window but what scrolls by itself; text apart from its ground; the measure can be chosen, a sheet
    enlarged; nothing fails."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    page_file = write_report([write_run(tmp_path / "run")])
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(page_file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        colours = page.evaluate("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
        ink, ground = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
        assert (ink < ground) == (scheme == "light") and abs(ink - ground) > 400
        page.select_option("select", index=1)
        shown = [table.is_visible() for table in page.query_selector_all(".measure")]
        assert shown.index(True) == 1 and sum(shown) == 1
        picture = page.query_selector(".sheet img")
        before = picture.bounding_box()["width"]
        picture.click()
        assert picture.bounding_box()["width"] > 2 * before and errors == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        browser.close()


def test_what_an_attacker_who_knows_the_scan_keeps_is_beside_what_is_detected():
    def row(defence: str, weight: float, **measures: float) -> Row:
        about = {"attack": "latent", "eps": "8/255", "weight": weight}
        return Row(about, "white-box", defence, 4, {name: Estimate(share, None, None, 4) for name, share in measures.items()})

    clean = Row({"attack": "none", "eps": "0"}, "none", "scan", 4, {"found": Estimate(0.0, None, None, 4)})
    found = [row("scan", w, auroc=1.0 - w / 4, found=1.0 - w, unlike=0.0) for w in (0.0, 0.5)]
    kept = [row(defence, w, kept=1.0 - w * off) for w in (0.0, 0.5) for defence, off in (("none", 0.5), ("hardened", 1.0))]
    titles, lines = knowing_table({"rows": as_data([clean, *found, *kept])})
    assert len(titles) == 7 and [line[:2] for line in lines] == [["latent 8/255", "0"], ["latent 8/255", "0.5"]]
    assert lines[1][2] == "0.88" and lines[1][3].startswith("50 % [") and lines[1][5:] == ["75 %", "50 %"]


def test_the_share_of_an_attacks_fall_by_half_of_its_steps_and_a_panel_for_each():
    start = [[10, 4.0], [20, 1.0], [30, 0.5], [40, 0.0]]
    assert half_way(start, 40) == half_way([*start, [50, 4.0], [60, 3.0], [70, 2.0], [80, 1.0]], 40) == "75%"
    assert half_way([[10, 1.0], [20, 2.0]], 20) == "none"
    drawn = plot_curves({"rows": {name: {"curve": [[1, 2.0], [2, 1.0]]} for name in ("one", "two")}})
    assert "one" in drawn and "two" in drawn


def test_a_run_whose_name_begins_with_a_low_line_is_in_the_legend():
    points = [(60.0, 1.0, (0.9, 1.1)), (120.0, 0.5, (0.4, 0.6))]
    named, hidden = (plot_hardening({"shift": {name: points}}).count("<text") for name in ("run", "_run"))
    assert named == hidden


def test_every_run_has_a_curve_of_its_own_however_many_there_are():
    lines = {f"run {i}": [(60.0, i, (None, None)), (120.0, i + 1, (None, None))] for i in range(20)}
    drawn = plot_hardening({"shift": lines})
    assert all(f"run {i}" in drawn for i in range(20))
