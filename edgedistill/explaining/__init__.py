"""One series, and why a model says what it says of it: asked, drawn, and in words.

`subjects` opens what a person names, `accounts` asks, `drawing` and `page` show.
"""

from edgedistill.explaining.accounts import METHODS, Account, Method, Told, explain
from edgedistill.explaining.subjects import Subject, Windows, open_subject
from edgedistill.explaining.voices import Recorded, Voice

__all__ = [
    "METHODS",
    "Account",
    "Method",
    "Recorded",
    "Subject",
    "Told",
    "Voice",
    "Windows",
    "explain",
    "open_subject",
]
