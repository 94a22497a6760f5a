"""Severity: how far is the encoder's estimate from the clean latent, and where should reverse diffusion start?

encoder      y -> z_hat and var_hat, the predicted variance of its error (`untrained` if there is no encoder)
quick        fitted to one operator in a minute, with a `ridge` for its variance; `reconstructor`: z_hat = E(R(y))
calibration  fits to an encoder on validation images: recalibration, a bound, in-distribution statistics
variance     the source of the error variance: the encoder, the residual, both, or the ground truth
start        where reverse diffusion starts, given that variance
"""
