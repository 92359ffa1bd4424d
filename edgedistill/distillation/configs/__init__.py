"""The configs of objectives: what a recipe can say of each, without torch."""
