"""From networks to the frame, and training."""
