"""A worker that does, prompt by prompt, what a worker must not do. It speaks the protocol by hand, without the base.

`arguments.start` says how it begins, a prompt says what becomes of it; any other prompt gives a small PNG.
"""

import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path


def say(**message):
    print(json.dumps(message), flush=True)


def png(width=4, height=3):
    def part(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = (b"\0" + bytes(range(width * 3))) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def begin(start, arguments):
    if start == "exit":
        print("no module named torch", file=sys.stderr)
        sys.exit(3)
    if start == "hang":
        time.sleep(60)
    if start == "trouble":
        say(type="error", reason="the weights are not at /models/x")
        sys.exit(1)
    if start == "garbage":
        print("Loading checkpoint shards: 100%|####| 2/2")
        print('{"loss": 0.1}')
        os.write(1, b"\xff\xfe not text\n")
        os.write(1, b"x" * (3 << 20) + b"\n")
    if start == "garbled":
        say(type="hello", protocol="one")
    if start == "outcome":
        say(type="outcome", id="1", outcome="ok")
    revision = str(time.time_ns()) if start == "changing" else "r1"
    say(
        type="hello",
        protocol=2 if start == "newer" else 1,
        model="rogue",
        revision=revision,
        versions={"python": sys.version.split()[0]},
        arguments={**arguments, "seen": sorted(os.environ)},
        batch=4,
    )


def answer(one, folder, counts):
    prompt, path = one["prompt"], Path(one["path"])
    told = {"type": "outcome", "id": one["id"], "outcome": "ok", "path": str(path), "width": 4, "height": 3}
    if prompt == "crash":
        print("Segmentation fault in a kernel", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if prompt == "crash once" and not (counts / "crashed").exists():
        (counts / "crashed").touch()
        os._exit(9)
    if prompt == "hang":
        time.sleep(60)
    if prompt == "orphan":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        (counts / "child").write_text(str(child.pid))
        os._exit(7)
    if prompt == "stdout closed":
        os.close(1)
        time.sleep(60)
    if prompt == "garbled":
        return {**told, "width": "four"}
    if prompt == "wrong name":
        return {**told, "outcome": "splendid"}
    if prompt in {"refused", "filtered", "failed"}:
        return {"type": "outcome", "id": one["id"], "outcome": prompt, "reason": "because", "facts": {"a": "b"}}
    if prompt == "no memory":
        return {"type": "outcome", "id": one["id"], "outcome": "failed", "reason": "out_of_memory"}
    if prompt == "no file":
        return told
    if prompt == "elsewhere":
        (counts / "x.png").write_bytes(png())
        return {**told, "path": str(counts / "x.png")}
    if prompt == "climbing":
        (counts / "y.png").write_bytes(png())
        return {**told, "path": os.path.relpath(counts / "y.png", folder)}
    if prompt == "link":
        (counts / "z.png").write_bytes(png())
        path.symlink_to(counts / "z.png")
        return told
    if prompt == "pipe":
        os.mkfifo(path)
        return told
    if prompt == "folder":
        path.mkdir()
        return told
    if prompt == "text":
        path.write_text("no image")
        return told
    if prompt == "half":
        path.write_bytes(png()[:-20])
        return told
    path.write_bytes(png())
    if prompt == "lie":
        return {**told, "width": 1024, "height": 1024}
    if prompt == "no size":
        return {key: told[key] for key in ("type", "id", "outcome", "path")}
    if prompt == "chatty":
        print("step 1/50")
        say(type="log", text="half way", level="debug")
        say(type="outcome", id="nobody's", outcome="ok")
        say(type="news", text="from a later version")
        print(os.environ.get("ROGUE_TOKEN", "none"), file=sys.stderr, flush=True)
    if prompt == "giving up":
        return {"type": "error", "reason": "the GPU fell off the bus"}
    return told


def main():
    hello = json.loads(sys.stdin.readline())
    arguments = dict(hello["arguments"])
    counts = Path(arguments.pop("counts"))
    with (counts / "starts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    start = arguments.pop("start", "")
    if start == "once" and len((counts / "starts").read_text().split()) > 1:
        start = "exit"
    begin(start, arguments)
    for line in sys.stdin:
        order = json.loads(line)
        if order["type"] == "bye":
            if start == "stubborn":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(60)
            return
        for one in order["requests"]:
            with (counts / "asked").open("a") as file:
                file.write(json.dumps(one["prompt"]) + "\n")
            say(**answer(one, hello["folder"], counts))


if __name__ == "__main__":
    main()
