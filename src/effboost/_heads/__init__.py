"""Classifiers on features: how they are fitted, and how they predict."""
