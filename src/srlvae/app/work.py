"""Work that a button starts: it tells its progress, stops when asked to, and ends in pictures or in a sentence."""

from __future__ import annotations

import html
import logging
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from srlvae.errors import InputError, UnreadableError
from srlvae.events import Listener
from srlvae.extras import need
from srlvae.files import shown

# What the queue of all work is called: its limit holds for the tabs together.
QUEUE = "work"
STOPPED = "Stopped."
UNKNOWN = "Something went wrong that should not have. The terminal in which srlvae app runs has the details."


class Watcher(Listener):
    """Passes progress on to the page. Where what is under way has a name, it stands before that of the bar."""

    def __init__(self, progress: Callable[..., object], stop: threading.Event):
        self.progress, self.stop, self.doing = progress, stop, ""

    def begins(self, doing: str) -> None:
        """Say what is under way."""
        self.doing = doing
        self.progress(None, desc=doing)

    def at(self, bar: str, number: int, total: int | None = None, note: str = "") -> None:
        """Move the bar."""
        # A bar may be called like the folder that is looked at.
        bar = Path(bar).name
        self.progress((number, total), desc=self.doing or bar, unit=bar)

    def should_stop(self) -> bool:
        """Whether the user has asked to stop, or has gone."""
        return self.stop.is_set()


def sentence(error: BaseException) -> str:
    """What the page says of an error: one sentence, without the folders in which uploads lie."""
    if isinstance(error, UnreadableError):
        return shown(f"{Path(error.name).name}: {error.reason}")
    if isinstance(error, InputError | ModuleNotFoundError | OSError):
        own = os.environ.get("GRADIO_TEMP_DIR")
        return shown(re.sub(rf"{re.escape(own)}/\S*/", "", str(error)) if own else error)
    return STOPPED if isinstance(error, KeyboardInterrupt) else UNKNOWN


class Work:
    """Ties functions `(listener, *values) → values` to the buttons of a page.

    Everybody who has the page open is a session. `jobs` functions run at once, over all sessions.
    """

    def __init__(self, jobs: int = 1):
        (self.gradio,) = need("app", "gradio")
        self.jobs = jobs
        # What stops each run that is under way, and whose it is: of which session and tab.
        self._stops: dict[threading.Event, tuple[str, str]] = {}

    def bind(self, name: str, function: Callable[..., Any], start: list[Any], stop: Any, inputs: list[Any], outputs: list[Any]):
        """Run `function` when an event of `start` happens, and stop it when the button `stop` is clicked.

        name: of the tab. `outputs` are cleared first, as they are of other settings. Progress is shown on the first of them.
        """
        options = {"concurrency_id": QUEUE, "concurrency_limit": self.jobs, "api_visibility": "private"}
        progress = {"show_progress_on": outputs[:1], "trigger_mode": "once"}
        empty = [output.value for output in outputs]
        cleared = [event(lambda: empty, None, outputs, queue=False, api_visibility="private") for event in start]
        runs = [event.then(self._runner(name, function), inputs, outputs, **options, **progress) for event in cleared]
        stop.click(self._stopper(name), None, None, cancels=runs, queue=False, api_visibility="private")

    def leaver(self) -> Callable[..., None]:
        """A function that stops whatever a session has under way, for when its page is closed."""

        def leave(request) -> None:
            self._stop(lambda session, _: session == request.session_hash)

        leave.__annotations__ = {"request": self.gradio.Request}
        return leave

    def _runner(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        progress = self.gradio.Progress()

        def run(request, progress=progress, *values):
            stop = threading.Event()
            self._stops[stop] = str(request.session_hash), name
            try:
                return function(Watcher(progress, stop), *values)
            except (Exception, KeyboardInterrupt) as error:
                text = sentence(error)
                if text == UNKNOWN:
                    logging.getLogger(__name__).exception("the tab %r failed", name)
                title = "Stopped" if text == STOPPED else "This did not work"
                # Gradio renders the message as HTML, and names of files are anything.
                raise self.gradio.Error(html.escape(text), title=title, print_exception=False) from None
            finally:
                del self._stops[stop]

        # Gradio finds out by this what to hand over.
        run.__annotations__ = {"request": self.gradio.Request}
        return run

    def _stopper(self, name: str) -> Callable[..., None]:
        def stop(request) -> None:
            if self._stop(lambda *own: own == (str(request.session_hash), name)):
                self.gradio.Info(STOPPED)

        stop.__annotations__ = {"request": self.gradio.Request}
        return stop

    def _stop(self, is_meant: Callable[[str, str], bool]) -> bool:
        """Stop what is under way in the sessions and tabs that are meant. Returns whether there was anything."""
        events = [event for event, own in list(self._stops.items()) if is_meant(*own)]
        for event in events:
            event.set()
        return bool(events)
