"""How fast training is, side by side with other ways to train the same network."""
