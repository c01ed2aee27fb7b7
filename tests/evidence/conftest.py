"""What is collected here."""

collect_ignore = ["outside.py"]  # looking for its doctests would register its metric
