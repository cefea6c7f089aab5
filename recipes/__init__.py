"""Recipes: one thin script a verb."""
