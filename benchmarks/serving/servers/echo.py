"""The floor: a bare application on uvicorn that reads a body and sends a fixed answer."""

import json
import os
from pathlib import Path

import uvicorn

ANSWERS = {
    path: (
        body.encode(),
        [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))],
    )
    for path, body in json.loads(Path(os.environ["BENCH_ANSWERS"]).read_text()).items()
}


async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    body, headers = ANSWERS[scope["path"]]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(os.environ["BENCH_PORT"]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
    )
