"""From labelled data to a shipped package."""
