"""The derivation, alone: activations, the three equations, blocks, networks, the frame."""
