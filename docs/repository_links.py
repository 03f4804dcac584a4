"""Makes links to files of the repository, such as ../valuelab/types.py, links to the hosted files.

Links to notebooks become links to their pages in docs/notebooks. A file that a page includes gets links
from the page's folder first.
"""

import pathlib
import re

DOCS = pathlib.Path(__file__).resolve().parent
INCLUDE = re.compile(r"^```\{include\} (\S+)\n```$", re.MULTILINE)
RELATIVE = re.compile(r"(\]\()(?!\w+:|#)")
LINK = re.compile(r"(\]\()(\.\./[^)#\s]+)([^)]*\))")
NOTEBOOK = re.compile(r"\[([^\]]*)\]\((?:\.\./)+notebooks/(\w+)\.ipynb\)")


def rewrite(app, name: str, content: list[str]) -> None:
    """The hook of Sphinx for the source of a page."""
    folder = (DOCS / name).parent
    source = app.config.html_theme_options["source_repository"].rstrip("/")

    def hosted(match: re.Match) -> str:
        target = (folder / match[2]).resolve()
        if target.is_relative_to(DOCS) or not target.is_relative_to(DOCS.parent):
            return match[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"{match[1]}{source}/{kind}/main/{target.relative_to(DOCS.parent)}{match[3]}"

    def included(match: re.Match) -> str:
        folder_of_file = pathlib.PurePosixPath(match[1]).parent
        return RELATIVE.sub(rf"\1{folder_of_file}/", (folder / match[1]).read_text())

    text = INCLUDE.sub(included, content[0])
    content[0] = LINK.sub(hosted, NOTEBOOK.sub(r"{doc}`\1 </notebooks/\2>`", text))
