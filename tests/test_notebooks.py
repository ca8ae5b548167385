"""The notebooks run from top to bottom with small models, on photographs of a few pixels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from srlvae.quickstart import TEST, cut_photographs

nbclient = pytest.importorskip("nbclient", reason="nbclient, which runs notebooks, is not installed")
nbformat = pytest.importorskip("nbformat", reason="nbformat, which reads notebooks, is not installed")
FOLDER = Path(__file__).parents[1] / "notebooks"
SMALL = {
    "harden_stable_diffusion": {"PIPELINE": "tiny-sd", "PRESET": "cpu", "STEPS": 4, "TEST": "test.png", "EPS": 8 / 255},
    "measure": {"IMAGES": 2, "SIZE": 64, "STEPS": 2, "EPS": (8 / 255,)},
}


def test_every_notebook_is_run_here_and_kept_without_outputs():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SMALL)
    for path in FOLDER.glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_notebook_runs(name, tmp_path):
    cut_photographs(TEST, tmp_path / "photographs", 128)
    (tmp_path / "test.png").write_bytes(sorted((tmp_path / "photographs").iterdir())[0].read_bytes())
    book = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    number = next(i for i, cell in enumerate(book.cells) if "parameters" in cell.metadata.get("tags", ()))
    given = "\n".join(f"{key} = {value!r}" for key, value in SMALL[name].items())
    book.cells.insert(number + 1, nbformat.v4.new_code_cell(given))
    nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    if name == "harden_stable_diffusion":
        assert any("same to the last bit: True" in output.get("text", "") for output in outputs)
        assert (tmp_path / "hardened-vae" / "config.json").is_file()
    else:
        assert any("white-box" in str(output.get("data", {}).get("text/markdown", "")) for output in outputs)
