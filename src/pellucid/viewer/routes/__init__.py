"""The API, one file for each thing that the page asks about."""
