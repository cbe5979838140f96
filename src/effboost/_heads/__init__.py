"""Classifiers that decide on features."""
