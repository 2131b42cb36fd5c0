# The server of the course, lab 3: one client at a time. What it greets and acknowledges with can be
# chosen, since programs differ: two Python expressions, in which `port` is the client's. `None` for
# the second means that nothing is sent.
import pickle
import socket
import sys

server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server.bind(("127.0.0.1", 0))
server.listen(10)
host, own_port = server.getsockname()
print(f"Listening at {host}/{own_port}", flush=True)
while True:
    client, (_, port) = server.accept()
    try:
        client.send(eval(sys.argv[1]) if sys.argv[1][0] == "b" else pickle.dumps(eval(sys.argv[1])))
        while True:
            raw = client.recv(4096)
            if not raw:
                break
            data = pickle.loads(raw)
            print(
                f"Connected: Student: {data['student_name']}, "
                f"Github Username: {data['github_username']}, sid: {data['sid']}",
                flush=True,
            )
            if sys.argv[2] == "close":
                break
            if sys.argv[2] != "None":
                client.send(pickle.dumps(eval(sys.argv[2])))
    except Exception as error:
        print("An exception occurred:", repr(error), flush=True)
    client.close()
