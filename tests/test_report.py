"""The page of the editing benchmark: what it says follows from the rows, and it can be read in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from srlvae.errors import InputError
from srlvae.images import write_image
from srlvae.report.editing import cost_table, editing_table, load_run, removed
from srlvae.report.editing_page import doubts
from srlvae.report.page import write_report
from srlvae.report.poisoning import curves, pooled, pooled_table
from srlvae.report.verdicts import verdicts

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def measured(frechet: float, clip_i: float) -> dict:
    values = {"net_frechet": frechet, "clip_i_small": clip_i, "net_kid": 0.1, "net_distance": 1.0, "psnr": 20.0, "ssim": 0.5}
    values |= {"clip_t_small": 0.3}
    intervals = {f"{name}_interval": [value * 0.9, value * 1.1] for name, value in values.items() if name != "net_kid"}
    return {**values, **intervals, "distances": [1.0, 1.0]}


def row(attack: str, eps: int, made_on: str, defence: str, frechet: float, clip_i: float, setting: str, found=()) -> dict:
    said = {"attack": attack, "eps": eps, "made_on": made_on, "defence": defence, "setting": setting, "n": 2, "key": "k"}
    return {**said, "doubts": list(found), "measured": measured(frechet, clip_i)}


def write_run(folder: Path, hardened: float = 20.0) -> Path:
    """Rows of an attack at two budgets, where hardening takes the distance from 100 to `hardened`, and a JPEG to 50."""
    rows = [row("none", 0, "", "none", 0.0, 1.0, "any"), row("none", 0, "", "hardened", 5.0, 0.97, "any")]
    for eps in (8, 15):
        rows.append(row("photoguard-encoder", eps, "original", "none", 100.0, 0.6, "white-box"))
        rows.append(row("photoguard-encoder", eps, "original", "hardened", hardened, 0.95, "transfer"))
        rows.append(row("photoguard-encoder", eps, "hardened", "hardened", 60.0, 0.8, "white-box", ["it is flat"]))
        rows.append(row("photoguard-encoder", eps, "original", "jpeg", 50.0, 0.8, "transfer"))
    clean = {}
    for vae, psnr, distance in (("original", 20.0, 1.0), ("hardened", 21.0, 0.9)):
        values = {"psnr": psnr, "ssim": 0.5, "net_distance": distance}
        clean[vae] = {"n": 2, **values, **{f"{name}_interval": [value, value] for name, value in values.items()}}
    protocol = {"pipeline": "p", "hardened": "h", "clip": "small", "features": ["net"], "strength": 0.5, "steps": 25}
    plans = [{"name": "photoguard-encoder", "eps": [8, 15]}]
    result = {
        "benchmark": "editing",
        "protocol": {**protocol, "guidance": 5.0, "attacks": plans, "purifiers": [{"name": "jpeg"}]},
        "images": ["a.png", "b.png"],
        "versions": {"torch": "2"},
        "floor": {"other noise": measured(30.0, 0.98)},
        "reconstruction": clean,
        "costs": {
            "purifiers": {"jpeg": {"seconds": 0.002, "memory": 2e6, "passes": {"encoder": 0, "unet": 0}}},
            "encoder": {"original": 0.01, "hardened": 0.0101},
        },
        "doubts": ["another doubt"],
        "rows": rows,
    }
    folder.mkdir(parents=True)
    (folder / "editing.json").write_text(json.dumps(result))
    write_image(folder / "sheets" / "photoguard-encoder.webp", torch.rand(3, 60, 400))
    return folder


def test_verdicts_follow_from_the_rows(tmp_path):
    good, bad = (load_run(write_run(tmp_path / str(value), value)) for value in (20.0, 70.0))
    assert [holds for holds, _ in verdicts(good)] == [True, True, True, False, True]
    said = [text for _, text in verdicts(good)]
    assert "20.00 → 21.00 dB" in said[0] and "5.0 from those" in said[1] and "by 30.0" in said[1]
    assert "a factor of 5.00" in said[2] and "60% of the distance" in said[3] and "it takes 0.002 s" in said[4]
    assert [holds for holds, _ in verdicts(bad)] == [True, True, False, False, False]
    assert "better than hardening on photoguard-encoder" in verdicts(bad)[4][1]


def test_the_table_has_a_line_a_set_and_a_column_a_defence(tmp_path):
    run = load_run(write_run(tmp_path / "run"))
    header, lines = editing_table(run, run.measures()[0])
    assert header[3:] == ["no defence", "hardened", "jpeg"] and len(lines) == 5
    assert lines[1] == ["photoguard-encoder", "8/255", "transfer", *lines[1][3:]]
    assert [cell.split()[0] for cell in lines[1][3:]] == ["100.0", "20.0", "50.0"] and lines[2][3] == ""


def test_gains_and_costs_stand_beside_each_other(tmp_path):
    run = load_run(write_run(tmp_path / "run"))
    assert removed(run, "hardened") == pytest.approx(0.8) and removed(run, "jpeg") == pytest.approx(0.5)
    own, jpeg = cost_table(run)[1]
    assert own[0] == "hardened" and own[2:] == ["0", "0", "80%"] and "+0.10 ms" in own[1]
    assert jpeg == ["jpeg", "0.002", "2 MB", "0", "50%"]


def test_doubts_name_few_images_the_network_and_the_attacks(tmp_path):
    text = " ".join(doubts(load_run(write_run(tmp_path / "run"))))
    assert "of 2 images" in text and "No number here is FID" in text and "it is flat (1 of 2 photographs)" in text
    assert "another doubt" in text


def test_a_run_that_was_cut_off_has_a_page_that_says_so(tmp_path):
    folder = write_run(tmp_path / "run")
    result = json.loads((folder / "editing.json").read_text())
    whole = result["rows"]
    for rows in range(1, len(whole)):
        cut = {key: value for key, value in result.items() if key != "doubts"} | {"costs": {}, "rows": whole[:rows]}
        (folder / "editing.json").write_text(json.dumps(cut))
        assert "not finished" in write_report([folder]).read_text(encoding="utf-8")


def test_several_runs_stand_side_by_side(tmp_path):
    folders = [write_run(tmp_path / name, value) for name, value in (("one", 20.0), ("two", 70.0))]
    text = write_report(folders, tmp_path / "both").read_text(encoding="utf-8")
    assert "Side by side" in text and "100.0 → 20.0" in text and "100.0 → 70.0" in text
    assert not re.search(r'(src|href)="(?!data:|#)', text), "the page is to be one file"
    assert "| photoguard-encoder | 15/255 |" in (folders[1] / "table.md").read_text(encoding="utf-8")


def test_a_folder_without_rows_is_an_error_that_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match="run: srlvae bench"):
        write_report([tmp_path])


def test_the_poisoning_page_pools_seeds_and_begins_its_curves_without_poison(tmp_path):
    rows = []
    for seed, shares in ((0, (0.0, 0.5)), (1, (0.0, 1.0))):
        for defence, factor in (("none", 1.0), ("hardened", 0.0)):
            for count, share in zip((0, 80), shares, strict=True):
                judged = {
                    "target": share * factor,
                    "concept": 1 - share * factor,
                    "neither": 0.0,
                    "others": 0.75,
                    "clip_t": 0.5,
                }
                judged |= {f"{name}_n": 4 for name in tuple(judged)}
                kind = "transfer" if count else ""
                said = {"concept": "cat", "target": "dog", "kind": kind, "eps": 10 if count else 0, "count": count}
                rows.append({**said, "defence": defence, "seed": seed, "judged": judged, "sheet": f"{len(rows)}.webp"})
    protocol = {"pairs": [{"concept": "cat", "target": "dog"}], "counts": [0, 80], "eps": [10], "seeds": [0, 1]}
    result = {"benchmark": "poisoning", "protocol": protocol, "points": 10, "rows": rows}
    # Eight images of two fine-tunings, half and all of which are called the target.
    assert pooled([row for row in rows if row["count"] and row["defence"] == "none"], "target") == (0.75, (0.5, 1.0))
    # Of one fine-tuning alone the images are what there is to draw from.
    share, (low, high) = pooled(
        [row for row in rows if row["count"] and row["defence"] == "none" and row["seed"] == 0], "target"
    )
    assert low < share == 0.5 < high
    said = {tuple(line[:4]): line[4:] for line in pooled_table(result)[1]}
    assert said["no defence", "transfer", "10/255", "80"][:2] == ["75% [50%, 100%]", "25% [0%, 50%]"]
    assert said["hardened", "", "", "0"][0] == "0% [0%, 0%]"
    lines = curves(result, 10)["cat → dog"]
    assert [(n, share) for n, share, _ in lines["no defence"]] == [(0, 0), (80, 0.75)]
    assert [share for _, share, _ in lines["hardened"]] == [0, 0]
    assert curves(result, 8)["cat → dog"] == {}
    result["protocol"]["eps"] = [8, 10]
    (tmp_path / "poisoning.json").write_text(json.dumps(result))
    for row in rows:
        write_image(tmp_path / "sheets" / row["sheet"], torch.rand(3, 60, 400))
    text = write_report([tmp_path]).read_text(encoding="utf-8")
    assert "cat → dog" in text and "75% (25%)" in text and "<svg" in text and "data:image/jpeg" in text
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
