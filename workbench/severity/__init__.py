"""Severity: how far is the encoder's guess from the clean latent, and where should reverse diffusion begin?"""
