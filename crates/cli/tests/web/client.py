"""Everything a Python program does with http.client, on one connection that stays open."""

import http.client
import sys
import urllib.parse

connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
connection.connect()
first_socket = connection.sock


def ask(method, path, body=None, **fields):
    names = {name.replace("_", "-"): value for name, value in fields.items()}
    connection.request(method, path, body=body, headers=names)
    response = connection.getresponse()
    content = response.read()
    assert connection.sock is first_socket, f"{method} {path} cost the connection"
    return response, content


for _ in range(50):
    response, content = ask("GET", "/notes.txt")
    assert (response.status, content) == (200, b"0123456789")
    assert response.getheader("Content-Length") == "10"

response, content = ask("HEAD", "/notes.txt")
assert (response.status, content) == (200, b"")
tag = response.getheader("ETag")
response, content = ask("GET", "/notes.txt", If_None_Match=tag)
assert (response.status, content) == (304, b""), response.status
response, content = ask("GET", "/notes.txt", Range="bytes=2-4")
assert (response.status, content) == (206, b"234")
response, content = ask("GET", "/notes.txt", Range="bytes=10-")
assert response.status == 416
response, content = ask("GET", "/" + urllib.parse.quote("größe.txt"))
assert content == b"umlauts"
response, content = ask("POST", "/notes.txt", body=b"x" * 1000)
assert response.status == 405
assert response.getheader("Allow") == "GET, HEAD"
response, content = ask("GET", "/nothing")
assert response.status == 404
response, content = ask("GET", "/")
assert b"notes.txt" in content and response.getheader("Content-Type").startswith("text/html")
print("fine")
