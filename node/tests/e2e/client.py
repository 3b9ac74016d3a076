"""Signs two people in, lets them talk live, takes one of them away and brings them back with one number.

Knows what the protocol's text says and nothing else. Usage: client.py http://127.0.0.1:8080
"""
import json
import sys
import urllib.error
import urllib.request

from websockets.sync.client import connect

URL = sys.argv[1]
PASSWORD = "correct horse battery staple"


def rest(method, path, body=None, token=None, expect=(200, 201, 204)):
    headers = {"content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{URL}/v1/{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        status, text = refused.code, refused.read()
    assert status in expect, (method, path, status, text)
    return json.loads(text) if text else None


class Device:
    """One socket: replies by id, pushes in the order they came, one position per conversation."""

    def __init__(self, token, name, have):
        self.ws = connect(URL.replace("http", "ws", 1) + "/v1/ws", subprotocols=["starling.v1.json"], open_timeout=20)
        assert self.ws.subprotocol == "starling.v1.json"
        self.next_id, self.pushes, self.have, self.posts = 0, [], have, []
        self.welcome = self.ask("hello", {"token": token, "device": name, "app": "python/1"})
        synced = self.ask("sync", {"list": {"limit": 30}, "have": have})
        while True:
            for item in synced["conversations"]:
                assert "gap" not in item, item
                for event in item["events"]:
                    self.take(event)
            if not any(item["more"] for item in synced["conversations"]):
                break
            synced = self.ask("sync", {"have": self.have})

    def take(self, event):
        """Contiguous, or dropped as known; never a hole."""
        at = self.have.get(event["c"], 0)
        if event["seq"] <= at:
            return
        assert event["seq"] == at + 1, (event, at)
        self.have[event["c"]] = event["seq"]
        if "text" in event:
            self.posts.append(event["text"])

    def frames(self):
        for part in self.ws.recv(timeout=20).split("\n"):
            frame = json.loads(part)
            if frame == {}:
                self.ws.send("{}")
            else:
                yield frame

    def ask(self, verb, body):
        self.next_id += 1
        self.ws.send(json.dumps({"t": verb, "id": self.next_id, "d": body}))
        answer = None
        while answer is None:
            for frame in self.frames():
                if frame.get("id") == self.next_id:
                    answer = frame
                else:
                    self.pushed(frame)
        assert answer["t"] == "ok", answer
        return answer["d"]

    def pushed(self, frame):
        self.pushes.append(frame["t"])
        if frame["t"] in ("msg", "evt"):
            self.take(frame["d"])

    def send(self, conversation, cid, text):
        sent = self.ask("send", {"c": conversation, "cid": cid, "text": text})
        self.take({"c": conversation, "seq": sent["seq"], "text": text})
        return sent

    def wait_for(self, n_posts):
        while len(self.posts) < n_posts:
            for frame in self.frames():
                self.pushed(frame)


def main():
    people = {}
    for name in ("pythonann", "pythonbob"):
        people[name] = rest("POST", "auth/register", {"username": name, "password": PASSWORD, "device": "python"})
    ann, bob = people.values()
    begin = {"kind": "direct", "members": [bob["user"]["id"]]}
    conversation = rest("POST", "conversations", begin, ann["access_token"], expect=(201,))["id"]

    # live, both ways
    a = Device(ann["access_token"], "a", {})
    b = Device(bob["access_token"], "b", {})
    said = []
    for n in range(10):
        for device, name in ((a, "ann"), (b, "bob")):
            text = f"{name} {n} \N{BIRD} {'line ' * n}"
            assert device.send(conversation, f"{name}-{n}", text)["dup"] is False
            said.append(text)
            a.wait_for(len(said))
            b.wait_for(len(said))
    assert a.posts == b.posts == said

    # one goes offline; what the other says meanwhile is not lost, and a retry of what was sent is not doubled
    have, seen = b.have, b.posts
    b.ws.close()
    for n in range(30):
        said.append(f"while you were away {n}")
        a.send(conversation, f"away-{n}", said[-1])
    tokens = rest("POST", "auth/refresh", {"refresh_token": bob["refresh_token"]})
    b = Device(tokens["access_token"], "b", have)
    again = b.ask("send", {"c": conversation, "cid": "bob-9", "text": said[19]})
    assert again["dup"] is True, again
    b.send(conversation, "back", "back again")
    said.append("back again")
    a.wait_for(len(said))
    assert seen + b.posts == said and a.posts == said
    page = rest("GET", f"conversations/{conversation}/messages?limit=200", token=tokens["access_token"])
    assert [post["text"] for post in page["messages"]] == said and page["more"] is False

    # the end: signed out, told so, and not to come back
    rest("POST", "auth/logout", token=tokens["access_token"])
    while True:
        frame = next(b.frames())
        if frame.get("t") == "bye":
            assert (frame["d"]["code"], frame["d"]["reconnect"]) == (4502, False), frame
            break
    rest("GET", "users/me", token=tokens["access_token"], expect=(401,))
    a.ws.close()
    print("all of it, in order, once")


main()
