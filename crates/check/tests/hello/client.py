"""A hello client for examining the examiner: right, or wrong in one way.

usage: client.py FAULT udp|tcp REPLY_SECONDS HELLO IP PORT ID

It is written as a student would write it, and shares nothing with the real client.
"""

import datetime
import socket
import sys

fault, transport, reply_seconds, word, ip, port, conn_id = sys.argv[1:8]
reply_seconds = float(reply_seconds)
if fault == "impatient":
    reply_seconds /= 3
if fault == "patient":
    reply_seconds *= 2
kept = None
tried = False


def now():
    time = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S.%f")
    return time[:19] if fault == "short-time" else time


def is_id(text):
    return fault == "any-id" or (len(text) == 4 and text.isascii() and text.isdigit())


def new_socket():
    global kept, tried
    if kept is not None:
        return kept
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    sock = socket.socket(socket.AF_INET, kind)
    # A socket has no limit of its own; one set for the first try is gone with its socket.
    sock.settimeout(reply_seconds * 4 if tried and fault == "first-limit-only" else reply_seconds)
    tried = True
    if fault == "same-socket":
        kept = sock
    return sock


def ask(text):
    """One try: the reply as a list of words, or None."""
    if fault == "drops-zeros":
        text = str(int(text))
    request = f"{word} {text}"
    if fault == "sends-newline":
        request += "\n"
    sock = new_socket()
    try:
        sock.connect((ip, int(port)))
        sock.sendall(request.encode())
        if transport == "tcp" and fault != "keeps-side-open":
            sock.shutdown(socket.SHUT_WR)
        reply = sock.recv(1024)
        while fault == "waits-for-end":
            more = sock.recv(1024)
            if not more:
                break
            reply += more
    except OSError:
        return None
    finally:
        if kept is None:
            sock.close()
    reply = reply.decode()
    return reply.split(" ") if fault == "keeps-line-end" else reply.split()


if not is_id(conn_id):
    print(f"{conn_id} is not an id: four digits are wanted", file=sys.stderr)
    sys.exit(2)

tries = {"gives-up": 1, "two-tries": 2, "never-fails": 1000}.get(fault, 3)
while True:
    tries -= 1
    reply = ask(conn_id)
    good = reply is not None and reply[:1] == ["OK"] and len(reply) >= 4
    if good and (reply[1] == conn_id or fault in ("believes-anything", "drops-zeros")):
        place = reply[2] if fault == "forgets-port" else f"{reply[2]} {reply[3]}"
        print(f"Connection established {reply[1]} {place} on {now()}")
        sys.exit(0)
    print(f"Connection Error {conn_id} on {now()}", flush=True)
    if tries == 0:
        print(f"Connection Failure on {now()}")
        sys.exit(1)
    while True:
        print("another id: ", end="", flush=True)
        line = sys.stdin.readline()
        if not line and fault == "crashes-at-end":
            raise EOFError
        if not line:
            print(f"Connection Failure on {now()}")
            sys.exit(1)
        conn_id = line.strip()
        if is_id(conn_id):
            break
        print("four digits are wanted", file=sys.stderr)
