"""Networks a package may name, and how they are built."""
