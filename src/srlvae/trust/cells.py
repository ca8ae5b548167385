"""Cells of tables that spreadsheets open: a name such as `=HYPERLINK(…)` is no formula, and is read back as it was.

As the Open Worldwide Application Security Project advises (owasp.org, CSV Injection): an apostrophe before what would begin a
formula, also behind what a spreadsheet may take for the end of a cell.
"""

from __future__ import annotations

import re

_BEGINS = r"(?:(?<=[,;\t\r\n|])|\A)"
# The last four are = + - @ in full width, which some spreadsheets read as these.
_FORMULA = "(?='*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20])"
_UNSAFE, _SAFE = re.compile(_BEGINS + _FORMULA), re.compile(_BEGINS + "'" + _FORMULA)


def plain_cell(text: str) -> str:
    """`text` for a cell of a table."""
    return _UNSAFE.sub("'", text)


def read_cell(cell: str) -> str:
    """The text that `plain_cell` wrote into a cell."""
    return _SAFE.sub("", cell)
