"""The store of a search: every training, its state and its results, in an Optuna study that all workers share."""
