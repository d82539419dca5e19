"""Work on a cluster: what the charts' Jobs do and what people do to an installation.

`python -m ops COMMAND` runs one of them; each is a module here with `main(argv) -> exit code`.
Needs nothing of the lifecycle but `slipway`, so that the image of these tools stays small.
"""
