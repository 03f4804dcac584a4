"""Prepares docstrings for Sphinx: plain text with `code`, indented equations and Google's sections."""

import re

MARKUP = re.compile(r"(`+[^`]+`+|^\*\*\w+\*\*)")
"""Code, and the bold name of an entry."""
SECTION = re.compile(r"\s*[A-Z]\w+:$")


def escape(line: str) -> str:
    """The line with the characters escaped that would start markup; `code` stays as it is."""
    parts = MARKUP.split(line)
    parts[::2] = [re.sub(r"([\\*|])|(?<=\w)(_)(?!\w)", r"\\\1\2", part) for part in parts[::2]]
    parts[1::2] = [f"`{part}`" if re.match("`[^`]", part) else part for part in parts[1::2]]
    return "".join(parts)


def indentation(line: str) -> int:
    """The number of leading spaces."""
    return len(line) - len(line.lstrip())


def prepare(lines: list[str]) -> list[str]:
    """Marks each indented block after a blank line as literal, and escapes all other lines.

    A block of Google's sections ("Args:") has no blank line before it, so it stays a section.
    """
    prepared: list[str] = []
    base, literal = 0, False
    for number, line in enumerate(lines):
        if not line.strip():
            prepared.append("")
            continue
        literal = literal and indentation(line) > base
        after_blank = number > 0 and not lines[number - 1].strip()
        markup = line.lstrip().startswith(("- ", ">>>"))
        if after_blank and not literal and not markup and indentation(line) > base:
            prepared += [" " * base + "::", ""]
            literal = True
        if literal:
            prepared.append(line)
            continue
        base = indentation(line)
        prepared.append(line if line.lstrip().startswith(">>>") else escape(line))
    return prepared


def separate_entries(lines: list[str]) -> list[str]:
    """Separates the entries of a module's list, each a line with indented lines below it, and their commands.

    An entry becomes a bold line, its commands an indented block, and its text a paragraph.
    """
    separated: list[str] = []
    inside = command = False
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.strip() and not indentation(line):
            inside = indentation(following) > 0 and not SECTION.match(line)
            name, colon, text = line.partition(":")
            separated += ["", f"**{name}**{colon}{text}", ""] if inside else [line]
            command = False
        elif inside and line.strip():
            starts = line.lstrip().startswith(("python -m", "valuelab "))
            if starts != command and not (command and separated[-1].endswith("\\")):
                separated.append("")
                command = starts
            separated.append(line if command else line.strip())
        else:
            separated.append(line)
    return separated


def process(app, what, name, obj, options, lines: list[str]) -> None:
    """The hook of autodoc; it runs before napoleon's."""
    if (getattr(obj, "__doc__", "") or "").strip():
        lines[:] = prepare(separate_entries(lines) if what == "module" else lines)
