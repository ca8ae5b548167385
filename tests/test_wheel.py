"""The wheel holds all of the package, and runs where nothing of the repository is."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
IN_PYTHON = """
import srlvae
from srlvae.attacks.files import attack_files
from srlvae.attacks.prepared import prepare
from srlvae.attacks.request import Request
from pathlib import Path
vae = srlvae.load_vae("tiny")
(record,) = attack_files(prepare(Request("latent", steps=2), vae), [Path("photo.png")], Path("attacked"))
print(srlvae.__file__, vae.fingerprint(), record["effective_eps"])
"""


def ran(*words: object, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    ran(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (found,) = folder.glob("srlvae-*.whl")
    return found


@pytest.fixture(scope="module")
def binaries(wheel, tmp_path_factory) -> Path:
    """The programs of an environment with the wheel; what it depends on is that of this one."""
    folder = tmp_path_factory.mktemp("elsewhere") / "environment"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    ran(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=folder)
    site = Path(ran(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # Paths in such a file are added after its own folder, and files like it in there, as of an editable install, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return python.parent


@pytest.mark.slow
def test_every_file_of_the_package_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as opened:
        inside = set(opened.namelist())
    files = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "srlvae").rglob("*") if path.is_file()}
    assert {name for name in files if "__pycache__" not in name} <= inside


@pytest.mark.slow
def test_the_installed_package_runs_where_the_repository_is_not(binaries, tmp_path):
    Image.effect_noise((64, 64), 60).convert("RGB").save(tmp_path / "photo.png")
    assert "quickstart" in ran(binaries / "srlvae", "--help", cwd=tmp_path)
    place, _, eps = ran(binaries / "python", "-c", IN_PYTHON, cwd=tmp_path).split()
    assert str(ROOT) not in place and eps == "8/255"
    words = ("attack", "reconstruction", "photo.png", "--steps", 2, "--out", "out")
    assert "contact sheet" in ran(binaries / "srlvae", *words, cwd=tmp_path).lower()
