"""Pure tensor functions: no model, no image, no file."""
