"""STOW-RS (PS3.18 10.5): HTTP in a process of its own, its instances into the one intake."""
