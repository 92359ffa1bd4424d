"""The bundle: reading, writing, signing, and what lies in it. NumPy only."""

from edgedistill import public_name

__all__ = [
    "FEATURES",
    "MANIFEST",
    "SIGNATURE",
    "Bundle",
    "BundleContents",
    "DriftLimits",
    "Golden",
    "Model",
    "Provenance",
    "Reference",
    "features",
    "golden_set",
    "locate",
    "location",
    "make_reference",
    "open_bundle",
    "read",
    "rewrite",
    "sign_bundle",
    "signature",
    "signer",
    "writer",
]
_HOMES = {
    "drift_reference": ("DriftLimits", "FEATURES", "Reference", "features", "make_reference"),
    "golden": ("Golden", "golden_set"),
    "location": ("locate",),
    "manifest": ("MANIFEST", "SIGNATURE", "read"),
    "reader": ("Bundle", "Model", "Provenance", "open_bundle"),
    "signature": ("sign_bundle", "signer"),
    "writer": ("BundleContents", "rewrite"),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
