"""Training, whatever the task: loop, schedule, average of the weights, run folder.

A task brings a model, batches and a loss; the loop is a generator and its caller owns the logging.
Everything counts images. Importing this package does not load torch.
"""
