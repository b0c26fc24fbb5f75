"""Models that others made, read as text and numbers and written as packages; nothing of theirs is run."""
