"""Tables of captions: metadata.jsonl and .csv as of Hugging Face's imagefolder, and meta_cap.json as of kohya's scripts."""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from srlvae import opened
from srlvae.errors import InputError
from srlvae.images.walk import visible

# Names under which tables lie in a folder of images; the first that is there counts.
TABLES = ("metadata.jsonl", "metadata.csv", "meta_cap.json")
NAME, TEXTS = "file_name", ("text", "caption")


def find_tables(folder: Path) -> list[Path]:
    """The tables of captions in a folder and those below it, one a folder; those further up come first."""
    found = []
    for above, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(visible(folders))
        if there := [name for name in TABLES if name in names]:
            found.append(Path(above, there[0]))
    return found


def captions_of(table: Path, paths: Sequence[Path], root: Path, column: str | None) -> dict[Path, str]:
    """The captions that a table has for the images `paths`.

    A name in the table is a path relative to the table's folder, to `root`, or to the folder above one of the two, or a whole
    path. Where no image has it exactly, it may have backslashes as on Windows, and accents in another form of Unicode, as macOS
    writes them. Names in a .json may lack the suffix. `column` has the captions; by default it is `text` or `caption`.

    Raises InputError that names the table and what is wrong with it.
    """
    bare = table.suffix.lower() == ".json"
    known = {_normal(path): path for path in paths}
    if bare:
        known = {_normal(path.with_suffix("")): path for path in paths} | known
    alike = {_alike(place): path for place, path in known.items()}
    folders = dict.fromkeys((table.parent, root, table.parent.absolute().parent, root.absolute().parent))
    found: dict[Path, str] = {}
    for name, caption in _rows(table, column):
        places = [_normal(folder / name) for folder in folders]
        others = [_alike(_normal(folder / name.replace("\\", "/"))) for folder in folders]
        exact = (known[place] for place in places if place in known)
        path = next(exact, next((alike[place] for place in others if place in alike), None))
        if path is not None:
            found[path] = caption
    return found


def read_text(path: Path) -> str:
    """Read a text of captions. Raises InputError that names the file."""
    try:
        if not os.path.isfile(path):
            raise OSError("it does not exist, or is not a file")
        return opened.read_text(path)
    except (OSError, ValueError, MemoryError) as error:
        raise InputError(f"cannot read captions from {path}, text in UTF-8: {error}") from error


def _normal(path: Path) -> str:
    return os.path.abspath(path)


def _alike(place: str) -> str:
    """What the same name is in either form of Unicode."""
    return unicodedata.normalize("NFC", place)


def _rows(table: Path, column: str | None) -> Iterator[tuple[str, str]]:
    """Names and captions, line by line."""
    for number, row in enumerate(_read(table), 1):
        where = f"cannot read captions from {table}: entry {number}"
        if not isinstance(row, Mapping):
            raise InputError(f"{where} is {row!r:.60}, not a {NAME} with a caption")
        name = row.get(NAME)
        if not isinstance(name, str):
            raise InputError(f"{where} has no {NAME}, which names the image; it has {_keys(row)}")
        key = column or next((key for key in TEXTS if row.get(key) is not None), None)
        if key is None or row.get(key) is None:
            if empty := next((key for key in ([column] if column else TEXTS) if key in row), None):
                raise InputError(f"{where} has nothing in {empty}; write a caption for {name}, or remove the line")
            wanted = column or " or ".join(TEXTS)
            raise InputError(f"{where} has no {wanted}; it has {_keys(row)}: name one with --caption-column")
        if not isinstance(row[key], str) or not _is_text(row[key]):
            raise InputError(f"the caption of {name} in {table} is not text: {row[key]!r:.60}")
        yield name, row[key]


def _is_text(caption: str) -> bool:
    """Whether it can be written: JSON may have halves of characters."""
    return caption.encode("utf-8", "replace").decode() == caption


def _keys(row: Mapping[str, Any]) -> str:
    return ", ".join(map(str, row)) or "nothing"


def _read(table: Path) -> list[Any]:
    """The rows of a table. Raises InputError if it cannot be read as what its name says."""
    text = read_text(table)
    try:
        if table.suffix.lower() == ".csv":
            # Spreadsheets of many countries write semicolons.
            delimiter = max(",;\t", key=text.partition("\n")[0].count)
            rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
            return [_whole(rows.line_num, row, delimiter) for row in rows]
        if table.suffix.lower() == ".json":
            content = json.loads(text)
            return _kohya(content) if isinstance(content, dict) else list(content)
        # Not splitlines: captions may have separators that JSON leaves as they are.
        return [_entry(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    except (ValueError, TypeError, RecursionError, csv.Error) as error:
        raise InputError(f"cannot read captions from {table}, lines with {NAME} and a caption: {error}") from error


def _whole(line: int, row: dict[Any, Any], delimiter: str) -> dict[str, Any]:
    """A row of a CSV. Raises ValueError where a caption was cut at a delimiter, since it stands in no quotes."""
    if None in row:
        raise ValueError(f"line {line} has more cells than the first line; put captions with {delimiter!r} in quotes")
    return row


def _entry(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number} is no JSON ({error})") from error


def _kohya(content: dict[str, Any]) -> list[Any]:
    """One entry an image under its name; without a caption, its tags are one."""
    rows = []
    for name, entry in content.items():
        if not isinstance(entry, dict):
            raise ValueError(f"{name} has {entry!r:.60} and not an entry with a caption")
        tags = {"caption": entry["tags"]} if "tags" in entry and not any(key in entry for key in TEXTS) else {}
        rows.append({NAME: name, **entry, **tags})
    return rows
