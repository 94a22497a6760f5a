"""Does a severity encoder trained on one degradation still steer reconstruction on another?"""
