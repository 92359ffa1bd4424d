"""What a student is asked for: cross-entropy, and what it should take over from its teacher.

An objective is a module, so that what it knows of the teacher moves to the
training device with it. All of them share one clean pass: each names the windows
it wants answered, and the loop hands it how they change the student's logits.
"""

from edgedistill.distill.objectives.cross_entropy import CrossEntropy
from edgedistill.distill.objectives.kd import KD
from edgedistill.distill.objectives.objective import Answer, Batch, Objective, Term, Windows
from edgedistill.distill.objectives.tsd import TSD
from edgedistill.distill.objectives.tsd_maps import TSDMaps

__all__ = [
    "KD",
    "TSD",
    "Answer",
    "Batch",
    "CrossEntropy",
    "Objective",
    "TSDMaps",
    "Term",
    "Windows",
]
