"""Fuzzing of everything that a board parses: inputs that are made, read under watch, and counted.

`mutations` and `archives` make inputs of the real files of `corpus`; `subjects` says what reads
them; `watch` says what reading may not do; `worker` reads in a process of its own, and `campaign`
starts workers and counts.
"""
