# The server of the course. With `1` as the first argument that of lab 3, one client at a time; with
# `N` that of lab 4, a thread for each. What it greets and acknowledges with can be chosen, since
# programs differ: two Python expressions, in which `port` is the client's. `None` for the second
# means that nothing is sent.
import pickle
import socket
import sys
import threading

clients, greeting, ack = sys.argv[1:4]


def serve(client, port):
    try:
        client.send(eval(greeting) if greeting[0] == "b" else pickle.dumps(eval(greeting)))
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
            if ack == "close":
                break
            if ack != "None":
                client.send(pickle.dumps(eval(ack)))
    except Exception as error:
        print("An exception occurred:", repr(error), flush=True)
    client.close()


server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server.bind(("127.0.0.1", 0))
server.listen(10)
host, own_port = server.getsockname()
print(f"Listening at {host}/{own_port}", flush=True)
while True:
    client, (_, port) = server.accept()
    if clients == "1":
        serve(client, port)
    else:
        threading.Thread(target=serve, args=(client, port), daemon=True).start()
