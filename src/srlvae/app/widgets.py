"""Widgets that several tabs have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Height of a picture that is given, in pixels.
HEIGHT = 240


def picture_input(gr: Any) -> Any:
    """A place for a picture: a file, the clipboard or a camera. The function that it goes to gets its path, or None."""
    box = gr.Image(
        label="Picture", type="filepath", image_mode=None, sources=["upload", "clipboard"], height=HEIGHT, buttons=[]
    )
    # Gradio would open the file by rules of its own, and say nothing where that fails. `Models.read` does, and says why.
    box.preprocess = lambda payload: payload and payload.path
    return box


def picture_output(gr: Any, label: str) -> Any:
    """A picture that work makes, as PNG: every level is kept. Three stand side by side on a phone."""
    return gr.Image(
        label=label,
        format="png",
        interactive=False,
        min_width=96,
        buttons=["download", "fullscreen"],
        elem_classes="made",
        alt_text=label,
    )


def buttons(gr: Any, text: str) -> tuple[Any, Any]:
    """A button that starts and one that stops."""
    with gr.Row():
        run = gr.Button(text, variant="primary", min_width=120, scale=3)
        stop = gr.Button("Stop", min_width=80, scale=1)
    return run, stop


def examples(gr: Any, rows: Sequence[Sequence[str]], inputs: Sequence[Any]) -> Any:
    """Examples that fill in `inputs`, of which the first is shown, at a click. Returns what follows the filling in."""
    made = gr.Examples(
        [list(row) for row in rows],
        list(inputs),
        visible_columns=[0],
        cache_examples=False,
        label="Examples: a click runs one",
        api_visibility="private",
    )
    return made.load_input_event.then
