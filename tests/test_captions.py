"""Captions in the forms in which people keep them, and errors that say what is wrong with a table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broken import picture
from srlvae.errors import InputError
from srlvae.finetune import read_captions
from srlvae.images import LeftOut

WANTED = {"cats/1.png": "cat 1", "cats/2.jpg": "cat 2", "dogs/1.png": "dog 1"}


@pytest.fixture
def folder(tmp_path) -> Path:
    for i, name in enumerate(WANTED):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(i).save(tmp_path / "in" / name)
    return tmp_path / "in"


def found(folder: Path, *given, **options) -> dict[str, str]:
    paths, texts = read_captions(folder, *given, **options)
    return {path.relative_to(folder).as_posix(): text for path, text in zip(paths, texts, strict=True)}


def lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("column", ["text", "caption"])
def test_metadata_is_read_in_the_folder(column, folder):
    (folder / "metadata.jsonl").write_text(lines([{"file_name": name, column: text} for name, text in WANTED.items()]))
    assert found(folder) == WANTED


def test_metadata_is_read_in_sub_folders_relative_to_it_or_to_the_folder_above(folder):
    own = [{"file_name": "1.png", "text": "cat 1"}, {"file_name": "2.jpg", "text": "cat 2"}]
    (folder / "cats" / "metadata.jsonl").write_text(lines(own))
    (folder / "dogs" / "metadata.csv").write_text("file_name,caption\ndogs/1.png,dog 1\n")
    assert found(folder) == WANTED


def test_metadata_may_name_files_from_the_folder_above_and_whole_paths(folder):
    rows = [{"file_name": f"in/{name}", "text": text} for name, text in list(WANTED.items())[:2]]
    rows.append({"file_name": str(folder / "dogs/1.png"), "text": "dog 1"})
    (folder / "metadata.jsonl").write_text(lines(rows))
    assert found(folder) == WANTED


def test_names_as_other_systems_write_them_are_found(folder):
    (folder / "cats/1.png").rename(folder / "cats/cafe\u0301.png")
    (folder / "metadata.csv").write_text(
        "\ufefffile_name;text\ncats/caf\u00e9.png;cat 1\ncats\\2.jpg;cat, 2\ndogs/1.png;dog 1\n"
    )
    assert found(folder) == {"cats/cafe\u0301.png": "cat 1", "cats/2.jpg": "cat, 2", "dogs/1.png": "dog 1"}
    # An exact name comes first.
    picture(7).save(folder / "cats/caf\u00e9.png")
    with pytest.raises(InputError, match="has no line for it|has no caption"):
        found(folder)


def test_a_table_elsewhere_may_be_relative_to_the_images_or_to_itself(folder, tmp_path):
    (tmp_path / "table.jsonl").write_text(lines([{"file_name": f"in/{name}", "text": text} for name, text in WANTED.items()]))
    assert found(folder, tmp_path / "table.jsonl") == WANTED
    (tmp_path / "table.jsonl").write_text(lines([{"file_name": name, "text": text} for name, text in WANTED.items()]))
    assert found(folder, tmp_path / "table.jsonl") == WANTED


def test_a_column_can_be_named(folder):
    rows = [{"file_name": name, "text": "no", "blip": text} for name, text in WANTED.items()]
    (folder / "metadata.jsonl").write_text(lines(rows))
    assert found(folder, column="blip") == WANTED


@pytest.mark.parametrize("whole", [True, False])
def test_kohyas_metadata_is_read(whole, folder):
    content = {}
    for name, text in WANTED.items():
        content[str(folder / name) if whole else name.rpartition(".")[0]] = {"caption": text, "tags": "no"}
    content[next(iter(content))] = {"tags": "cat 1"}
    (folder / "meta_cap.json").write_text(json.dumps(content))
    assert found(folder) == WANTED


def test_captions_lie_beside_images(folder):
    (folder / "cats" / "1.txt").write_text("cat 1\n")
    (folder / "cats" / "2.caption").write_text(" cat 2")
    (folder / "dogs" / "metadata.jsonl").write_text(lines([{"file_name": "1.png", "text": "dog 1"}]))
    assert found(folder) == WANTED


def test_a_name_may_be_too_long_for_a_file_beside_it(folder):
    picture().save(folder / f"{'n' * 251}.png")
    with pytest.raises(InputError, match="has no caption"):
        read_captions(folder)


def test_a_broken_image_without_a_caption_is_left_out(folder):
    (folder / "metadata.jsonl").write_text(lines([{"file_name": name, "text": text} for name, text in WANTED.items()]))
    (folder / "broken.png").write_bytes(b"")
    left_out = LeftOut()
    assert found(folder, left_out=left_out) == WANTED
    assert [Path(one.file).name for one in left_out.files] == ["broken.png"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.jsonl", '{"image": "1.png", "text": "a"}', "entry 1 has no file_name, .* it has image, text"),
        (
            "metadata.jsonl",
            '{"file_name": "1.png", "words": "a"}',
            "no text or caption; it has file_name, words.*column",
        ),
        ("metadata.jsonl", '{"file_name": "1.png", "text": ["a"]}', "the caption of 1.png in .* is not text"),
        ("metadata.jsonl", '{"file_name": "1.png", "text": null}', "entry 1 has nothing in text; write a caption for 1.png"),
        ("metadata.csv", "file_name,text\n1.png\n", "entry 1 has nothing in text"),
        ("metadata.jsonl", "[1]", "entry 1 is .1."),
        ("metadata.jsonl", "{", "cannot read captions"),
        ("metadata.csv", "file,text\n1.png,a\n", "has no file_name"),
        ("meta_cap.json", '{"1": "a cat"}', "not an entry with a caption"),
        ("meta_cap.json", "7", "cannot read captions"),
    ],
)
def test_a_wrong_table_is_named_with_what_is_wrong(name, content, message, folder):
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read_captions(folder)
    assert name in str(error.value)


def test_a_named_column_that_is_missing_is_an_error_that_lists_the_columns(folder):
    (folder / "metadata.jsonl").write_text(lines([{"file_name": "cats/1.png", "text": "a"}]))
    with pytest.raises(InputError, match="entry 1 has no blip; it has file_name, text"):
        read_captions(folder, column="blip")


def test_how_many_images_have_no_caption_is_said(folder):
    (folder / "cats" / "1.txt").write_text("one")
    with pytest.raises(InputError, match=r"2\.jpg has no caption.*2 of 3 images have none"):
        read_captions(folder)


def test_a_broken_line_is_named_by_its_number(folder):
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a"}\n\nbroken\n')
    with pytest.raises(InputError, match="line 3 is no JSON"):
        found(folder)


def test_a_column_is_not_given_beside_one_caption_for_all(folder):
    with pytest.raises(InputError, match="leave out --caption-column or --prompt"):
        found(folder, prompt="a cat", column="text")


@pytest.mark.parametrize("row", ["1.png,a red cat, on a mat", '1.png, "a red cat, on a mat"'])
def test_a_caption_with_commas_is_read_whole_or_refused(row, folder):
    """In quotes it is one cell, with a space before them, too."""
    table = folder / "cats" / "metadata.csv"
    table.write_text(f"file_name,text\n{row}\n2.jpg,cat 2\n")
    (folder / "dogs" / "1.txt").write_text("dog 1")
    if '"' in row:
        assert found(folder)["cats/1.png"] == "a red cat, on a mat"
    else:
        with pytest.raises(InputError, match=r"metadata\.csv.*line 2 has more cells .*; put captions with ',' in"):
            found(folder)


def test_a_nearer_table_goes_before_one_further_up_and_both_before_a_file_beside(folder):
    (folder / "metadata.jsonl").write_text(lines([{"file_name": name, "text": "further up"} for name in WANTED]))
    own = [{"file_name": Path(name).name, "text": text} for name, text in WANTED.items() if name.startswith("cats/")]
    (folder / "cats" / "metadata.jsonl").write_text(lines(own))
    (folder / "dogs" / "1.txt").write_text("beside")
    assert found(folder) == {**WANTED, "dogs/1.png": "further up"}
