"""The demo: generated studies with known truth, an archive of its own, a sender."""
