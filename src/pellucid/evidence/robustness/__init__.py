"""Does a map stay the same where it should? One metric a file."""
