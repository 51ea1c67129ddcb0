"""Everything that goes out: case folders, anonymous copies, DICOM objects."""
