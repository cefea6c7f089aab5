"""Frames of features: mel spectrogram, F0, score, and the filters around the model."""
