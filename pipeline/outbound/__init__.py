"""From stored objects to the hospital: delivery to archives."""
