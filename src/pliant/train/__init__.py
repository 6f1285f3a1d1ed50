"""Training: tasks, the LightningModule that wraps them, data, the run folder.

    settings      the recipe, the network, the machine (imports no torch)
    task          what a batch costs, under the configurations that a step runs
    module        one LightningModule for every task
    data_module   batches; the order is a pure function of (seed, epoch)
    callbacks     tier statistics before dev, the table of epochs, the best weights
    fit           one call of Lightning's Trainer: resume, Ctrl-C, distributed
    run_folder    what a run leaves, written whole and opened without pickle

Import from the modules: `from pliant.train.run_folder import RunFolder`.
"""
