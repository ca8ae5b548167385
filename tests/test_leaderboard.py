"""The leaderboard: a flat row a number, models that are added and measured anew, and tables that say what was not run."""

from __future__ import annotations

import dataclasses
import json

import pytest

from conftest import small_kl
from pipelines import little
from srlvae.bench import distances, edited, estimates
from srlvae.bench.leaderboard import Entry, add_rows, bench_all, digest_of, flags, flat_rows, read_leaderboard
from srlvae.bench.rows import Row, read_rows
from srlvae.errors import InputError
from srlvae.report.leaderboard import about_models, flags_of, leaderboard_tables
from srlvae.report.page import write_report
from test_cells import EDITING, RECONSTRUCTION, folder  # noqa: F401
from test_report import result_of, write_run
from twins import PooledFeatures, SmallClip, hardened_twin

ENTRY = Entry("mine", "me", "arXiv 1")
# What of a protocol changes no number, or is named beside it.
NAMES = ("pipeline", "hardened", "twin", "batch_size")


def entry_of(tmp_path, hardened: float = 20.0, name: str = "mine", **settings) -> list[dict]:
    result = result_of(write_run(tmp_path / name, hardened)) | {"original": "0" * 64, "hardened": "1" * 64}
    result["protocol"] |= settings
    return flat_rows(result, dataclasses.replace(ENTRY, model=name))


def test_there_is_a_flat_row_for_each_number_that_says_all_about_it(tmp_path):
    rows = entry_of(tmp_path)
    own = read_rows(result_of(tmp_path / "mine")["rows"])
    assert len(rows) == sum(len(row.measures) for row in own)
    assert not any(isinstance(value, dict) for row in rows for value in row.values())
    wanted = {"attack": "photoguard-encoder", "eps": "15/255", "access": "white-box", "defence": "hardened", "measure": "kid"}
    (found,) = [row for row in rows if wanted.items() <= row.items()]
    about = {"model": "mine", "who": "me", "paper": "arXiv 1", "benchmark": "editing", "pipeline": "p", "judge": "net", "n": 2}
    assert about.items() <= found.items() and found["value"] == 0.06
    assert found["flags"] == ["another doubt", "it is flat (photographs: 1)"]
    biased = [row["flags"][1:] for row in rows if row["measure"] == "frechet" and row["attack"] == "none"]
    assert biased == [["biased upwards at n = 2"]] * 2


def test_a_distance_in_few_directions_is_biased_at_few_images():
    few, enough = (flags(Row({}, "none", "none", n, {}), "frechet_pca") for n in (319, 320))
    assert few == ["biased upwards at n = 319"] and enough == []


def test_a_model_that_is_added_again_takes_the_place_of_its_rows(tmp_path):
    board = tmp_path / "leaderboard.json"
    first, other = entry_of(tmp_path), entry_of(tmp_path, 70.0, "other")
    add_rows(board, first)
    add_rows(board, other)
    assert read_leaderboard(board) == [*first, *other]
    add_rows(board, [{**row, "value": 5.0} for row in first])
    found = read_leaderboard(board)
    assert len(found) == len(first) + len(other) and {row["value"] for row in found if row["model"] == "mine"} == {5.0}


def test_what_else_was_measured_of_a_model_stays(tmp_path):
    board, first = tmp_path / "leaderboard.json", entry_of(tmp_path)
    others = [[{**row, key: "other"} for row in first] for key in ("protocol", "photographs", "benchmark", "pipeline")]
    add_rows(board, [*first, *(row for rows in others for row in rows)])
    add_rows(board, [{**row, "value": 5.0} for row in first])
    found = read_leaderboard(board)
    assert len(found) == 5 * len(first) and found[: 4 * len(first)] == [row for rows in others for row in rows]


def test_numbers_of_other_photographs_do_not_stand_side_by_side(tmp_path):
    one, other = ([{**row, "photographs": digits} for row in entry_of(tmp_path, name=digits)] for digits in ("aa", "bb"))
    titles = [title for title, (header, _) in leaderboard_tables([*one, *other]) if "kid" in title and len(header) == 5]
    assert [title.rpartition(" ")[2] for title in titles] == ["aa", "bb"]


def test_a_model_in_two_pipelines_has_a_table_for_each(tmp_path):
    rows = [{**row, "pipeline": name} for row in entry_of(tmp_path) for name in ("sd15", "other")]
    titles = [title for title, (header, _) in leaderboard_tables(rows) if "kid" in title and len(header) == 5]
    assert ["pipeline sd15," in titles[0], "pipeline other," in titles[1]] == [True, True]
    assert [line[3] for line in about_models(rows)[1]] == ["sd15", "other"]


def test_the_table_has_a_line_an_attack_and_what_its_maker_knew_and_columns_a_model(tmp_path):
    rows = [*entry_of(tmp_path), *entry_of(tmp_path, 70.0, "other")]
    title, (header, lines) = leaderboard_tables(rows)[0]
    assert title == f"editing: 1000 × kid (net), n = 2, pipeline p, protocol {rows[0]['protocol']}"
    assert header == ["attack", "ε", "access", "mine: original", "mine: hardened", "other: original", "other: hardened"]
    found = {tuple(line[:3]): [cell.split()[0] for cell in line[3:]] for line in lines}
    assert found["photoguard-encoder", "15/255", "transfer"] == ["100.0", "20.0", "100.0", "70.0"]
    assert found["photoguard-encoder", "15/255", "white-box"] == ["–", "60.0", "–", "60.0"]
    assert any("– made on the hardened VAE" in line for line in lines)
    assert about_models(rows)[1][0] == ["mine", "me", "arXiv 1", "p", "1" * 12]
    assert any("it is flat" in flag for flag in flags_of(rows))


