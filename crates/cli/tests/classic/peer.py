"""A peer of a classic swarm as a student would write it: peer.py lines|bare IP PORT DIR [PACE].

It speaks one generation only. PACE is how many bytes it sends each second, for tests that
interrupt it. Prints its port, then a line for each file that it has fetched.
"""

import json
import os
import socket
import sys
import threading
import time

GENERATION, IP, PORT, FOLDER = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
PACE = int(sys.argv[5]) if len(sys.argv) > 5 else None
LINES = GENERATION == "lines"
INTERVAL = 0.2


def files():
    found = []
    for name in os.listdir(FOLDER):
        path = os.path.join(FOLDER, name)
        if os.path.isfile(path) and not name.endswith((".so", ".py", ".dll", ".part")):
            found.append({"name": name, "mtime": int(os.path.getmtime(path))})
    return found


def send_file(conn, path):
    with open(path, "rb") as file:
        while True:
            piece = file.read(65536 if PACE is None else PACE // 10)
            if not piece:
                return
            conn.sendall(piece)
            if PACE is not None:
                time.sleep(0.1)


def serve_one(conn):
    try:
        answer(conn)
    except OSError:
        pass


def answer(conn):
    with conn:
        if LINES:
            name = conn.makefile("r", encoding="utf-8", newline="\n").readline().rstrip("\n")
        else:
            name = conn.recv(1024).decode()
        path = os.path.join(FOLDER, name)
        if not name or "/" in name or not os.path.isfile(path):
            return
        if LINES:
            conn.sendall(f"Content-Length: {os.path.getsize(path)}\n".encode())
        send_file(conn, path)


def serve(listener):
    while True:
        conn, _ = listener.accept()
        threading.Thread(target=serve_one, args=(conn,), daemon=True).start()


def fetch(name, entry):
    with socket.create_connection((entry["ip"], entry["port"]), timeout=5) as conn:
        path = os.path.join(FOLDER, name)
        part = path + ".part"
        with open(part, "wb") as file:
            if LINES:
                conn.sendall(f"{name}\n".encode())
                stream = conn.makefile("rb")
                head = stream.readline()
                if not head.startswith(b"Content-Length: "):
                    return os.remove(part)
                length = int(head.split(b":")[1])
                while length > 0:
                    piece = stream.read(min(65536, length))
                    if not piece:
                        return os.remove(part)
                    length -= len(piece)
                    file.write(piece)
            else:
                conn.sendall(name.encode())
                while piece := conn.recv(65536):
                    file.write(piece)
        os.utime(part, (entry["mtime"], entry["mtime"]))
        os.replace(part, path)
        print("fetched", name, flush=True)


def sync(directory, own_port):
    for name, entry in directory.items():
        path = os.path.join(FOLDER, name)
        have = int(os.path.getmtime(path)) if os.path.exists(path) else -1
        if entry["port"] == own_port or have >= entry["mtime"]:
            continue
        try:
            fetch(name, entry)
        except OSError as error:
            print("failed", name, error, flush=True)


def answers(conn):
    """Each directory as it comes: by lines, or by the end of its object."""
    if LINES:
        for line in conn.makefile("r", encoding="utf-8"):
            yield json.loads(line)
        return
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
    """One connection to the tracker, until it ends."""
    with socket.create_connection((IP, PORT), timeout=5) as conn:
        end = "\n" if LINES else ""
        conn.sendall((json.dumps({"port": own_port, "files": files()}) + end).encode())
        for directory in answers(conn):
            sync(directory, own_port)
            time.sleep(INTERVAL)
            conn.sendall((json.dumps({"port": own_port}) + end).encode())


def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    own_port = listener.getsockname()[1]
    print("port", own_port, flush=True)
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    while True:
        try:
            talk(own_port)
        except OSError:
            pass
        time.sleep(INTERVAL)


main()
