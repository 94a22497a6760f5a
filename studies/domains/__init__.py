"""Does severity encoding leave photographs?"""
