"""KFP pipelines out of components."""
