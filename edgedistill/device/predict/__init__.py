"""Predictions for series from files, streams, sockets, folders and MQTT."""
