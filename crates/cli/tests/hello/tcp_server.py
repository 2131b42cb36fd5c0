"""A hello server over TCP in the shape the course shows it. usage: tcp_server.py IP PORT LEASE IDLE

It reads until a newline or the end of the stream, answers with a newline, and closes.
"""

import socket
import sys
import time

ip, port, lease, idle = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
ids = {}

server_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server_socket.bind((ip, port))
server_socket.listen(5)
server_socket.settimeout(idle)
print("listening on", server_socket.getsockname()[1], flush=True)

while True:
    try:
        connection, address = server_socket.accept()
    except socket.timeout:
        break
    with connection:
        connection.settimeout(idle)
        line = connection.makefile("r").readline()
        now = time.monotonic()
        ids = {name: end for name, end in ids.items() if end > now}
        words = line.split()
        if len(words) < 2 or words[0] != "HELLO":
            continue
        if words[1] in ids:
            reply = f"RESET {words[1]}\n"
        else:
            ids[words[1]] = now + lease
            reply = f"OK {words[1]} {address[0]} {address[1]}\n"
        connection.sendall(reply.encode())

server_socket.close()
