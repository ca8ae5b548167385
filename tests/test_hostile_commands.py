"""What others may have put in the way of a command, driven through the command line: a sentence that names it, nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

from broken import BROKEN, ODD, make_folder, make_names, picture
from conftest import small_kl
from pipelines import little
from test_left_out import other, run, table

# Seconds after which a command hangs: whatever waits for a pipe waits for ever.
PATIENCE = 120


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Small models and pictures."""
    folder = tmp_path_factory.mktemp("hostile")
    vae = small_kl()
    vae.save(folder / "vae")
    little(vae).pipe.save_pretrained(folder / "pipe")
    other().save(folder / "other")
    for concept in ("a", "b", "c"):
        (folder / "photographs" / concept).mkdir(parents=True)
        for i in range(4):
            picture(i + ord(concept)).save(folder / "photographs" / concept / f"{i}.png")
    (folder / "reconstruction.toml").write_text(
        'attacks = ["latent"]\neps = ["8/255"]\nsteps = 1\nimages = 2\nclean_images = 2\nsize = 16\nbatch_size = 2\n'
    )
    (folder / "editing.toml").write_text(
        f'pipeline = "{folder / "pipe"}"\nhardened = "{folder / "other"}"\nclip = "tiny-clip"\nimages = 2\nsteps = 2\n'
        'guidance = 1.0\nprompts = ["a cat"]\nattacks = [{ name = "latent", eps = ["8/255"], steps = 1 }]\npurifiers = []\n'
    )
    (folder / "poisoning.toml").write_text(
        f'pipeline = "{folder / "pipe"}"\nhardened = "{folder / "other"}"\ncounts = [1]\nwhite_box = false\n'
        "dirty_label = false\nseeds = [0]\nsources = 2\nsteps = 1\nbatch_size = 2\nattack_steps = 1\nclean_each = 2\n"
        'generated = 2\nothers = 1\ndenoising_steps = 2\npairs = [{ concept = "watch", target = "chandelier" }]\n'
        'concepts = [{ folder = "a", word = "airplane" }, { folder = "b", word = "watch" },'
        ' { folder = "c", word = "chandelier" }]\n'
    )
    (folder / "mimicry.toml").write_text(
        f'pipeline = "{folder / "pipe"}"\nhardened = "{folder / "other"}"\nsteps = 1\nbatch_size = 2\neach = 1\njudged = 2\n'
        'held_out = 1\ngenerated = 1\ndenoising_steps = 2\nstyles = [{ kind = "halftone" }]\n'
        'attacks = [{ name = "latent", eps = ["8/255"], steps = 1 }]\n'
        'concepts = [{ folder = "a", word = "airplane" }, { folder = "b", word = "watch" }]\n'
    )
    return folder


def words(command: str, place: Path, images: Path, out: Path) -> list[object]:
    """The shortest work of a command on a folder of images."""
    vaes, pipeline = ["--original", place / "vae", "--hardened", place / "other"], ["--pipeline", place / "pipe"]
    quick = "--precision no --batch-size 2 --steps 2 --checkpoint-every 1".split()
    known: dict[str, list[object]] = {
        "attack": ["attack", "latent", images, "--vae", place / "vae", "--steps", 1],
        "edit": ["edit", images, *pipeline, "--prompt", "a", "--steps", 1, "--strength", 1],
        "finetune": ["finetune", "--images", images, *pipeline, "--prompt", "a cat", *quick],
        "scan": ["scan", images, "--clean", place / "photographs", *vaes, "--rate", 0.2, "--precision", "no"],
        "harden": ["harden", place / "vae", "--images", images, *quick, *"--resolution 16 --features none --workers 0".split()],
        "reconstruction": ["bench", "reconstruction", *vaes, "--images", images, "--protocol", place / "reconstruction.toml"],
        "editing": ["bench", "editing", "--images", images, "--protocol", place / "editing.toml"],
        "poisoning": ["bench", "poisoning", "--images", images, "--protocol", place / "poisoning.toml"],
        "mimicry": ["bench", "mimicry", "--images", images, "--protocol", place / "mimicry.toml"],
    }
    return [*known[command], "--out", out]


