"""What a student learns from a teacher: objectives, and what they look at in both."""
