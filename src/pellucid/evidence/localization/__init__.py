"""Does a map lie where the cause is known to lie? One metric a file."""