COMMANDS = ("attack", "edit", "finetune", "scan", "harden", "reconstruction")
LONG = [pytest.param(name, marks=pytest.mark.slow) for name in ("editing", "poisoning", "mimicry")]
every_command = pytest.mark.parametrize("command", [*COMMANDS, *LONG])


@contextmanager
def patience():
    """An error in place of a wait that does not end."""

    def ring(*_):
        raise TimeoutError("it waits for ever")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def folder_for(command: str, folder: Path, make: Callable[[Path], object]) -> Path:
    """A folder with what `make` makes in it, or in each of the class folders that a command needs."""
    for part in ("a", "b", "c") if command in ("poisoning", "mimicry") else (".",):
        (folder / part).mkdir(parents=True, exist_ok=True)
        make(folder / part)
    return folder


@every_command
def test_hostile_files_are_named_and_the_rest_is_done(command, place, tmp_path, monkeypatch):
    images = folder_for(command, tmp_path / "in", lambda folder: make_folder(folder, 24))
    with patience():
        assert run(monkeypatch, *words(command, place, images, tmp_path / "out")) == 3
    (where,) = {path.parent for path in (tmp_path / "out").rglob("left-out.csv")}
    rows = table(where)
    found = {name for name, (what, _) in rows.items() if what == "all"}
    # A benchmark looks at no more photographs than it needs.
    assert found == set(BROKEN) if command in COMMANDS[:5] else found and found <= set(BROKEN)
    assert all(BROKEN[name][1] in rows[name][1] for name in found)
    for name, (_, reason) in ODD.items():
        # Those of which nothing is left out are in no table.
        assert (name in rows) <= bool(reason)
        if reason and command in COMMANDS[:5]:
            assert rows[name][0] == "a part" and reason in rows[name][1], name
    assert not Path("/tmp/srlvae-was-run").exists()


@every_command
def test_hostile_names_are_names(command, place, tmp_path, monkeypatch, capsys):
    def make(folder: Path) -> None:
        for i in range(4):
            picture(i).save(folder / f"{i}.png")
        make_names(folder, lambda path, number: picture(number).save(path))

    images = folder_for(command, tmp_path / "in", make)
    assert run(monkeypatch, *words(command, place, images, tmp_path / "out")) == 0
    said = capsys.readouterr()
    assert all(letter.isprintable() or letter == "\n" for letter in said.out)
    assert not list((tmp_path / "out").rglob("left-out.csv"))


# --- a folder with results, in which somebody has changed a file


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory) -> Callable[[str, pytest.MonkeyPatch], Path]:
    """The folder of a command that has ended or, where a finished one is refused, that was stopped."""
    made: dict[str, Path] = {}

    def run_once(command: str, monkeypatch: pytest.MonkeyPatch) -> Path:
        if command not in made:
            out = tmp_path_factory.mktemp("whole") / command
            with monkeypatch.context() as context:
                if command in ("harden", "finetune"):
                    context.setattr(f"srlvae.{command}.{'train.finish' if command == 'harden' else 'folder.fill_folder'}", stop)
                code = run(context, *words(command, place, place / "photographs", out))
            assert code == (130 if command in ("harden", "finetune") else 0)
            made[command] = out
        return made[command]

    return run_once


def stop(*_, **__):
    raise KeyboardInterrupt


PRIVATE = "a private word\n"


def fifo(file: Path, private: Path) -> None:
    os.mkfifo(file)


def link(file: Path, private: Path) -> None:
    file.symlink_to(private)


def folder(file: Path, private: Path) -> None:
    file.mkdir()


