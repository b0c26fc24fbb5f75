"""How fast instances come in, beside other receivers."""
