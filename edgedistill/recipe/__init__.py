"""The recipe: its keys, their defaults, presets and validation errors."""

from edgedistill import public_name

__all__ = [
    "COLUMN_SETTINGS",
    "ModelSection",
    "Recipe",
    "StudentSection",
    "TeacherSection",
    "default_settings",
    "load",
    "parse",
    "recipe",
    "yaml_text",
]
_HOMES = {
    "recipe": ("Recipe", "default_settings", "load", "parse"),
    "schema": ("COLUMN_SETTINGS", "ModelSection", "StudentSection", "TeacherSection"),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
