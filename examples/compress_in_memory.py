"""From arrays and a network of one's own to a validated bundle. Run it in this folder.

The cells are those of a notebook; `# %%` begins one.
"""

# %% Arrays, of any origin
from functools import partial

import numpy as np
import torch
from aeon.datasets import load_italy_power_demand
from own_models import TCN, fit

import edgedistill as ed

x, names = load_italy_power_demand(split="train")  # (67, 1, 24)
x_test, names_test = load_italy_power_demand(split="test")
x_test, names_test = x_test[:150], names_test[:150]
y, y_test = (np.asarray(each).astype(int) - 1 for each in (names, names_test))

# %% A teacher of one's own, trained outside
torch.manual_seed(0)
network = TCN(channels=1, classes=2, width=32)
fit(network, torch.tensor(x, dtype=torch.float32), torch.tensor(y), epochs=40)

# %% Distill it into a small network of one's own, and judge that under a contract
data = ed.Dataset(
    x,
    y,
    test=(x_test, y_test),
    class_names=["October to March", "April to September"],
    name="power",
    normalization="none",  # as the teacher was trained
)
teacher = ed.teacher(network, factory=partial(TCN, width=32))
run = ed.compress(
    data,
    teacher,
    student=partial(TCN, width=8),
    objectives=["kd", "tsd_maps"],
    epochs=40,
    contract=ed.Contract(min_agreement=0.9, min_saliency_spearman=None),
    settings={"optimize.runs": 20},
    out="runs/power",
)
print(data, teacher, run, sep="\n")

# %% What the bundle predicts, and why
print(run.bundle.predict(x_test[:5]))
print(run.bundle.validate().verdict)
run.explain(3).plot().savefig("runs/power/explanation.png")
