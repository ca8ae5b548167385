"""Take the pictures of the page in docs/how-to/app.md: each tab, driven to its result in Chromium.

    python recipes/screenshots.py --out docs/pictures                   # the four of the docs, as WebP
    python recipes/screenshots.py --out shots --width 390 --dark --png  # to look at: a phone, dark

The photographs on them come with scikit-image: Chelsea (CC0, Stefan van der Walt), Eileen Collins (public domain, NASA), a cup
of coffee (CC0, Rachel Michetti) and a rocket (public domain, SpaceX).
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image
from playwright.sync_api import sync_playwright

# Seconds for the page to come up, and for a tab to come to its result.
START, RESULT = 120, 90
QUALITY, LARGEST = 80, 100_000


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@contextlib.contextmanager
def page_of(*options: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """The address of `srlvae app`, run with `options` in a process of its own and ended afterwards as by Ctrl-C."""
    port = free_port()
    command = [sys.executable, "-m", "srlvae", "app", "--port", str(port), *options]
    address = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        try:
            if not _comes_up(address, process):
                said.seek(0)
                raise SystemExit(f"srlvae app did not come up: {said.read()}")
            yield address, process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _comes_up(address: str, process: subprocess.Popen) -> bool:
    until = time.monotonic() + START
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=5).close()
            return True
        time.sleep(0.2)
    return False


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window: playwright's own, or the one of the system."""
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


def open_tab(page: Any, name: str) -> Any:
    """Choose a tab. Returns what is on it."""
    page.get_by_role("tab", name=name, exact=True).click()
    return page.locator("div[role=tabpanel]:visible")


def finish(panel: Any) -> Any:
    """Wait until the tab shows its result, and its pictures have arrived."""
    panel.locator(".prose.result:not(:has-text('The result will be here.'))").wait_for(timeout=RESULT * 1000)
    panel.page.wait_for_function("[...document.images].every(image => image.complete)")
    panel.page.wait_for_timeout(700)
    return panel


def click_example(panel: Any, number: int) -> None:
    panel.locator("button.gallery-item, .gallery button").nth(number).click()


def with_example(name: str, number: int) -> Callable[[Any], Any]:
    def drive(page: Any) -> Any:
        panel = open_tab(page, name)
        click_example(panel, number)
        return finish(panel)

    return drive


def scan(page: Any) -> Any:
    panel = open_tab(page, "Scan")
    panel.get_by_role("button", name="Example").click()
    return finish(panel)


TABS: dict[str, Callable[[Any], Any]] = {
    "attack": with_example("Attack", 1),
    "edit": with_example("Edit", 0),
    "scan": scan,
    "compare": with_example("Compare", 2),
}


def main(
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("docs/pictures"),
    width: Annotated[int, typer.Option(help="Of the window, in pixels; 390 is a phone's.")] = 1120,
    dark: Annotated[bool, typer.Option("--dark", help="As a dark system shows it.")] = False,
    png: Annotated[bool, typer.Option("--png", help="PNG in place of WebP, to look at.")] = False,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with page_of() as (address, _), browser() as opened:
        page = opened.new_page(viewport={"width": width, "height": 700}, color_scheme="dark" if dark else "light")
        page.goto(address)
        for name, drive in TABS.items():
            started = time.monotonic()
            drive(page)
            print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
            shot = Image.open(BytesIO(page.screenshot(full_page=True)))
            path = out / f"app-{name}.{'png' if png else 'webp'}"
            shot.convert("RGB").save(path, quality=QUALITY, method=6)
            if not png and path.stat().st_size > LARGEST:
                raise SystemExit(f"{path} has {path.stat().st_size} bytes, more than {LARGEST}")


if __name__ == "__main__":
    typer.run(main)
