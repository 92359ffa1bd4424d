"""Whether inputs, predictions and reasons drift from what they were."""
