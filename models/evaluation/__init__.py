"""How good a package is, on cases its training did not see."""
