"""Gradient boosted trees, with early stopping on the validation window."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from components.train.job import Clock, Job, Reporter, Trained

OBJECTIVES = {
    "binary": ("binary:logistic", "logloss"),
    "multiclass": ("multi:softprob", "mlogloss"),
    "regression": ("reg:squarederror", "rmse"),
}
EVERY = 50
"""Rounds between checkpoints."""
WATCHED = 20_000
"""Train rows whose loss is followed; that of all of them would cost as much as the training."""
EXPLAINED = 100
"""Validation rows whose explanations must be XGBoost's own."""


def train(job: Job, reporter: Reporter, out: Path) -> Trained:
    """Train, keep the rounds up to the lowest validation loss, and write `out/model.onnx` and
    `out/explainer.npz`.

    The loop is written out because `xgb.train(xgb_model=...)` restarts its round counter, and the
    sampling of rows and columns hangs on it: a resumed run would end in another model. For the
    same reason the booster goes through its saved bytes at every checkpoint, resumed or not.
    """
    clock = Clock()
    import xgboost

    clock.ends("imports")
    settings = dict(job.settings)
    rounds, patience = settings.pop("rounds"), settings.pop("early_stopping_rounds")
    objective, metric = OBJECTIVES[job.task]
    parameters = {
        **settings,
        "objective": objective,
        "eval_metric": metric,
        "tree_method": "hist",
        "device": "cuda" if job.gpu else "cpu",
        "nthread": job.threads,
        "seed": job.seed,
        "seed_per_iteration": True,
    }
    if job.classes:
        parameters["num_class"] = job.classes

    x, y = job.load("train", reporter.rank, reporter.world)
    valid_x, valid_y = job.load("validate")
    matrix = xgboost.QuantileDMatrix(x, y, nthread=job.threads)
    valid = xgboost.QuantileDMatrix(valid_x, valid_y, nthread=job.threads, ref=matrix)
    watched = xgboost.QuantileDMatrix(
        x[:: -(-len(x) // WATCHED)], y[:: -(-len(x) // WATCHED)], ref=matrix
    )
    booster = xgboost.Booster(parameters, cache=[matrix, watched, valid])
    clock.ends("data")
    curve: list[dict[str, float]] = []
    resumed = None
    if folder := reporter.restore():
        booster = xgboost.Booster(parameters, model_file=str(folder / "model.ubj"))
        curve = json.loads((folder / "curve.json").read_text())
        resumed = len(curve)

    def best_round() -> int:
        return int(np.argmin([point["validate"] for point in curve]))

    def stopped() -> bool:
        return bool(curve) and len(curve) - 1 - best_round() >= patience

    def save(folder: Path) -> None:
        booster.save_model(folder / "model.ubj")
        (folder / "curve.json").write_text(json.dumps(curve))

    while len(curve) < rounds and not stopped():
        booster.update(matrix, iteration=len(curve))
        losses = booster.eval_set([(watched, "train"), (valid, "validate")], len(curve))
        values = [float(item.rsplit(":", 1)[1]) for item in losses.split("\t")[1:]]
        curve.append({"step": len(curve) + 1, "train": values[0], "validate": values[1]})
        if len(curve) % EVERY == 0:
            reporter.report(len(curve), curve[-1]["validate"], save)
            booster = xgboost.Booster(parameters, model_file=bytearray(booster.save_raw("ubj")))
    if len(curve) % EVERY:
        reporter.report(len(curve), curve[-1]["validate"], save)

    clock.ends("training")
    kept = booster[: best_round() + 1]
    from components.train.explainer import explain_booster, xgboost_contributions

    explained = valid_x[:EXPLAINED]
    contributions = xgboost_contributions(kept, explained)
    if reporter.rank == 0:
        from components.train.export import check_parity, export_booster

        expected = kept.inplace_predict(valid_x[:1000])
        export_booster(kept, len(job.categories), job.task, out / "model.onnx")
        check_parity(out / "model.onnx", valid_x[:1000], np.asarray(expected))
        explain_booster(kept, explained, contributions, out / "explainer.npz")
    loss = curve[best_round()]["validate"]
    clock.ends("export")
    return Trained(loss, curve[::5] + curve[-1:], resumed, job.settings, clock.seconds)
