"""Fault injection into deployments and the device program.

`bundles` makes what is deployed; `board` is a board that can be put back to where it was;
`fault_injector` runs a program and does harm at one of its steps; `faulty_network` is a network
that breaks; `disks` fills up or refuses. `device`, `deployment` and `machine` are the cases,
`campaign` runs and counts them.
"""
