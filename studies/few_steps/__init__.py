"""Which solver restores best in a few evaluations of the prior?"""
