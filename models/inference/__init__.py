"""A network over a grid: windows, streamed logits, labels on the source; in bounded memory."""
