#!/usr/bin/env python3
"""One device, from the command line: says things, and shows each event of its conversations once, in order.

    talk.py DEVICE listen             stays connected, prints events as they come, comes back when the connection is lost
    talk.py DEVICE catch-up           prints what was missed, and ends
    talk.py DEVICE say C TEXT ...     posts each TEXT to conversation C, and ends once all of it is durable

DEVICE.json is what `POST /v1/auth/register` or `login` answered; `listen` and `catch-up` keep one number per conversation
in it, under "have". The server is $STARLING_URL, or http://127.0.0.1:8080. Needs Python 3.8 and nothing else. Not a
library: it is an example to read of what a client does with the protocol (protocol/README.md). No TLS, no marks.
"""
import base64, json, os, random, socket, struct, sys, time, urllib.error, urllib.parse, urllib.request, uuid

URL = urllib.parse.urlsplit(os.environ.get("STARLING_URL", "http://127.0.0.1:8080"))
QUIET = 60  # the server pings sooner than this: who hears nothing for so long has lost the connection


class Lost(Exception):
    """The connection is gone; a client comes back and goes on where it was."""


class Device:
    """What outlives a connection: the sign-in, and a position per conversation."""

    def __init__(self, name):
        self.path = name + ".json"
        self.load()

    def load(self):
        try:
            with open(self.path) as file:
                self.kept = json.load(file)
            self.kept["access_token"]
        except (OSError, ValueError, KeyError) as error:
            sys.exit(f"{self.path} is not the answer to a sign-in: {error!r}")
        self.have = self.kept.setdefault("have", {})

    def keep(self):
        with open(self.path + ".new", "w") as file:
            json.dump(self.kept, file)
        os.replace(self.path + ".new", self.path)

    def call(self, method, path, body=None):
        headers = {"content-type": "application/json", "authorization": "Bearer " + self.kept["access_token"]}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{URL.geturl()}/v1/{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def refresh(self):
        """A refresh token is good for one use; its answer carries the next."""
        used = self.kept["access_token"]
        self.load()
        if self.kept["access_token"] != used:
            return  # another process with this file was first
        try:
            self.kept.update(self.call("POST", "auth/refresh", {"refresh_token": self.kept["refresh_token"]}))
        except urllib.error.HTTPError as error:
            if error.code == 401:
                sys.exit("this device is signed out: sign in again")
            raise
        self.keep()

    def show(self, event):
        """At least once comes in, exactly once goes out: what is held already is dropped by its number."""
        have = self.have.get(event["c"], 0)
        if event["seq"] > have + 1:
            self.fetch(event["c"], event["seq"])
        if event["seq"] > self.have.get(event["c"], 0):
            print(json.dumps(event, ensure_ascii=False), flush=True)
            self.have[event["c"]] = event["seq"]
            self.keep()

    def fetch(self, c, before):
        """The events that a gap announced, or a jump in the numbers gave away."""
        while (after := self.have.get(c, 0)) + 1 < before:
            page = self.call("GET", f"conversations/{c}/messages?after={after}&limit=200")
            for event in sorted(page["messages"] + page["events"], key=lambda event: event["seq"]):
                self.show(event)
            if self.have.get(c, 0) == after:
                return


class Socket:
    """A WebSocket, as little of RFC 6455 as one needs, with Starling's frames inside."""

    def __init__(self, device, purpose):
        try:
            self.tcp = socket.create_connection((URL.hostname, URL.port or 80), timeout=QUIET)
        except OSError as error:
            raise Lost(error)
        self.stream, self.device, self.frames, self.last_id = self.tcp.makefile("rb"), device, [], 0
        key = base64.b64encode(os.urandom(16)).decode()
        self.write(
            f"GET /v1/ws HTTP/1.1\r\nHost: {URL.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Protocol: starling.v1.json\r\n\r\n".encode()
        )
        if b" 101 " not in self.stream.readline():
            raise Lost("the server is busy")
        while self.stream.readline() not in (b"\r\n", b""):
            pass
        # the same purpose again replaces the socket before; another one is another tab of this device
        self.request("hello", token=device.kept["access_token"], device=purpose)

    def write(self, data):
        try:
            self.tcp.sendall(data)
        except OSError as error:
            raise Lost(error)

    def send(self, frame):
        data, mask = json.dumps(frame).encode(), os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
        self.write(b"\x81" + size + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)))

    def read(self, size):
        try:
            data = self.stream.read(size)
        except OSError as error:
            raise Lost(error)
        if len(data) < size:
            raise Lost("the connection was closed")
        return data

    def next(self):
        """The next frame that says something. Pings are answered on the way."""
        while True:
            while not self.frames:
                kind, size = self.read(2)
                size = struct.unpack(">H", self.read(2))[0] if size == 126 else size
                size = struct.unpack(">Q", self.read(8))[0] if size == 127 else size
                data = self.read(size)
                if kind == 0x88:
                    code = struct.unpack(">H", data[:2])[0]
                    if code in (4006, 4501):
                        self.device.refresh()
                    elif code >= 4500:
                        sys.exit(f"the server closed for good: {code}")
                    raise Lost(code)
                self.frames = [json.loads(line) for line in data.split(b"\n")] if kind == 0x81 else []
            frame = self.frames.pop(0)
            if frame:
                return frame
            self.send({})

    def request(self, verb, **d):
        """Asks, and waits for the answer; what is pushed meanwhile is dealt with."""
        self.last_id += 1
        self.send({"t": verb, "id": self.last_id, "d": d})
        while True:
            frame = self.next()
            if frame.get("id") == self.last_id:
                return frame["t"] == "ok", frame["d"]
            self.deal_with(frame)

    def deal_with(self, push):
        verb, d = push["t"], push["d"]
        if verb in ("msg", "evt"):
            self.device.show(d)
        elif verb == "gap":
            self.device.fetch(d["c"], d["to"] + 1)
        elif verb == "head":
            self.device.fetch(d["c"], d["seq"] + 1)
        elif verb == "token":
            self.device.refresh()
            self.send({"t": "auth", "d": {"token": self.device.kept["access_token"]}})

    def catch_up(self):
        """Starting and recovering are the same: say what one has, get what one lacks."""
        more, cursor = True, None
        while more or cursor:
            window = {"limit": 100, "cursor": cursor} if cursor else {"limit": 100}
            ok, answer = self.request("sync", list=window, have=self.device.have)
            if not ok:
                raise Lost(answer["message"])
            more, cursor = False, answer["next"]
            for item in answer["conversations"]:
                for event in item["events"]:
                    self.device.show(event)
                more |= item["more"]


