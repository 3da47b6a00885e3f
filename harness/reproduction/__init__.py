"""Does a recorded run come out the same, and where do two runs part?"""
