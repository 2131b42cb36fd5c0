"""A hello client in the shape the course shows it. usage: client.py udp|tcp HELLO IP PORT ID"""

import datetime
import socket
import sys

transport, hello, ip, port, connection_id = sys.argv[1:6]
attempts = 0

while attempts < 3:
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    client_socket = socket.socket(socket.AF_INET, kind)
    client_socket.settimeout(15)
    try:
        if transport == "udp":
            client_socket.sendto(f"{hello} {connection_id}".encode(), (ip, int(port)))
            data, _ = client_socket.recvfrom(1024)
        else:
            # The write side stays open, and the end of the stream is what ends the reply.
            client_socket.connect((ip, int(port)))
            client_socket.sendall(f"{hello} {connection_id}".encode())
            data = b""
            while chunk := client_socket.recv(1024):
                data += chunk
    except OSError:
        data = b""
    client_socket.close()
    words = data.decode().split()
    if words and words[0] == "OK":
        print(f"Connection established {words[1]} {words[2]} {words[3]} on {datetime.datetime.now()}")
        sys.exit(0)
    attempts += 1
    print(f"Connection Error {connection_id} on {datetime.datetime.now()}")
    if attempts < 3:
        connection_id = sys.stdin.readline().strip()

print(f"Connection Failure on {datetime.datetime.now()}")
sys.exit(1)
