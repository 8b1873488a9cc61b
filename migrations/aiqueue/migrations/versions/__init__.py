"""Versions, in order."""
