"""Links from the site to files of the repository, at the place where it is hosted."""

import importlib
import inspect
import pathlib
import re
import tomllib

DOCS = pathlib.Path(__file__).resolve().parent
ROOT = DOCS.parent
HOSTED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
# A page that only includes a file of the root, such as CHANGELOG.md, gets its text, with links from the page.
INCLUDE = re.compile(r"^```\{include\} (\.\./\.\./)(\w+\.md)\n```$", re.MULTILINE)
RELATIVE = re.compile(r"(\]\()(?!\w+:|#)")
LINK = re.compile(r"(\]\()(\.\./[^)#\s]+)([^)]*\))")
NOTEBOOK = re.compile(r"\[([^\]]*)\]\((?:\.\./)+notebooks/(\w+)\.ipynb\)")


def rewrite(app, name: str, content: list[str]) -> None:
    """The hook of Sphinx for the source of a page: links to files become links to the hosted files.

    Links to notebooks become links to their pages.
    """
    folder = (DOCS / name).parent

    def included(match: re.Match) -> str:
        if not (ROOT / match[2]).is_file():
            return match[0]  # the directive names the page and the missing file
        text = (ROOT / match[2]).read_text()
        return RELATIVE.sub(lambda link: link[1] + match[1], text)

    def hosted(match: re.Match) -> str:
        target = (folder / match[2]).resolve()
        is_page = target.is_relative_to(DOCS) and not target.is_dir()
        if is_page or not target.is_relative_to(ROOT):
            return match[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"{match[1]}{HOSTED}/{kind}/main/{target.relative_to(ROOT)}{match[3]}"

    text = INCLUDE.sub(included, content[0])
    content[0] = LINK.sub(hosted, NOTEBOOK.sub(r"{doc}`\1 </notebooks/\2>`", text))


def source_code(domain: str, info: dict[str, str]) -> str | None:
    """The hosted lines of an object that the reference describes; None if it has none."""
    found = importlib.import_module(info["module"])
    try:
        for part in info["fullname"].split("."):
            found = getattr(found, part)
        found = inspect.unwrap(found)
        path = pathlib.Path(inspect.getsourcefile(found) or "")
        lines, first = inspect.getsourcelines(found)
    except (AttributeError, OSError, TypeError):  # such as a constant, or a field of a named tuple
        return None
    if not path.is_relative_to(ROOT / "valuelab"):
        return None
    return f"{HOSTED}/blob/main/{path.relative_to(ROOT)}#L{first}-L{first + len(lines) - 1}"
