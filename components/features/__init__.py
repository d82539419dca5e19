"""Build the feature views and the training set, and fill the online store."""
