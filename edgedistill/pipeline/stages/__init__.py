"""The stages: each a function from files to files, which the pipeline only orders.

data -> teacher -> student -> model -> variants -> verdict (bundle and report)
"""
