"""Layers, models and training loops that several test modules share."""
