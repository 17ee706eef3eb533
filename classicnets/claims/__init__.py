"""Claims that end in a verdict."""
