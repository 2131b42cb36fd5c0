"""A hello server over UDP in the shape the course shows it. usage: udp_server.py IP PORT LEASE IDLE"""

import socket
import sys
import time

ip, port, lease, idle = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
ids = {}

server_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server_socket.bind((ip, port))
server_socket.settimeout(idle)
print("listening on", server_socket.getsockname()[1], flush=True)

while True:
    try:
        data, address = server_socket.recvfrom(1024)
    except socket.timeout:
        break
    now = time.monotonic()
    ids = {name: end for name, end in ids.items() if end > now}
    words = data.decode(errors="replace").split()
    if len(words) < 2 or words[0] != "HELLO":
        continue
    if words[1] in ids:
        reply = f"RESET {words[1]}"
    else:
        ids[words[1]] = now + lease
        reply = f"OK {words[1]} {address[0]} {address[1]}"
    server_socket.sendto(reply.encode(), address)

server_socket.close()
