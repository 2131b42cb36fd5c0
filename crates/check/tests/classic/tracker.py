"""A classic tracker that is right but for one fault of choice: tracker.py FAULT TIMEOUT_SECONDS.

Prints its port. Written as plainly as a fault allows; each fault is one line that asks for it.
"""

import json
import os
import socket
import sys
import threading
import time

FAULT, TIMEOUT = sys.argv[1], float(sys.argv[2])
lock = threading.RLock()
# By address and port: the moment it was heard, its files, the connection it was heard on.
peers = {}
# By name: who announced it, in the order of their announcements.
holders = {}


def own_key(ip, port):
    return (ip, 0) if FAULT == "knows-addresses-only" else (ip, port)


def forget(peer):
    for name in peers.pop(peer)["files"]:
        holders[name].remove(peer)


def is_fit(name):
    if FAULT == "lists-paths":
        return True
    return name not in ("", ".", "..") and not set(name) & set("/\\\0\r\n")


def hear(message, ip, conn):
    """Takes a message; the directory that answers it."""
    with lock:
        now = time.monotonic()
        for peer in [peer for peer, state in peers.items() if now - state["heard"] > TIMEOUT]:
            if FAULT != "never-forgets":
                forget(peer)
        port = message["port"]
        if not 1 <= port <= 65535:
            raise ValueError("no port")
        peer = own_key(ip, port)
        state = peers.setdefault(peer, {"files": {}})
        state.update(heard=now, ip=ip, port=port, conn=conn)
        if "files" in message:
            announce(peer, state, message["files"])
        return directory()


def announce(peer, state, files):
    new = {}
    for file in files:
        if FAULT == "wants-the-usual-members" and file.keys() != {"name", "mtime"}:
            raise ValueError("not as usual")
        mtime = file["mtime"] if FAULT == "keeps-fractions" else int(file["mtime"])
        if is_fit(file["name"]):
            new[file["name"]] = mtime
        elif FAULT == "drops-all-for-one":
            return
    if FAULT == "adds-up":
        new = {**state["files"], **new}
    for name in state["files"].keys() - new.keys():
        holders[name].remove(peer)
    for name in new.keys() - state["files"].keys():
        holders.setdefault(name, []).append(peer)
    if FAULT == "keeps-one-holder":
        for name in new:
            mtime = lambda one: new[name] if one == peer else peers[one]["files"][name]
            best = max(holders[name], key=mtime)
            for other in set(holders[name]) - {best, peer}:
                del peers[other]["files"][name]
            holders[name] = [best]
            if best != peer:
                del new[name]
                break
    state["files"] = new


def directory():
    listed = {}
    for name, known in holders.items():
        if not known:
            continue
        time_of = lambda peer: peers[peer]["files"][name]
        best = max(known, key=time_of)
        if FAULT == "last-one-wins":
            best = known[-1]
        if FAULT == "ties-to-the-last":
            best = max(reversed(known), key=time_of)
        ip = "0.0.0.0" if FAULT == "no-address" else peers[best]["ip"]
        listed[name] = {"ip": ip, "port": peers[best]["port"], "mtime": time_of(best)}
    return listed


def messages(conn):
    """Each message as it comes, by the end of its object."""
    text, decoder = "", json.JSONDecoder()
    while piece := conn.recv(65536):
        text = text + piece.decode() if FAULT != "a-segment-is-a-message" else piece.decode()
        if FAULT == "a-segment-is-a-message":
            yield json.loads(text)
            continue
        if FAULT == "waits-for-line-ends" and "\n" not in text:
            continue
        while text.strip():
            text = text.lstrip()
            try:
                message, end = decoder.raw_decode(text)
            except ValueError:
                if "oops" in text:
                    raise
                break
            text = text[end:]
            yield message


def serve(conn, ip):
    ours = set()
    try:
        for message in messages(conn):
            key = own_key(ip, message.get("port"))
            if FAULT == "ignores-strangers" and key not in peers and "files" not in message:
                continue
            if FAULT == "answers-inits-only" and "files" not in message:
                hear(message, ip, conn)
                continue
            ours.add(key)
            end = "" if FAULT == "no-line-end" else "\n"
            answer = (json.dumps(hear(message, ip, conn)) + end).encode()
            conn.sendall(answer * 2 if FAULT == "answers-twice" else answer)
    except (ValueError, KeyError, TypeError):
        if FAULT == "dies-of-garbage":
            os._exit(1)
        if FAULT == "keeps-garbage":
            time.sleep(60)
    except OSError:
        pass
    finally:
        conn.close()
        with lock:
            for peer in ours & peers.keys():
                if FAULT == "forgets-at-hangup":
                    forget(peer)


listener = socket.create_server(("127.0.0.1", 0), backlog=64)
print("port", listener.getsockname()[1], flush=True)
while True:
    conn, (ip, _) = listener.accept()
    if FAULT == "one-at-a-time":
        serve(conn, ip)
    else:
        threading.Thread(target=serve, args=(conn, ip), daemon=True).start()
