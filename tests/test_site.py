"""The site: its pages are reachable, its reference is complete, and what it builds has no dead link."""

import functools
import html.parser
import os
import pathlib
import re
import runpy
import subprocess
import sys
import urllib.parse

import pytest
from helpers import ROOT

import valuelab

DOCS = ROOT / "docs"
DOCSTRINGS = runpy.run_path(str(DOCS / "docstrings.py"))
TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PUBLIC = [name for name in valuelab.__all__ if name not in ("__version__", "plots")]
PAGES = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md")}


def children(page: str) -> set[str]:
    """The pages that the toctrees of a page list, by name or by a pattern."""
    folder, found = (DOCS / page).parent, set()
    for block in TOCTREE.findall((DOCS / page).with_suffix(".md").read_text()):
        for line in block.splitlines():
            if "*" in line:
                found |= {str(path.relative_to(DOCS).with_suffix("")) for path in folder.glob(f"{line}.md")}
            elif line and not line.startswith(":"):
                found.add(os.path.relpath(folder / line, DOCS))
    return found


def test_every_page_is_reachable_from_the_first():
    reached, new = set(), {"index"}
    while new:
        reached |= new
        new = {child for page in new & PAGES for child in children(page)} - reached
    assert PAGES - reached == set()
    assert not [page for page in reached - PAGES if not (DOCS / f"{page}.ipynb").exists()]


def test_every_public_name_is_in_the_reference():
    text = (DOCS / "reference/api.md").read_text()
    documented = re.findall(r"^\.\. auto(?:function|class|exception):: valuelab\.(\w+)$", text, re.MULTILINE)
    assert sorted(documented) == sorted(PUBLIC)


def test_every_module_is_in_the_reference():
    text = (DOCS / "reference/packages.md").read_text()
    listed = re.findall(r"^   valuelab\.(\w+)$", text, re.MULTILINE)
    modules = {path.parent.name for path in ROOT.glob("valuelab/*/__init__.py")}
    modules |= {path.stem for path in ROOT.glob("valuelab/*.py")} - {"__init__"}
    assert sorted(listed) == sorted(modules)


@pytest.mark.parametrize(
    ("line", "prepared"),
    [
        ("Takes *args, x_ and |x|; `a_*` is code.", r"Takes \*args, x\_ and \|x\|; ``a_*`` is code."),
        ("**maze, cube**: with --agent=a:b.", "**maze, cube**: with ``--agent=a:b``."),
    ],
)
def test_docstrings_become_plain_text_with_code(line, prepared):
    assert DOCSTRINGS["escape"](line) == prepared


def test_only_presets_of_a_docstring_become_entries():
    items = ["1. Targets: y", "   and more", "- a: b", "  c", "A sweep:", "    1. scores"]
    assert DOCSTRINGS["separate_entries"](items) == items
    entry = ["All tasks, such as --agent=a:b; c", "    python -m x", "    not run"]
    shown = [line for line in DOCSTRINGS["separate_entries"](entry) if line]
    assert shown == ["**All tasks**, such as --agent=a:b; c", "    python -m x", "not run"]


def test_every_picture_is_used():
    texts = [path.read_text() for path in (*DOCS.rglob("*.md"), ROOT / "README.md")]
    pictures = {path.name for path in (DOCS / "images").iterdir() if path.suffix != ".py"}
    assert not [name for name in pictures if not any(f"images/{name}" in text for text in texts)]


class Page(html.parser.HTMLParser):
    """The anchors of a page, and the links to other places of the site."""

    def __init__(self, path: pathlib.Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {given[key] for key in ("id", "name") if given.get(key)}
        links = (given.get(key) for key in ("href", "src"))
        self.links |= {link for link in links if link and not re.match(r"[a-z]+:|//", link)}


@pytest.mark.slow
def test_the_site_builds_without_warnings_and_dead_links(tmp_path):
    """The same command as `make docs`, into another folder."""
    makefile = (ROOT / "Makefile").read_text()
    options = re.search(r"sphinx-build (.*) -j auto docs build/site$", makefile, re.MULTILINE)[1].split()
    site = tmp_path / "site"
    line = [sys.executable, "-m", "sphinx", *options, "-j", "auto", DOCS, site]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]

    assert_complete(site)
    assert dead_links(site) == []


def assert_complete(site: pathlib.Path) -> None:
    """Asserts that the inventory has every public name and every module, and that their pages exist."""
    from sphinx.util.inventory import InventoryFile

    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    objects = {
        name: item for kind in inventory if kind.startswith("py:") for name, item in inventory[kind].items()
    }
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "valuelab").rglob("*.py")
        if not path.stem.startswith("_") or path.stem == "__init__"
    }
    public = {f"valuelab.{name}" for name in PUBLIC}
    assert (public | modules - {"valuelab"}) - objects.keys() == set()
    assert all((site / item.uri.partition("#")[0]).exists() for item in objects.values())


def dead_links(site: pathlib.Path) -> list[str]:
    """The links of the pages below a folder that lead to a file or an anchor that does not exist."""
    page = functools.cache(Page)
    dead = []
    for path in site.rglob("*.html"):
        for link in page(path).links:
            target, _, anchor = link.partition("#")
            place = path.parent / urllib.parse.unquote(target.partition("?")[0]) if target else path
            place = pathlib.Path(os.path.normpath(place))
            has_anchors = anchor and place.suffix == ".html" and place.exists()
            if not place.exists() or (
                has_anchors and urllib.parse.unquote(anchor) not in page(place).anchors
            ):
                dead.append(f"{path.relative_to(site)}: {link}")
    return sorted(dead)
