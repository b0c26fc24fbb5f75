"""From headers to a volume: selection, assembly by geometry, pixels, and coded refusals."""
