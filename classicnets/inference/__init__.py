"""Trained networks at work: what they say of images, from a run or from anyone's weights."""
