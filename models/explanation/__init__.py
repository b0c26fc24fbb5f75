"""Where a class came from: heat maps, and the tests a package must pass before one is shown."""
