"""DICOM: what a folder holds, where its slices lie, what its pixels mean. pydicom is imported when a file needs it."""
