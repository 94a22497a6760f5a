"""Severity: how far is the encoder's guess from the clean latent, and where should reverse diffusion begin?

encoder      y -> z_hat and var_hat, the predicted variance of its error (`untrained` where there is no encoder)
calibration  what is fitted to an encoder on validation images: var_hat made right, a bound, what is usual
variance     whose word is taken on the variance of the error: the encoder's, the residual's, both, the truth
start        where reverse diffusion begins, given that variance
"""
