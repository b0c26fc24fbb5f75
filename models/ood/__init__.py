"""How like its training cases an input is: distance of its features, and checks of the input itself."""
