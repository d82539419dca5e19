"""The network, trained epoch by epoch. Seed and epoch alone decide its randomness, so a run that
was interrupted ends in the same weights as one that was not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.train.job import Clock, Job, Reporter, Trained

if TYPE_CHECKING:
    import torch


def train(job: Job, reporter: Reporter, out: Path) -> Trained:
    """Train, keep the epoch with the lowest validation loss, and write `out/model.onnx` and
    `out/explainer.npz`."""
    clock = Clock()
    import torch
    from torch.nn import functional

    from components.train.network import Head, Network

    clock.ends("imports")
    settings = job.settings
    torch.set_num_threads(job.threads)
    # The setter of the same name imports the compiler, 1.5 s; this one does the same without.
    torch.set_deterministic_debug_mode("error")
    torch.manual_seed(job.seed)

    x, y = job.load("train", reporter.rank, reporter.world)
    valid_x, valid_y = job.load("validate")
    with np.errstate(all="ignore"):
        mean = np.nan_to_num(np.nanmean(x, 0, dtype=np.float64))
        std = np.nan_to_num(np.nanstd(x, 0, dtype=np.float64))
    # A Tune trial has a GPU too, but none of Ray Train's helpers.
    device = torch.device("cuda" if job.gpu else "cpu")
    if reporter.world > 1:
        from ray.train.torch import get_device, prepare_model

        device = get_device()
        mean, std = _same_everywhere(mean, device), _same_everywhere(std, device)
    std[std < 1e-6] = 1.0
    label_mean, label_std = 0.0, 1.0
    if job.task == "regression":
        everyone = job.load("train")[1]
        label_mean, label_std = float(everyone.mean()), float(everyone.std()) or 1.0

    network = Network(
        job.categories,
        torch.from_numpy(mean.astype(np.float32)),
        torch.from_numpy(std.astype(np.float32)),
        job.classes or 1,
        settings["hidden"],
        settings["dropout"],
    )
    model: torch.nn.Module = network.to(device)
    if reporter.world > 1:
        model = prepare_model(network)
        network = getattr(model, "module", model)

    def loss_of(features: torch.Tensor, labels: torch.Tensor, by: torch.nn.Module) -> torch.Tensor:
        output = by(features)
        if job.task == "multiclass":
            return functional.cross_entropy(output, labels.to(torch.int64))
        if job.task == "binary":
            return functional.binary_cross_entropy_with_logits(output[:, 0], labels)
        return functional.mse_loss(output[:, 0], (labels - label_mean) / label_std)

    def in_units(loss: float) -> float:
        return loss**0.5 * label_std if job.task == "regression" else loss

    features, labels = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
    valid_features = torch.from_numpy(valid_x).to(device)
    valid_labels = torch.from_numpy(valid_y).to(device)
    epochs, size = settings["epochs"], min(settings["batch_size"], len(features))
    batches = -(-len(features) // size)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings["learning_rate"], epochs=epochs, steps_per_epoch=batches
    )
    clock.ends("data")
    curve: list[dict[str, float]] = []
    best, best_weights = float("inf"), copy.deepcopy(network.state_dict())
    resumed = None
    if folder := reporter.restore():
        state = torch.load(folder / "state.pt", weights_only=True, map_location=device)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        curve, best, best_weights = state["curve"], state["best"], state["best_weights"]
        resumed = len(curve)

    for epoch in range(len(curve), epochs):
        torch.manual_seed(job.seed * 100_003 + epoch + 1)
        model.train()
        order = torch.randperm(len(features))
        total = 0.0
        for batch in range(batches):
            rows = order[batch * size : (batch + 1) * size].to(device)
            optimizer.zero_grad()
            loss = loss_of(features[rows], labels[rows], model)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        model.eval()
        with torch.inference_mode():
            validation = in_units(float(loss_of(valid_features, valid_labels, network)))
        curve.append(
            {
                "step": epoch + 1,
                "train": in_units(total / len(features)),
                "validate": validation,
            }
        )
        if validation < best:
            best, best_weights = validation, copy.deepcopy(network.state_dict())
        state = {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "curve": curve,
            "best": best,
            "best_weights": best_weights,
        }

        def save(folder: Path, state: dict[str, object] = state) -> None:
            torch.save(state, folder / "state.pt")

        reporter.report(epoch + 1, validation, save)

    clock.ends("training")
    if reporter.rank == 0:
        network.load_state_dict(best_weights)
        head = Head(network.cpu(), job.task, label_mean, label_std).eval()
        with torch.inference_mode():
            expected = head(torch.from_numpy(valid_x[:1000])).numpy()
        _export(head, len(job.categories), out / "model.onnx")
        from components.train.explainer import explain_network
        from components.train.export import check_parity

        check_parity(out / "model.onnx", valid_x[:1000], expected)
        explain_network(x, out / "explainer.npz")
    clock.ends("export")
    return Trained(best, curve, resumed, job.settings, clock.seconds)


def _same_everywhere(values: np.ndarray, device: torch.device) -> np.ndarray:
    """The mean over all workers, so that each builds the same network. Those with GPUs exchange
    nothing that lies elsewhere."""
    import torch
    from torch import distributed

    tensor = torch.from_numpy(values).to(device)
    distributed.all_reduce(tensor)
    return tensor.cpu().numpy() / distributed.get_world_size()


def _export(head: object, columns: int, path: Path) -> None:
    """By the TorchScript exporter: 0.1 s, where the newer one spends 4 to 6 s on its start-up."""
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            head,
            (torch.zeros(2, columns),),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["features"],
            output_names=["prediction"],
            dynamic_axes={"features": {0: "rows"}, "prediction": {0: "rows"}},
        )
