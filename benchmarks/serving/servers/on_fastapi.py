"""FastAPI with ONNX Runtime: what one writes by hand, with a checked body, on the same uvicorn."""

import os

import uvicorn
from fastapi import FastAPI
from model import Onnx
from pydantic import BaseModel

app = FastAPI()
model = Onnx()


class Body(BaseModel):
    instances: list[list[float]]


class Answer(BaseModel):
    predictions: list[float]


@app.post("/predict")
async def predict(body: Body) -> Answer:
    return Answer(predictions=model.predict(body.instances).tolist())


if __name__ == "__main__":
    port = int(os.environ["BENCH_PORT"])
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", access_log=False)
