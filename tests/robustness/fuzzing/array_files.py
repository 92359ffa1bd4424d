"""Labeled series as NPZ, NPY and `.ts` files."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np

from fuzzing.series_sets import Part, number_text

FAULTS = {  # of arrays and headers, which a reader must refuse
    "npz": (
        "no labels",
        "labels of two axes",
        "pickled labels",
        "too few labels",
        "infinite",
        "complex numbers",
        "four axes",
    ),
    "npy": ("no labels", "too few labels", "pickled labels"),
    "ts": ("timestamps", "no labels", "unequal channels", "no data", "infinite"),
}
_TS_HEADS = (
    "@problemName Toys\n@timeStamps false\n@univariate {single}\n@classLabel true {names}\n@data",
    "# comment\n%other\n@problemname\tToys\n@timestamps\tfalse\n@classlabel\ttrue\t{names}\n@data",
    "@problemName toys\n\n@equalLength false\n@classLabels true {names}\n@DATA",
    "@ClassLabel True {names}\n# more\n@data ",
)


def write_npz(path: Path, part: Part, random: Random, *, is_flat: bool) -> None:
    """Write `x` and `y`, or `values` and `offsets`, as series of unequal lengths need."""
    lengths = {one.shape[1] for one in part.series}
    kind = random.choice(("float64", "float32", "float32"))
    y = labels_array(part, random)
    extra = {"note": np.array("unused")} if random.random() < 0.3 else {}
    if len(lengths) > 1 or random.random() < 0.2:
        offsets = np.cumsum([0, *(one.shape[1] for one in part.series)])
        values = np.concatenate([one.T for one in part.series]).astype(kind)
        np.savez(path, values=values, offsets=offsets, y=y, **extra)
        return
    x = np.stack(part.series).astype(kind)
    save = random.choice((np.savez, np.savez_compressed))
    save(path, x=x[:, 0] if is_flat else x, y=y, **extra)


def write_npy(path: Path, part: Part, random: Random, *, is_flat: bool) -> None:
    """Write `x_NAME.npy`, and `y_NAME.npy` beside it."""
    x = np.stack(part.series)
    np.save(path, np.asfortranarray(x) if random.random() < 0.2 else x[:, 0] if is_flat else x)
    np.save(path.with_name(path.name.replace("x_", "y_")), labels_array(part, random))


def labels_array(part: Part, random: Random) -> np.ndarray:
    """Return labels as text, bytes or, where they are whole numbers, as such."""
    spelled = part.spelled
    choices = ["text"]
    if all(one.isascii() for one in spelled):
        choices.append("bytes")
    if all(one.lstrip("-").isdigit() and str(int(one)) == one and len(one) < 9 for one in spelled):
        choices += ["int64", "float64", "int8"]
    kind = random.choice(choices)
    if kind == "text":
        return np.array(spelled)
    return np.array(
        [one.encode() for one in spelled] if kind == "bytes" else [int(one) for one in spelled],
        dtype=None if kind == "bytes" else kind,
    )


def write_ts(path: Path, part: Part, random: Random) -> None:
    """Write a `.ts` file, its header as the archive or another program writes it."""
    head = random.choice(_TS_HEADS).format(
        names=" ".join(dict.fromkeys(one.replace(" ", "_") for one in part.spelled)),
        single=str(len(part.series[0]) == 1).lower(),
    )
    after = random.choice((",", ", ", ","))
    lines = [head]
    for one, label in zip(part.series, part.spelled, strict=True):
        missing = random.choice(("?", "NaN", "nan"))
        channels = [after.join(number_text(random, v, missing) for v in row) for row in one]
        lines.append(":".join([*channels, label]))
    if random.random() < 0.2:
        lines.insert(len(lines) - 1, "")
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def spoil(kind: str, fault: str, path: Path) -> None:
    """Write one of `FAULTS` into a file."""
    if kind == "ts":
        _spoil_ts(fault, path)
        return
    labels = path if kind == "npz" else path.with_name(path.name.replace("x_", "y_"))
    if kind == "npy" and fault == "no labels":
        labels.unlink()
        return
    arrays = dict(np.load(path)) if kind == "npz" else {"y": np.load(labels)}
    name = "x" if "x" in arrays else "values"
    if fault == "no labels":
        del arrays["y"]
    elif fault == "too few labels":
        arrays["y"] = arrays["y"][:-1]
    elif fault == "labels of two axes":
        arrays["y"] = np.stack([arrays["y"]] * 2, axis=1)
    elif fault == "pickled labels":
        arrays["y"] = arrays["y"].astype(object)
    elif fault == "infinite":
        arrays[name][0, 0] = np.inf
    elif fault == "complex numbers":
        arrays[name] = arrays[name].astype(complex)
    elif fault == "four axes":
        arrays[name] = arrays[name][None, None, None, ...]
    if kind == "npz":
        np.savez(path, **arrays)
    else:
        np.save(labels, arrays["y"])


def _spoil_ts(fault: str, path: Path) -> None:
    *head, last, _ = path.read_text(encoding="utf-8").split("\n")
    if fault == "timestamps":
        head.insert(0, "@timeStamps true")
        head = [line for line in head if "false" not in line.lower() or "imes" not in line]
    elif fault == "no labels":
        head = [line for line in head if "classlabel" not in line.lower()]
    elif fault == "no data":
        head = [line for line in head if line.strip().lower() != "@data"]
    elif fault == "infinite":
        last = "inf," + last
    else:
        last = "1,2:" + last
    path.write_text("\n".join([*head, last, ""]), encoding="utf-8")
