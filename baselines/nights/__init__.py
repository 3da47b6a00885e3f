"""All nights of all runners as pages: what moved when, between which commits, and is it real."""
