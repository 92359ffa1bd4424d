"""Experiments: data sets times methods times seeds, as one table; resumed after a kill.

plan -> a teacher for each set -> a student for each method and seed -> results.csv -> report
"""
