"""From a teacher to a student, and from a student to typed variants."""
