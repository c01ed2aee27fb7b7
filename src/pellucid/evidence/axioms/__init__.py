"""Does a map keep what its method promises? One metric a file."""
