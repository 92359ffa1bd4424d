"""The pipeline: the stages of a recipe, run in order into a run folder."""

from edgedistill import public_name

__all__ = [
    "ONNX",
    "REPORT_JSON",
    "STAGE",
    "TEACHER_FACTS",
    "TEACHER_OUTPUTS",
    "TRIALS",
    "DataCallback",
    "Result",
    "RunFolder",
    "Stage",
    "check_columns",
    "check_plan_length",
    "compress",
    "floor_agreement",
    "ignore_data",
    "is_unchanged",
    "make_stage",
    "make_student",
    "make_teacher",
    "now",
    "objective_context",
    "open_teacher",
    "open_teacher_outputs",
    "perturbation_plan",
    "prepare_data",
    "read_source",
    "recorded_plan",
    "report_data",
    "run",
    "run_stages",
    "single_stage",
    "stage_key",
    "start_on_host",
    "teacher_sections",
    "versions",
    "with_report_estimates",
]
_HOMES = {
    "external_teacher": ("check_columns",),
    "keys": ("Stage", "stage_key", "teacher_sections"),
    "objective_context": ("objective_context",),
    "run": ("Result", "compress", "run_stages"),
    "run_folder": (
        "ONNX",
        "REPORT_JSON",
        "RunFolder",
        "TEACHER_FACTS",
        "TEACHER_OUTPUTS",
        "TRIALS",
        "check_plan_length",
        "recorded_plan",
    ),
    "scoring": ("with_report_estimates",),
    "stage_folder": ("STAGE", "is_unchanged", "make_stage", "now", "versions"),
    "stages.data": ("DataCallback", "ignore_data", "prepare_data", "read_source", "report_data"),
    "stages.evaluate": ("floor_agreement", "start_on_host"),
    "stages.student": ("make_student",),
    "stages.teacher": ("make_teacher", "open_teacher", "open_teacher_outputs", "perturbation_plan"),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
