"""The commands of the device side: their parsers, and their output."""