@pytest.mark.parametrize("key", [*NAMES, "images", "seed", "strength", "steps", "attacks"])
def test_protocols_are_told_apart_by_all_that_changes_a_number(key):
    protocol = {"pipeline": "p", "hardened": "h", "batch_size": 2, "images": 8, "seed": 0, "strength": 0.5, "steps": 25}
    assert (digest_of(protocol) == digest_of({**protocol, key: "other"})) == (key in NAMES)


def test_numbers_of_other_protocols_do_not_stand_side_by_side(tmp_path):
    few, many = entry_of(tmp_path), entry_of(tmp_path, 70.0, "other", strength=0.9)
    tables = leaderboard_tables([*few, *({**row, "n": 512} for row in many)])
    kid = [(title, header[3:]) for title, (header, _) in tables if "kid" in title]
    about = [f"n = {n}, pipeline p, protocol {rows[0]['protocol']}" for n, rows in ((2, few), (512, many))]
    assert few[0]["protocol"] != many[0]["protocol"] and kid == [
        (f"editing: 1000 × kid (net), {about[0]}", ["mine: original", "mine: hardened"]),
        (f"editing: 1000 × kid (net), {about[1]}", ["other: original", "other: hardened"]),
    ]


def test_another_norm_is_another_budget(tmp_path):
    rows = entry_of(tmp_path)
    _, (_, lines) = leaderboard_tables([*rows, *({**row, "norm": "rms"} for row in rows)])[0]
    assert {line[0] for line in lines} == {"none", "photoguard-encoder", "none (rms)", "photoguard-encoder (rms)"}


def test_a_leaderboard_of_any_name_has_a_page_beside_it(tmp_path):
    board = tmp_path / "run" / "board.json"
    write_run(tmp_path / "run")
    add_rows(board, entry_of(tmp_path))
    page = write_report([board])
    assert page == tmp_path / "run" / "board.html" and "<h1>Leaderboard</h1>" in page.read_text(encoding="utf-8")
    said = (tmp_path / "run" / "board.md").read_text(encoding="utf-8")
    assert "| photoguard-encoder |" in said and "## editing: 1000 × kid (net), n = 2" in said and "\\* mine" in said
    # The page of what else lies there is another one.
    assert "<h1>Leaderboard</h1>" not in write_report([tmp_path / "run"]).read_text(encoding="utf-8")
    with pytest.raises(InputError, match="give one leaderboard alone"):
        write_report([board, tmp_path / "run"])


def test_what_was_made_on_both_vaes_is_white_box_for_either(tmp_path):
    about = {"attack": "latent, on both VAEs", "eps": "15/255", "access": "white-box", "made_on": "both", "measure": "kid"}
    rows = [{**row, **about} for row in entry_of(tmp_path) if row["measure"] == "kid" and row["attack"] == "none"]
    ((_, (_, lines)),) = leaderboard_tables(rows)
    assert [line[:3] for line in lines] == [["latent, on both VAEs", "15/255", "white-box"]]
    assert not any(cell.startswith("–") for cell in lines[0])


@pytest.mark.parametrize("name", ["board.md", "board.html", "board"])
def test_a_leaderboard_that_its_own_page_would_overwrite_is_refused(name, tmp_path):
    add_rows(tmp_path / name, entry_of(tmp_path))
    before = (tmp_path / name).read_bytes()
    with pytest.raises(InputError, match=r"does not end in \.json"):
        write_report([tmp_path / name])
    assert (tmp_path / name).read_bytes() == before


def test_a_file_that_is_no_leaderboard_is_an_error_that_says_so(tmp_path):
    board = tmp_path / "leaderboard.json"
    for text in ('{"rows": [1]}', '{"rows": [{"model": "a"}]}', "{}"):
        board.write_text(text)
        with pytest.raises(InputError, match="is no leaderboard"):
            add_rows(board, [])


def test_one_call_measures_a_model_in_both_benchmarks_and_its_page_names_it(folder, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(distances, "load_features", lambda name: PooledFeatures())
    monkeypatch.setattr(edited, "load_clip", lambda name, device: SmallClip())
    monkeypatch.setattr(estimates, "RESAMPLES", 5)
    attacks = (dataclasses.replace(EDITING.attacks[1], white_box=True),)
    protocols = RECONSTRUCTION, dataclasses.replace(EDITING, attacks=attacks, purifiers=(), prompts_an_image=1)
    given = little(small_kl()), hardened_twin(), folder, tmp_path / "out", protocols, ENTRY
    (tmp_path / "notes.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="is no leaderboard"):
        bench_all(*given, leaderboard=tmp_path / "notes.json")
    assert not (tmp_path / "out" / "reconstruction").exists()
    rows = bench_all(*given)
    assert {row["benchmark"] for row in rows} == {"reconstruction", "editing"}
    assert json.loads((tmp_path / "out" / "leaderboard.json").read_text(encoding="utf-8"))["rows"] == rows
    assert "<h1>Leaderboard</h1>" in write_report([tmp_path / "out"]).read_text(encoding="utf-8")
