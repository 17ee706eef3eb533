"""What a network costs, and what its paper prints of that."""
