"""Experiments: data sets times methods times seeds, as one table that goes on after a kill.

plan -> a teacher a set -> a student a method and seed -> results.csv -> report
"""
