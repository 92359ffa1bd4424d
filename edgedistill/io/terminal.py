"""Foreign text for a terminal: words of a board, a bundle or a file, which may hold anything.

Whatever the commands print goes through here, on the workstation and on the board.
"""

from __future__ import annotations

import sys
from typing import Final

_LAYOUT: Final = "\n\t"
_BRIEF: Final = 300  # characters


def printable(text: str) -> str:
    r"""Return text in one line that cannot move a cursor, reorder what is read, or fail to encode.

    Control characters, escape sequences, bidirectional marks and lone surrogates are shown as
    Python writes them.

    >>> printable("a\x1b[2Jb\u202ec\n")
    'a\\x1b[2Jb\\u202ec\\n'
    """
    return _escaped(text, keep="")


def printable_lines(text: str) -> str:
    r"""Return printable text that keeps its lines and tabs.

    >>> printable_lines("a\x07\n\tb")
    'a\\x07\n\tb'
    """
    return _escaped(text, keep=_LAYOUT)


def brief_printable(text: str) -> str:
    r"""Return the end of a text in one printable line, of bounded length.

    >>> brief_printable(" Welcome!\r\nlast login: \x1b[1mnow\n")
    'Welcome! | last login: \\x1b[1mnow'
    """
    parts = (part.strip() for part in text.splitlines())
    line = printable(" | ".join(filter(None, parts)))
    return line if len(line) <= _BRIEF else f"... {line[-_BRIEF:]}"


def echo(text: str = "", *, err: bool = False) -> None:
    """Print a text that may hold foreign words, on stdout or stderr, and flush it."""
    print(printable_lines(text), file=sys.stderr if err else sys.stdout, flush=True)


def _escaped(text: str, *, keep: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in keep or _is_blank(each) else _escape(each)
        for each in text
    )


def _is_blank(character: str) -> bool:
    """Whether it is a blank of some width, such as that of Japanese; no line or paragraph end."""
    return character.isspace() and ord(character) >= 0xA0 and character not in "\u2028\u2029"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
