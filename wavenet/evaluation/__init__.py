"""Evaluation of a model: bits per sample, baselines, resynthesis metrics, the listening page."""
