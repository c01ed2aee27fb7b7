"""Which cues does the network use, and where does it break? Pictures without color, shape or texture; stress; errors."""
