"""The faces of preread: command line, pages, supervisor, demo, doctor."""
