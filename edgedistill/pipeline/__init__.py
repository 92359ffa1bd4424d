"""The recipe and the run folder: which stages there are, and in what order they run."""