def holes(file: Path, private: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(2**42)


def written(content: bytes) -> Callable[[Path, Path], object]:
    return lambda file, private: file.write_bytes(content)


HOSTILE: dict[str, Callable[[Path, Path], object]] = {
    "pipe": fifo,
    "link": link,
    "folder": folder,
    "holes": holes,
    "empty": written(b""),
    "utf-16": written('{"sha256": 1}'.encode("utf-16")),
    "mark": written(b"\xef\xbb\xbf{}"),
    "brackets": written(b"[" * 100_000),
    "numbers": written(b'{"step": 1e999, "rows": NaN, "seed": ' + b"9" * 4000 + b"}"),
    "twice": written(b'{"a": 1, "a": {"b": []}, "source": [], "sha256": {}}'),
    "header": written(b"\xff\xff\xff\x7f\0\0\0\0{}"),
}
# Files that a command reads or adds to when it goes on.
READ = {
    "attack": (".attack.json", "a/0.json", "a/0.png"),
    "edit": ("pictures.json", "a/0.json", "a/0.png"),
    "finetune": ("checkpoints/run.json", "checkpoints/.images.json", "checkpoints/last.safetensors"),
    "scan": ("scan.json", "evidence-0.csv", "left-out.csv"),
    "harden": ("checkpoints/run.json", "checkpoints/last.safetensors", "log.jsonl"),
    "reconstruction": ("reconstruction.json", "benchmark.json"),
}


# One of each command and of each sort of file; the others take minutes.
QUICK = {
    ("attack", ".attack.json", "link"),
    ("edit", "a/0.png", "pipe"),
    ("finetune", "checkpoints/last.safetensors", "header"),
    ("scan", "evidence-0.csv", "pipe"),
    ("harden", "log.jsonl", "link"),
    ("reconstruction", "reconstruction.json", "numbers"),
}
CASES = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
    for case in [(command, name, kind) for command, names in READ.items() for name in names for kind in HOSTILE]
]


@pytest.mark.parametrize(("command", "name", "kind"), CASES)
def test_a_changed_file_in_a_folder_of_results_is_a_sentence_or_made_anew(
    command, name, kind, place, whole, tmp_path, monkeypatch, capsys
):
    private = tmp_path / "private"
    private.write_text(PRIVATE)
    out = Path(shutil.copytree(whole(command, monkeypatch), tmp_path / "out"))
    file = next((path for path in [out / name, *out.rglob(name)] if path.exists()), out / name)
    file.unlink(missing_ok=True)
    HOSTILE[kind](file, private)
    capsys.readouterr()
    with patience():
        code = run(monkeypatch, *words(command, place, place / "photographs", out))
    said = capsys.readouterr()
    # 3 where some of the photographs are copies of those that hardening sets apart.
    assert code in (0, 3) or (code == 2 and str(out) in "".join(said.err.split())), (code, said.err)
    assert private.read_text() == PRIVATE and "private word" not in said.out + said.err


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("finetune", "reconstruction")])
def test_nothing_is_written_through_a_link_to_a_folder_elsewhere(command, place, whole, tmp_path, monkeypatch, capsys):
    private = tmp_path / "private"
    out = Path(shutil.copytree(whole(command, monkeypatch), tmp_path / "out"))
    inside = next(path for path in sorted(out.rglob("*")) if path.is_dir())
    inside.rename(private)
    inside.symlink_to(private)
    before = {path: path.read_bytes() for path in private.rglob("*") if path.is_file()}
    for path in out.rglob("*.png"):
        path.unlink()
    images = place / "photographs"
    if command in ("attack", "edit"):
        # Another picture, so that there is work to do.
        images = Path(shutil.copytree(images, tmp_path / "in"))
        picture(99).save(images / "a" / "0.png")
    assert run(monkeypatch, *words(command, place, images, out)) == 2
    assert str(out) in "".join(capsys.readouterr().err.split())
    assert {path: path.read_bytes() for path in private.rglob("*") if path.is_file()} == before
