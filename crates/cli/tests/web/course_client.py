"""A web client in the shape the course shows it. usage: course_client.py HOST PORT FILE

The connection stays open on both sides; the length says where the body ends.
"""

import socket
import sys

host, port, filename = sys.argv[1], int(sys.argv[2]), sys.argv[3]
client_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
client_socket.settimeout(30)
client_socket.connect((host, port))
client_socket.send(f"GET /{filename} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
received = b""
while b"\r\n\r\n" not in received:
    received += client_socket.recv(1024)
head, body = received.split(b"\r\n\r\n", 1)
lines = head.decode().split("\r\n")
fields = dict(line.split(": ", 1) for line in lines[1:])
while len(body) < int(fields["Content-Length"]):
    body += client_socket.recv(1024)
print(lines[0])
print(fields["Content-Length"], fields["Content-Type"])
print(body.decode(), end="")
client_socket.close()
