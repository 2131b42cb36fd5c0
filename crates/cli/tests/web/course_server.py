"""A web server in the shape the course shows it. usage: course_server.py FOLDER

One recv is one request, one client is served at a time, and the path is trusted.
"""

import mimetypes
import socket
import sys

server_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server_socket.bind(("127.0.0.1", 0))
server_socket.listen(1)
print(server_socket.getsockname()[1], flush=True)

while True:
    connection, address = server_socket.accept()
    try:
        message = connection.recv(1024).decode()
        filename = message.split()[1]
        with open(sys.argv[1] + filename, "rb") as file:
            data = file.read()
        kind = mimetypes.guess_type(filename)[0] or "application/octet-stream"
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\nContent-Type: {kind}\r\n\r\n"
        connection.sendall(head.encode() + data)
    except (OSError, IndexError, ValueError):
        try:
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        except OSError:
            pass
    connection.close()
