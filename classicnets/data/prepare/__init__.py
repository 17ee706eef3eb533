"""What brings a data set here, a module a source."""
