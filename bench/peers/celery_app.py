"""The Celery application: a worker finds the tasks here, by the name of this module."""

from __future__ import annotations

import os

from celery import Celery

from bench import tasks

_URL = "BENCH_CELERY_URL"

app = Celery("bench")
app.conf.update(
    broker_url=os.environ.get(_URL, ""),
    result_backend=os.environ.get(_URL, ""),
    task_serializer="pickle",
    result_serializer="pickle",
    accept_content=["pickle"],
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)

TASKS = {
    function.__name__: app.task(function, name=f"bench.{function.__name__}")
    for function in (tasks.noop, tasks.array, tasks.length, tasks.pause, tasks.absolutes)
}


def configure(url: str) -> None:
    """Use this server, here and in workers that are started from here."""
    os.environ[_URL] = url
    app.conf.update(broker_url=url, result_backend=url)
