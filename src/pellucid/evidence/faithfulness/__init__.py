"""Does the score move where the map says? One metric a file."""
