"""Features: mel spectrogram, F0, score and piano roll, and the filters around the model."""
