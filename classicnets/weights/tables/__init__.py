"""The names of other libraries' weights, a file a library: where each leaf of our networks stands among theirs."""
