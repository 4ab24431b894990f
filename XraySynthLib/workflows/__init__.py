"""One module a verb: its frozen config class and the function that runs it.

Config classes import nothing heavy; a verb's function loads what it needs when it runs.
"""
