"""KServe's own Python server with Feast's SDK in it: as a transformer in front of a predictor, or,
with BENCH_ONE_PROCESS=1, with the model in the same process."""

import json
import os
from pathlib import Path

from feast import FeatureStore
from kserve import Model, ModelServer
from model import Onnx


class Features:
    """Feast's online features beside the request's own, in the order that the model takes."""

    def __init__(self):
        repository = Path(os.environ["BENCH_FEAST"])
        plan = json.loads((repository / "plan.json").read_text())
        self.entities, self.features = plan["entities"], plan["features"]
        self.store = FeatureStore(repo_path=str(repository))
        # Once: to look the service up for every request adds milliseconds.
        self.service = self.store.get_feature_service(plan["service"])

    def rows(self, instances):
        found = self.store.get_online_features(
            features=self.service,
            entity_rows=[{name: row[name] for name in self.entities} for row in instances],
            full_feature_names=True,
        ).to_dict()
        return [
            [row[name] if name in row else found[name][at] for name in self.features]
            for at, row in enumerate(instances)
        ]


class Transformer(Model):
    def __init__(self, name):
        super().__init__(name)
        self.features = Features()
        self.ready = True

    def preprocess(self, payload, headers=None):
        return {"instances": self.features.rows(payload["instances"])}


class OneProcess(Model):
    def __init__(self, name):
        super().__init__(name)
        self.features = Features()
        self.model = Onnx()
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        rows = self.features.rows(payload["instances"])
        return {"predictions": self.model.predict(rows).tolist()}


if __name__ == "__main__":
    one = os.environ.get("BENCH_ONE_PROCESS") == "1"
    ModelServer().start([(OneProcess if one else Transformer)("bench")])
