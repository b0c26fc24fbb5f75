"""The series sorter: what a series shows, judged from its pixels, for when tags are silent or wrong."""
