"""All subjects, by their names."""

from __future__ import annotations

from fuzzing import boards, bundles

SUBJECTS = {subject.name: subject for subject in (*bundles.SUBJECTS, *boards.SUBJECTS)}
