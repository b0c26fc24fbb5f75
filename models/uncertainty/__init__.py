"""How sure an outline is, learnt from how often such outlines were right."""
