"""What `study.torch` is made of; needs PyTorch."""
