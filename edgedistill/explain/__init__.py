"""One series, and why a model says what it says of it: asked, drawn, and in words.

`inputs` opens what a person names, `attribution` asks, `plot` and `page` show.
"""

from edgedistill.explain.attribution import METHODS, Account, Method, Told, explain
from edgedistill.explain.inputs import Subject, Windows, open_subject
from edgedistill.explain.models import Recorded, Voice

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
