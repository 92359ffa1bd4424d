"""Fuzzing of everything that a board parses: inputs that are made, read under watch, and counted.

`mutations` and `archives` make inputs of the real files of `corpus`; `subjects` has the readers;
`watch` stops what reading may not do; `worker` reads in a process of its own, and `campaign`
starts workers and counts.
"""
