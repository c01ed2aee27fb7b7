"""Does the network use what it should not? Finding, weighing and confirming suspected shortcuts."""
