"""Where two models part: their outputs, their maps, and the first layer that differs."""
