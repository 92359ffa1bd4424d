"""The commands of the device side, one file each: its parser, and what it prints."""
