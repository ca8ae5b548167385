"""The page: its tabs, its looks, and how it is served. Nothing of it comes from another machine."""

from __future__ import annotations

import ipaddress
import os
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from srlvae.app import attack_tab, compare_tab, edit_tab, scan_tab
from srlvae.app.models import Choice, Models
from srlvae.app.work import Work
from srlvae.errors import InputError
from srlvae.extras import need

TITLE = "srlvae"
HEAD = (
    "# srlvae\nThe hardened encoder beside the original one. Except for the scan, pictures are cut to their centre square. "
    "They stay on the machine that runs this page, and are deleted after a quarter of an hour."
)
# Files are deleted when they are this old, looked for this often, both in seconds; and all of them when the page ends.
AGE, EVERY = 900, 60
# Size of a file that may be uploaded, and how many users may wait.
FILE_SIZE, WAITING = "30mb", 16
FONT = ("system-ui", "sans-serif")
CSS = """
.gradio-container { max-width: 1200px !important; margin: 0 auto !important; }
.made { aspect-ratio: 1; min-height: 0; }
.made img { width: 100%; height: 100%; object-fit: contain; }
.made label { white-space: nowrap; }
.made label > span:first-child { display: none; }
@media (hover: hover) {
  .made .icon-button-wrapper { opacity: 0; }
  .made:hover .icon-button-wrapper, .made:focus-within .icon-button-wrapper { opacity: 1; }
}
.scanned, .scanned .grid-wrap { min-height: 0 !important; height: auto !important; max-height: none !important; }
.scanned .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)) !important; }
.scanned .caption-label { font-size: 11px; padding: 1px 4px; max-width: 100%; left: auto; }
@media (min-width: 900px) { .verdicts td:first-child { min-width: 12em; } }
@media (max-width: 640px) {
  .made label { font-size: 10px; padding: 2px 4px; }
  .made .icon-button-wrapper { display: none; }
}
.result table, .verdicts table { width: 100%; border-collapse: collapse; }
.result th, .result td, .verdicts th, .verdicts td {
  padding: 6px 10px !important; text-align: left; word-break: normal; overflow-wrap: anywhere;
}
.result th, .verdicts th { overflow-wrap: normal; }
.verdicts td:nth-child(2) { white-space: nowrap; }
.result td, .result th, .verdicts td, .verdicts th { border: 1px solid var(--border-color-primary) !important; }
"""


def build(models: Models, room: Path, clean: Path | None = None, jobs: int = 1, typed: bool = True) -> Any:
    """The page as Gradio's Blocks.

    - room: a folder for what the scan keeps.
    - clean: a folder of clean photographs for the scan.
    - jobs: how many pieces of work run at once, over all users; the others wait.
    - typed: whether users may type in where an encoder is, which lets them load files of this machine.
    """
    (gr,) = need("app", "gradio")
    work = Work(jobs)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(EVERY, AGE)) as page:
        gr.Markdown(HEAD)
        with gr.Tab("Attack"):
            attack_tab.build(gr, work, models)
        with gr.Tab("Edit"):
            if models.has_pipeline:
                edit_tab.build(gr, work, models)
            else:
                gr.Markdown("To edit pictures, start the page with `--pipeline`.")
        with gr.Tab("Scan"):
            scan_tab.build(gr, work, scan_tab.Scanner(models, clean, room))
        with gr.Tab("Compare"):
            compare_tab.build(gr, work, models, typed)
        page.unload(work.leaver())
    return page.queue(max_size=WAITING)


def is_local(host: str) -> bool:
    """Whether an address is this machine's own, which no other machine reaches."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    choice: Choice,
    host: str,
    port: int,
    *,
    clean: Path | None = None,
    jobs: int = 1,
    share: bool = False,
    started: Callable[[str], object] = print,
) -> None:
    """Serve the page until Ctrl-C. Uploads and results lie in a temporary folder, which is removed at the end.

    started: told the address once the page is there. Sets environment variables of this process, so it is for commands.

    Raises InputError if the port is taken, if a model cannot be loaded, or if `clean` is not there.
    """
    if clean and not clean.exists():
        raise InputError(f"{clean} is not there; --clean takes a folder of photographs that are known to be clean")
    with tempfile.TemporaryDirectory(prefix="srlvae-app-") as folder:
        # Read by Gradio when it is imported and when widgets are made.
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = os.environ["GRADIO_RUN_HISTORY"] = "False"
        typed = is_local(host) and not share
        models = Models(choice)
        # Before there is a page whose visitors could not mend it.
        for doubt in models.load():
            warnings.warn(doubt, stacklevel=2)
        page = build(models, Path(tempfile.mkdtemp(dir=folder)), clean, jobs, typed)
        try:
            _launch(page, host, port, share)
            started(page.share_url or page.local_url)
            threading.Event().wait()
        except KeyboardInterrupt:
            pass
        finally:
            page.close(verbose=False)


def _launch(page: Any, host: str, port: int, share: bool) -> None:
    (gr,) = need("app", "gradio")
    options = {"footer_links": [], "run_history": False, "enable_monitoring": False, "ssr_mode": False, "mcp_server": False}
    looks = {"theme": gr.themes.Default(primary_hue="indigo", font=FONT, font_mono="monospace"), "css": CSS}
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=share,
            max_file_size=FILE_SIZE,
            show_error=True,
            quiet=True,
            inline=False,
            prevent_thread_lock=True,
            **options,
            **looks,
        )
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port}, which may be taken; give another --port or --host") from error
