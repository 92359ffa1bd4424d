"""From one ONNX file to variants: graph passes, number formats, quantization, QAT."""

from edgedistill import public_name

__all__ = [
    "DEFAULT_TEMPERATURE",
    "DEFAULT_WEIGHTS",
    "MIXED_VARIANT",
    "OPSET",
    "RECOVERY_JSON",
    "REFUSALS",
    "SEARCH_JSON",
    "SUFFIX",
    "TOLERANCE",
    "VARIANTS",
    "Emulation",
    "Measure",
    "Precision",
    "Recovery",
    "RuntimeName",
    "SearchPlan",
    "assert_close",
    "cached_observer",
    "check_forms",
    "check_series",
    "class_count",
    "emulate",
    "errors",
    "fold",
    "load",
    "logits",
    "open_failures",
    "open_variants",
    "optimize",
    "runner",
    "search",
    "strip",
    "variants",
]
_HOMES = {
    "emulation": ("Emulation", "emulate"),
    "execution": (
        "REFUSALS",
        "TOLERANCE",
        "assert_close",
        "check_series",
        "class_count",
        "errors",
        "logits",
        "runner",
    ),
    "mixed_precision.search": ("Measure", "search"),
    "optimize": ("MIXED_VARIANT", "RECOVERY_JSON", "SEARCH_JSON", "SearchPlan", "optimize"),
    "ort_format": ("SUFFIX",),
    "passes.fold": ("fold",),
    "passes.graph": ("load", "strip"),
    "passes.opset": ("OPSET",),
    "precision_support": ("Precision", "RuntimeName", "check_forms"),
    "qat.finetune": ("DEFAULT_TEMPERATURE", "DEFAULT_WEIGHTS", "Recovery"),
    "quantization.calibration": ("cached_observer",),
    "variant_folder": ("VARIANTS", "open_failures", "open_variants"),
    "variants": ("variants",),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
