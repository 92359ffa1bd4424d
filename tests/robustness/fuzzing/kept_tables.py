"""Seeds of tables that a reader once got wrong, by what was wrong with it.

A seed means other tables when the generator changes, and with Parquet among the formats; the right
values of each kind stand in tests/formats and tests/data, too.
"""

from __future__ import annotations

KEPT: dict[str, tuple[int, ...]] = {
    "quotes of another separator": (31, 49, 70, 111, 160, 236, 254, 742, 1044, 1262),
    "commas told as separators among text": (41, 370, 588, 669, 970, 1451, 2490),
    "decimal commas in times": (60, 135, 265, 480, 1123, 1220, 1881),
    "decimal commas in labels": (16, 39, 79, 296, 380, 403, 528, 555, 716, 855, 1024, 1315, 2405),
    "long tables without labels": (0, 7, 25, 38, 44),
    "headers of numbers without a label": (55, 180, 404, 732, 1634, 1891),
    "headers of decimals in any order": (2, 585, 922, 1404, 2189),
    "separators at the end of rows": (86, 91, 809, 914, 2411, 2481),
    "steps taken for channels": (906, 953, 1734, 1999),
    "counters in rows that alternate": (24, 746, 1876),
    "values missed between resampled steps": (1096, 2280, 2323, 2471),
    "refusals without a next step": (40, 61, 155, 644, 763, 1438),
}

KEPT_WITH_PARQUET: dict[str, tuple[int, ...]] = {
    "headers of decimals in any order": (196, 510),
    "counters in rows that alternate": (536,),
    "values missed between resampled steps": (663,),
}
