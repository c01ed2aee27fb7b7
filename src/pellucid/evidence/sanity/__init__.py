"""Does a map depend on what the network has learned? One metric a file."""
