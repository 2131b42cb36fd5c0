"""A classic peer that is right but for one fault of choice: peer.py FAULT DIR TRACKER_IP PORT.

It serves both generations and asks in lines. Each fault is one line that asks for it.
"""

import json
import os
import socket
import sys
import threading
import time

FAULT, FOLDER, IP, PORT = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
EXCLUDED = (".so", ".py", ".dll")
INTERVAL = 0.2


def is_fit(name):
    return name not in ("", ".", "..", ".ahoy") and not set(name) & set("/\\\0\r\n")


def place(name):
    return os.path.join(FOLDER, name)


def files():
    found = []
    for name in os.listdir(FOLDER):
        if os.path.isfile(place(name)) and is_fit(name) and not name.endswith(".part"):
            if not name.endswith(EXCLUDED) or FAULT == "announces-programs":
                found.append({"name": name, "mtime": int(os.path.getmtime(place(name)))})
    return found


def request(conn):
    """The name that is asked for, and whether it came as a line."""
    text = b""
    conn.settimeout(30 if FAULT == "one-at-a-time" else 3)
    while b"\n" not in text:
        try:
            piece = conn.recv(1024)
        except TimeoutError:
            break
        if not piece:
            break
        text += piece
        conn.settimeout(0.4)
    conn.settimeout(None)
    return text.decode().rstrip("\r\n"), text.endswith(b"\n")


def serve(conn):
    with conn:
        try:
            name, in_lines = request(conn)
            wanted = is_fit(name) or FAULT == "serves-outside"
            if name.endswith(EXCLUDED) and FAULT != "serves-programs":
                wanted = False
            if not wanted or not os.path.isfile(place(name)):
                if FAULT == "missing-is-empty" and in_lines:
                    conn.sendall(b"Content-Length: 0\n")
                return
            with open(place(name), "rb") as file:
                content = file.read()
            header = f"Content-Length: {len(content)}\n".encode()
            if FAULT == "no-header":
                header = b""
            if FAULT == "counts-one-less":
                header = f"Content-Length: {len(content) - 1}\n".encode()
            if FAULT == "header-always":
                in_lines = True
            conn.sendall(header + content if in_lines else content)
        except OSError:
            pass


def accept(listener):
    while True:
        conn, _ = listener.accept()
        if FAULT == "one-at-a-time":
            serve(conn)
        else:
            threading.Thread(target=serve, args=(conn,), daemon=True).start()


def fetch(name, entry):
    with socket.create_connection((entry["ip"], entry["port"]), timeout=2) as conn:
        conn.sendall(f"{name}\n".encode())
        stream = conn.makefile("rb")
        head = stream.readline()
        if not head.startswith(b"Content-Length: "):
            if FAULT == "believes-itself":
                open(place(name), "wb").close()
            return
        length = int(head.split(b":")[1])
        part = place(name) + (".part" if FAULT != "writes-in-place" else "")
        got = 0
        with open(part, "wb", buffering=0) as file:
            while got < length and (piece := stream.read1(length - got)):
                got += len(piece)
                file.write(piece)
        if FAULT == "waits-for-the-end":
            stream.read()
    if got < length and FAULT != "keeps-half-a-file":
        return os.remove(part)
    if length == 0 and FAULT == "empty-is-missing":
        return os.remove(part)
    if FAULT != "time-of-now":
        os.utime(part, (entry["mtime"], entry["mtime"]))
    os.replace(part, place(name))


def is_wanted(name, entry, own_port):
    if not is_fit(name) and FAULT != "writes-outside":
        return False
    if name.endswith(EXCLUDED) and FAULT != "takes-programs":
        return False
    if entry["port"] == own_port and FAULT != "believes-itself":
        return False
    if not os.path.exists(place(name)):
        return True
    if FAULT == "never-replaces":
        return False
    have = int(os.path.getmtime(place(name)))
    return have < entry["mtime"] or FAULT == "takes-whatever-differs" and have != entry["mtime"]


def sync(directory, own_port):
    for name, entry in directory.items():
        if not is_wanted(name, entry, own_port):
            continue
        try:
            fetch(name, entry)
        except OSError:
            if FAULT == "stops-at-a-dead-holder":
                while True:
                    time.sleep(1)


def directories(conn):
    text, decoder = "", json.JSONDecoder()
    while piece := conn.recv(65536):
        text += piece.decode()
        while text.strip():
            text = text.lstrip()
            try:
                value, end = decoder.raw_decode(text)
            except ValueError:
                break
            text = text[end:]
            yield value


def talk(own_port):
    with socket.create_connection((IP, PORT), timeout=5) as conn:
        conn.settimeout(None)
        first = {"port": own_port, "files": files()}
        if FAULT == "no-init":
            del first["files"]
        conn.sendall((json.dumps(first) + "\n").encode())
        for directory in directories(conn):
            sync(directory, own_port)
            time.sleep(INTERVAL)
            if FAULT != "says-it-once":
                conn.sendall((json.dumps({"port": own_port}) + "\n").encode())


listener = socket.create_server(("127.0.0.1", 0), backlog=64)
own_port = listener.getsockname()[1]
threading.Thread(target=accept, args=(listener,), daemon=True).start()
while True:
    try:
        talk(own_port)
    except OSError:
        pass
    if FAULT == "gives-up":
        threading.Event().wait()
    time.sleep(INTERVAL)
