"""The KServe runtime: predictor and feature transformer, V1 and V2 over REST."""
