"""Prepares docstrings for Sphinx: plain text with `code`, indented equations and Google's sections."""

import re

MARKUP = re.compile(r"(`+[^`]+`+|^\*\*[^*]+\*\*|(?<![\w-])--[a-z][\w.]*(?:=[^\s;)]*\w)?)")
"""Code, the bold name of an entry, and flags, which are shown as code so that they keep both hyphens."""
NAME = re.compile(r"(.*?)(: |, such as |$)(.*)")
"""The name of an entry, and what the line says about it."""
NO_ENTRY = re.compile(r"- |\d+\. |.*:$")
"""Items of lists, and lines that introduce what follows."""


def escape(line: str) -> str:
    """The line with the characters escaped that would start markup; `code` stays as it is."""
    parts = MARKUP.split(line)
    parts[::2] = [re.sub(r"([\\*|])|(?<=\w)(_)(?!\w)", r"\\\1\2", part) for part in parts[::2]]
    as_code = {"`": "`{}`", "-": "``{}``"}
    parts[1::2] = [
        part if part.startswith(("``", "**")) else as_code[part[0]].format(part) for part in parts[1::2]
    ]
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
            inside = indentation(following) > 0 and not NO_ENTRY.match(line)
            separated += ["", NAME.sub(r"**\1**\2\3", line, count=1), ""] if inside else [line]
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
