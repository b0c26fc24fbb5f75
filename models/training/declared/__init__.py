"""The declarations of the shipped packages, by package id."""

from models.training.declared.brain_flair_lesion import DECLARATION as BRAIN
from models.training.declared.breast_us_lesion import DECLARATION as BREAST
from models.training.declared.declaration import Declaration

DECLARATIONS: dict[str, Declaration] = {"brain-flair-lesion": BRAIN, "breast-us-lesion": BREAST}
