"""Prepares docstrings for Sphinx: plain text with `code`, indented equations and Google's sections."""

import re

CODE = re.compile(r"(`+[^`]+`+)")
SECTION = re.compile(r"\s*[A-Z]\w+:$")


def escape(line: str) -> str:
    """The line with the characters escaped that would start markup; `code` stays as it is."""
    parts = CODE.split(line)
    parts[::2] = [re.sub(r"([\\*|])|(?<=\w)(_)(?!\w)", r"\\\1\2", part) for part in parts[::2]]
    parts[1::2] = [part if part.startswith("``") else f"`{part}`" for part in parts[1::2]]
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
        after_blank = number > 0 and not lines[number - 1].strip()
        if literal and indentation(line) <= base:
            literal = False
        if (
            not literal
            and after_blank
            and indentation(line) > base
            and not line.lstrip().startswith(("- ", ">>>"))
        ):
            prepared += [" " * base + "::", ""]
            literal = True
        if literal:
            prepared.append(line)
            continue
        base = indentation(line)
        prepared.append(line if line.lstrip().startswith(">>>") else escape(line))
    return prepared


def process(app, what, name, obj, options, lines: list[str]) -> None:
    """The hook of autodoc; it runs before napoleon's."""
    if getattr(obj, "__doc__", "") and "\n".join(lines).strip():
        lines[:] = prepare(lines)
