# A registration server as a careful student writes it: pickles are read from a file object, which
# finds the end of each, and each client has a thread (or its turn).
import pickle
import socket
import sys
import threading


def serve(client, address):
    try:
        client.sendall(pickle.dumps({"clientid": address[1]}))
        with client.makefile("rb") as stream:
            while True:
                try:
                    data = pickle.load(stream)
                except EOFError:
                    break
                name, user, sid = data["student_name"], data["github_username"], data["sid"]
                print(f"Connected: Student: {name}, Github Username: {user}, sid: {sid}")
                client.sendall(pickle.dumps(1))
    except Exception as error:
        print("An exception occurred:", repr(error))
    finally:
        client.close()


server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server.bind(("127.0.0.1", 0))
server.listen(10 if sys.argv[1] == "one" else 100)
print(f"Listening at 127.0.0.1/{server.getsockname()[1]}")
while True:
    client, address = server.accept()
    if sys.argv[1] == "one":
        serve(client, address)
    else:
        threading.Thread(target=serve, args=(client, address), daemon=True).start()
