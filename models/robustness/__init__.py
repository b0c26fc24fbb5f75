"""What becomes of a package's answers when images are worse than those it learnt from, or made to deceive."""
