"""A hook of mkdocs: links of the pages to files of the repository that lie outside docs/, such as pictures of results,
work on the site as they do on a forge. Each such file becomes a part of the site, under its own path below `repository/`.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# The target of a link, up to an anchor.
LINK = re.compile(r"(?<=\]\()((?:\.\./)+[^)#\s]+)")


def outside(page: str, target: str) -> str | None:
    """The path in the repository that a link of docs/`page` leads to, if it is a file outside docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return path if not path.startswith("docs/") and (ROOT / path).is_file() else None


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to."""
    for page in list(files.documentation_pages()):
        for target in LINK.findall(Path(str(page.abs_src_path)).read_text(encoding="utf-8")):
            path = outside(page.src_uri, target)
            # Text is shown as it is; what of it links elsewhere is not followed.
            if path and (name := _name(path)) not in files.src_uris:
                files.append(File.generated(config, name, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to these."""
    here = posixpath.dirname(page.file.src_uri)

    def inside(found: re.Match) -> str:
        path = outside(page.file.src_uri, found[1])
        return os.path.relpath(_name(path), here or ".") if path else found[1]

    return LINK.sub(inside, markdown)


def _name(path: str) -> str:
    """The place of a repository's file on the site. Markdown is plain text there: its own links are not the site's."""
    return f"repository/{path}.txt" if path.endswith(".md") else f"repository/{path}"
