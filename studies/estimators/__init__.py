"""How good is a severity encoder that is fitted to the operator in a minute?"""
