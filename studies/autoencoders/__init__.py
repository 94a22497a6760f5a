"""The autoencoders study."""
