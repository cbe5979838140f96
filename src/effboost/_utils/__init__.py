"""Utilities that several subpackages use."""