def listen(device):
    socket = Socket(device, "listen")
    socket.catch_up()
    while True:
        socket.deal_with(socket.next())


def say(device, c, texts):
    """`texts` shrinks as they are acknowledged. Each keeps its client id until then: sending again is always safe."""
    socket = Socket(device, "say")
    while texts:
        cid, text = texts[0]
        ok, answer = socket.request("send", c=c, cid=cid, text=text)
        if ok:
            texts.pop(0)
        elif answer["retry"]:
            time.sleep(answer.get("after_ms", 500) / 1000)
        else:
            sys.exit(f"refused: {answer['message']}")


def main():
    if len(sys.argv) < 3 or sys.argv[2] not in ("listen", "catch-up", "say"):
        sys.exit(__doc__)
    if sys.argv[2] == "say" and len(sys.argv) < 5:
        sys.exit("say what, and where? talk.py DEVICE say CONVERSATION TEXT ...")
    device, verb, tries = Device(sys.argv[1]), sys.argv[2], 0
    texts = [(str(uuid.uuid4()), text) for text in sys.argv[4:]]
    work = {
        "listen": lambda: listen(device),
        "catch-up": lambda: Socket(device, "listen").catch_up(),
        "say": lambda: say(device, sys.argv[3], texts),
    }[verb]
    while True:
        started = time.monotonic()
        try:
            return work()
        except (Lost, urllib.error.URLError):
            tries = 0 if time.monotonic() - started > 30 else tries + 1
            time.sleep(random.uniform(0, min(30, 0.5 * 2**tries)))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
