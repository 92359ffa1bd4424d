"""How a chain lies in memory: what `chain` lays out and the compiled loop of it reads."""

LANES = 32  # windows that go together: a few vectors, so that inner loops are worth their start
TILE = 4  # channels in and out that are held in registers at once
# Columns of a plan, a row a layer: tiles in and out, and what a layer is.
INPUTS, OUTPUTS, CHANNELS, TAPS, DILATION, SHIFT, SIZE, LENGTH = range(8)
