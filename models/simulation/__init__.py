"""Images that are made, not taken: chest CT phantoms with nodules, for training and judging detectors."""
