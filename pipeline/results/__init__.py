"""From probability maps to DICOM objects: findings, measurements, SEG, SR and picture."""
