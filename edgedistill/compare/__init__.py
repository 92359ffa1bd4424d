"""How far two models differ: their outputs, their maps, and the first layer that differs."""
