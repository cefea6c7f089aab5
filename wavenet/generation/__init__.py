"""Audio files from a checkpoint."""
