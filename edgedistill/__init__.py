"""Distill a time-series classifier for the edge, and prove on the device that it still reasons like its teacher."""

__version__ = "0.1.0"
