"""The local cloud: ministack with the behaviours Speedtrap depends on and that it lacks.

usage: cloud.py [--dir DIR] [--port PORT] [--mqtt-port PORT] [--persist] [--limits]

Prints one line of JSON, {"ready": true, "pid", "endpoint", "mqtt_port"}, once it serves. SIGTERM, SIGINT or the death
of the process that started it ends it; what Firehose had buffered is delivered first.

What the environment sets:
  LOCAL_FIREHOSE_SCALE    share of a delivery stream's interval that really passes (0.0167: 60 s become 1 s)
  LOCAL_ITERATOR_SECONDS  age at which a shard iterator expires (300)
  LOCAL_TTL_SECONDS       pause between two sweeps of expired items (60)
  LOCAL_CLOUD_DETACHED=1  outlive the process that started it
"""

import argparse
import asyncio
import ctypes
import importlib.metadata
import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request

# The patches replace private names, so another version may break in silence.
MINISTACK_VERSION = "1.5.33"
PR_SET_PDEATHSIG = 1


def parse_arguments():
    parser = argparse.ArgumentParser(description="Speedtrap's local cloud")
    parser.add_argument("--dir", help="private folder for what is kept on disk")
    parser.add_argument("--port", type=int, default=0, help="port of the AWS endpoint (default: a free one)")
    parser.add_argument("--mqtt-port", type=int, default=0, help="port of the MQTT broker (default: a free one)")
    parser.add_argument("--persist", action="store_true", help="save the state in DIR on a clean stop")
    parser.add_argument("--limits", action="store_true", help="throttle Kinesis shards as AWS does")
    return parser.parse_args()


def die_with_parent():
    """Asks the kernel for SIGTERM when the starter is gone, and ends at once if it already is."""
    if sys.platform != "linux" or os.environ.get("LOCAL_CLOUD_DETACHED") == "1":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(0)


def listen(port):
    """Binds before ministack is imported, so that no other process can take the port in between."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(512)
    listener.set_inheritable(True)
    return listener


def configure(arguments, http_port, mqtt_port):
    """ministack reads its configuration from the environment while it is imported."""
    os.environ.update(
        GATEWAY_PORT=str(http_port),
        BIND_HOST="127.0.0.1",
        IOT_MTLS_PORT=str(mqtt_port),
        SFTP_ENABLED="0",
    )
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    if arguments.dir:
        os.makedirs(arguments.dir, exist_ok=True)
        os.environ.update(
            TMPDIR=arguments.dir,
            STATE_DIR=os.path.join(arguments.dir, "state"),
            S3_DATA_DIR=os.path.join(arguments.dir, "s3"),
        )
        if arguments.persist:
            os.environ.update(PERSIST_STATE="1", S3_PERSIST="1")


def wait_until_ready(http_port):
    for _ in range(1500):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{http_port}/_ministack/ready", timeout=2).close()
            return True
        except (OSError, urllib.error.URLError):
            time.sleep(0.02)
    return False


async def serve(http, http_port, mqtt_port, firehose):
    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config
    import ministack.app

    loop = asyncio.get_running_loop()
    firehose.bind_loop(loop)
    config = Config()
    config.bind = [f"fd://{http.fileno()}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    config.loglevel = "WARNING"

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    flusher = asyncio.create_task(firehose.flush_due_buffers())
    server = asyncio.create_task(hypercorn_serve(ministack.app.app, config, shutdown_trigger=stop.wait))
    if not await asyncio.to_thread(wait_until_ready, http_port):
        sys.exit("the local cloud did not become ready within 30 s")
    ready = {"ready": True, "pid": os.getpid(), "endpoint": f"http://127.0.0.1:{http_port}", "mqtt_port": mqtt_port}
    print(json.dumps(ready), flush=True)

    await stop.wait()
    flusher.cancel()
    firehose.flush_all_buffers()
    await server


def main():
    arguments = parse_arguments()
    installed = importlib.metadata.version("ministack")
    if installed != MINISTACK_VERSION:
        sys.exit(f"ministack {installed} is installed, the patches are for {MINISTACK_VERSION}")
    die_with_parent()
    http, mqtt = listen(arguments.port), listen(arguments.mqtt_port)
    http_port, mqtt_port = http.getsockname()[1], mqtt.getsockname()[1]
    configure(arguments, http_port, mqtt_port)

    import dynamodb_patch
    import firehose_patch
    import iam_patch
    import iot_patch
    import kinesis_patch
    import mqtt_patch
    import sns_patch

    kinesis_patch.apply(limits=arguments.limits)
    dynamodb_patch.apply()
    firehose_patch.apply()
    iam_patch.apply()
    iot_patch.apply()
    mqtt_patch.apply(mqtt)
    sns_patch.apply()
    asyncio.run(serve(http, http_port, mqtt_port, firehose_patch))


if __name__ == "__main__":
    main()
