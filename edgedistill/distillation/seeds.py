"""Offsets to the recipe's seed, for what must differ from draws that use the seed itself.

Without them an untrained student of the teacher's kind would have the teacher's initial weights.
"""

SECOND_TEACHER = 1000  # the ceiling of saliency agreement
RANDOM_TEACHER = 2000  # of the controls
FLOOR_STUDENT = 3000  # the floor of saliency agreement
BRANCH_ADAPTERS = 4000  # of a student-friendly teacher
BRANCHES = 5000  # of a student-friendly teacher: one more for each branch
TSD_WIDTHS = 6000  # of `tsd`: once more for each further window width
