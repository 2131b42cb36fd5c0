"""A classic tracker as a student would write it: tracker.py lines|bare PORT.

It keeps one holder for each name and forgets the names of a peer that was silent. Prints its port.
"""

import json
import socketserver
import sys
import threading
import time

LINES, PORT = sys.argv[1] == "lines", int(sys.argv[2])
TIMEOUT = 10
lock = threading.Lock()
holders, heard = {}, {}


def hear(message, ip):
    peer = (ip, message["port"])
    with lock:
        now = time.time()
        heard[peer] = now
        for file in message.get("files", []):
            known = holders.get(file["name"])
            if known is None or known["mtime"] < file["mtime"]:
                entry = {"ip": ip, "port": message["port"], "mtime": file["mtime"]}
                holders[file["name"]] = entry
        for name, entry in list(holders.items()):
            if now - heard.get((entry["ip"], entry["port"]), 0) > TIMEOUT:
                del holders[name]
        return json.dumps(holders)


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        if LINES:
            for line in self.request.makefile("r", encoding="utf-8"):
                answer = hear(json.loads(line), self.client_address[0])
                self.request.sendall((answer + "\n").encode())
            return
        text, decoder = "", json.JSONDecoder()
        while piece := self.request.recv(65536):
            text += piece.decode()
            while text.strip():
                text = text.lstrip()
                try:
                    message, end = decoder.raw_decode(text)
                except ValueError:
                    break
                text = text[end:]
                self.request.sendall(hear(message, self.client_address[0]).encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A peer that went away is no news."""


with Server(("127.0.0.1", PORT), Handler) as server:
    print("port", server.server_address[1], flush=True)
    server.serve_forever()
