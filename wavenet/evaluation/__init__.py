"""What a model is worth: yardsticks for its bits per sample, pictures, the listening page."""
