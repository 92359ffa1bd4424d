"""Foreign text for a terminal: words of a board, a bundle or a file, which may hold anything."""

from __future__ import annotations

from typing import Final

_LAYOUT: Final = "\n\t"
_BRIEF: Final = 300  # characters


def printable(text: str) -> str:
    r"""Return text that cannot move a cursor, change the order of what is read, or fail to encode.

    Control characters, escape sequences, bidirectional marks and lone surrogates are shown as
    Python writes them.

    >>> printable("a\x1b[2Jb\u202ec\n")
    'a\\x1b[2Jb\\u202ec\\n'
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def printable_lines(text: str) -> str:
    r"""Return printable text that keeps its lines and tabs.

    >>> printable_lines("a\x07\n\tb")
    'a\\x07\n\tb'
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in _LAYOUT else _escaped(each) for each in text
    )


def brief_printable(text: str) -> str:
    r"""Return the end of a text in one printable line, of bounded length.

    >>> brief_printable(" Welcome!\r\nlast login: \x1b[1mnow\n")
    'Welcome! | last login: \\x1b[1mnow'
    """
    line = " | ".join(part.strip() for part in text.splitlines() if part.strip())
    line = printable(line)
    return line if len(line) <= _BRIEF else f"... {line[-_BRIEF:]}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
