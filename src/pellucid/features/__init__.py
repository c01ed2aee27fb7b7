"""Features: what a person can measure on an image."""
