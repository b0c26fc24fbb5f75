"""The commands of `preread`, one file per noun; each parses, calls one part and prints what it says."""
