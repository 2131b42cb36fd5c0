# A registration client with one fault of choice: fault, host, port.
import pickle
import socket
import sys

fault, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = socket.create_connection((host, port))
client.settimeout(None if fault == "waits-for-ever" else 1)
# Buffered, so that it waits for all the bytes it wants; one for both, so that none are lost.
stream = client.makefile("rb")


def receive():
    if fault == "course":
        return pickle.loads(client.recv(4096))
    return pickle.load(stream)


def request():
    data = {"student_name": "Bob", "github_username": "bb", "sid": 17}
    if fault == "no-sid":
        del data["sid"]
    if fault == "sends-a-list":
        data = list(data.values())
    return pickle.dumps(data, protocol=2 if fault == "protocol-2" else None)


try:
    if fault == "speaks-first":
        client.sendall(request())
    greeting = receive()
    if fault == "wants-a-dict":
        greeting["clientid"]
    if fault == "wants-a-number":
        greeting["clientid"] + 1
    if fault == "prints-the-number":
        greeting = greeting["clientid"]
    if fault == "careful" and isinstance(greeting, str):
        greeting = ascii(greeting)
    print(f"{greeting} has successfully connected to {host}/{port}")
    if fault != "speaks-first":
        client.sendall(request())
    passed = True
    if fault == "ignores-the-answer":
        try:
            receive()
        except Exception:
            pass
    else:
        answer = receive()
        passed = answer == 1 if fault == "wants-one" else bool(answer)
    if passed:
        end = "!" if fault == "own-words" else ""
        print("Data acknowledged by server and you passed the test" + end)
except Exception as error:
    if fault != "says-nothing":
        print("An exception occurred:", repr(error))
    sys.exit(1)
