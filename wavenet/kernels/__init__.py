"""Compiled code that sampling and training share."""
