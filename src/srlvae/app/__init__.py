"""A page in the browser on which to try attacks, edits, the scan and encoders. It binds functions of other rooms to widgets.

`page` is the whole, with a file for each tab. What a tab computes is a function of pictures and settings that needs no Gradio.
"""

from __future__ import annotations
