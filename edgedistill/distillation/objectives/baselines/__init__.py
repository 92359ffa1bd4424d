"""Objectives of other papers, to compare with."""
