"""Packages made smaller or faster, and the proof that they lose nothing by it."""
