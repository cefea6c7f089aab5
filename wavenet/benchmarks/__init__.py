"""Speed of sampling and training."""
