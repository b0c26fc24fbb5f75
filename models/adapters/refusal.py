"""What an import refuses, and the sentences that say how to export a model where it lives."""

from __future__ import annotations

from typing import Final

from config.errors import PrereadError

EXPORT_WEIGHTS: Final = (
    "Where the model lives, save numbers only: torch.save(model.state_dict(), 'weights.pt'), "
    "or export it with torch.onnx.export, and import that."
)
EXPORT_ONNX: Final = (
    "Where the model lives, export it with torch.onnx.export or tf2onnx, and import the .onnx file."
)
NOT_TRUSTED: Final = "Do not open it elsewhere either; ask where it comes from."


class ImportRefusal(PrereadError):
    """A foreign model that is not imported: what is wrong, in which file, and what to do instead."""
