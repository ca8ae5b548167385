"""The page in a real browser: each tab to its picture, a phone, dark and light, what is broken, two users at once."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from srlvae.app.samples import photographs
from srlvae.images import read_square, to_pil

pytest.importorskip("gradio", reason="gradio, of the extra app, is not installed")
pytest.importorskip("playwright", reason="playwright, which drives the browser, is not installed")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")]
RECIPE = Path(__file__).parents[1] / "recipes" / "screenshots.py"
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def shots():
    spec = importlib.util.spec_from_file_location("screenshots", RECIPE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    """Where the page of these tests keeps its temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def address(shots, room):
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(room)
    try:
        with shots.page_of() as (address, _):
            yield address
    finally:
        os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)


@pytest.fixture(scope="module")
def chromium(shots):
    with shots.browser() as opened:
        yield opened


@pytest.fixture
def visit(chromium, address):
    """Opens the page as somebody new, with what `new_context` takes."""
    contexts = []

    def visit(**options):
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.goto(address)
        return page

    yield visit
    for context in contexts:
        context.close()


def shown(panel, label: str) -> Image.Image:
    """The picture under a label, as the page got it."""
    source = panel.locator(f"img[alt='{label}']").get_attribute("src")
    return Image.open(io.BytesIO(panel.page.request.get(source).body())).convert("RGB")


def upload(panel, path: Path) -> None:
    panel.locator("input[type=file]").first.set_input_files(str(path))
    panel.locator(".image-container img, .image-frame img").first.wait_for(state="attached")


@pytest.mark.parametrize("tab", ["attack", "edit", "scan", "compare"])
def test_a_click_on_an_example_drives_each_tab_to_its_picture_within_a_minute(shots, chromium, tab):
    with shots.page_of() as (address, process):
        page = chromium.new_page()
        asked: set[str] = set()
        page.on("request", lambda request: asked.add(request.url))
        page.goto(address)
        panel = shots.TABS[tab](page)
        pictures = panel.locator("img:not([src=''])").count()
        page.close()
        took = sum(psutil.Process(process.pid).cpu_times()[:2])
    assert pictures >= 6
    # Nothing comes from another machine: no fonts, no scripts, no counting of users.
    assert {url for url in asked if not url.startswith((address, "data:", "blob:"))} == set()
    # Of processor time, since the machine may have other work: on a quiet one it is no less than what a user waits.
    assert took < 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_has_nothing_to_scroll_sideways_dark_or_light(shots, visit, scheme):
    page = visit(viewport=PHONE, color_scheme=scheme)
    for drive in shots.TABS.values():
        drive(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    levels = [int(part) for part in colour.removeprefix("rgba(").removeprefix("rgb(").rstrip(")").split(",")[:3]]
    assert max(levels) < 80 if scheme == "dark" else min(levels) > 200


def test_a_broken_upload_gives_a_sentence_and_the_page_goes_on(shots, visit, tmp_path):
    broken = tmp_path / "<b>holiday.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    page = visit()
    panel = shots.open_tab(page, "Attack")
    panel.locator("input[type=file]").first.set_input_files(str(broken))
    page.wait_for_timeout(1500)
    panel.get_by_role("button", name="Attack", exact=True).click()
    toast = page.locator(".toast-body")
    toast.wait_for()
    said = toast.inner_text()
    assert "holiday.png: not a readable image" in said and "Traceback" not in said and "/tmp" not in said
    shots.click_example(panel, 0)
    shots.finish(panel)


def test_without_a_picture_the_page_says_what_to_do(shots, visit):
    page = visit()
    for name, button in (("Attack", "Attack"), ("Edit", "Attack and edit"), ("Scan", "Scan"), ("Compare", "Compare")):
        panel = shots.open_tab(page, name)
        panel.get_by_role("button", name=button, exact=True).click()
        page.locator(".toast-body", has_text="first").last.wait_for()
        page.locator(".toast-close").last.click()


def test_two_users_at_once_get_their_own_pictures(shots, visit):
    pages = [visit(), visit()]
    panels = [shots.open_tab(page, "Attack") for page in pages]
    for number, panel in enumerate(panels):
        shots.click_example(panel, number)
    for number, panel in enumerate(panels):
        shots.finish(panel)
        own = to_pil(read_square(photographs()[number], 128))
        assert shown(panel, "Picture").tobytes() == own.tobytes()
    attacked = [shown(panel, "Attacked") for panel in panels]
    assert attacked[0].tobytes() != attacked[1].tobytes()


def test_what_is_downloaded_keeps_the_budget(shots, visit):
    page = visit()
    panel = shots.TABS["attack"](page)
    clean, attacked = (shown(panel, label).tobytes() for label in ("Picture", "Attacked"))
    assert 0 < max(abs(a - b) for a, b in zip(clean, attacked, strict=True)) <= 16


def test_stop_ends_the_work_and_frees_the_queue(shots, visit):
    page = visit()
    panel = shots.open_tab(page, "Attack")
    panel.get_by_label("Attack", exact=True).click()
    page.get_by_role("option", name="adaptive").click()
    panel.get_by_label("number input for Steps").fill("400")
    shots.click_example(panel, 0)
    page.wait_for_timeout(4000)
    panel.get_by_role("button", name="Stop").click()
    started = time.monotonic()
    # Somebody else's turn comes at once: at 400 steps with restarts the attack would have taken minutes.
    shots.TABS["compare"](visit())
    assert time.monotonic() - started < 45


def test_nothing_is_left_when_the_page_ends(shots, chromium, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with shots.page_of() as (address, _):
        page = chromium.new_page()
        page.goto(address)
        shots.TABS["attack"](page)
        page.close()
        assert list(tmp_path.glob("srlvae-app-*/**/*.png"))
    assert not list(tmp_path.glob("srlvae-app-*"))
