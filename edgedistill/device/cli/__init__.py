"""The commands of the device side: their parsers, and their output."""

COMMANDS = {  # each with its module here, whose `add_COMMAND` adds the parser
    "predict": "predict",
    "validate": "models",
    "benchmark": "models",
    "build": "models",
    "tune": "models",
    "releases": "releases",
    "environment": "machine",
    "doctor": "machine",
    "drift": "drift",
}
