"""Training: `loop.py`, and what stands around it; `recipes/train.py` puts it together."""
