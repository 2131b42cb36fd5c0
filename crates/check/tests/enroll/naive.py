# A registration server as a hasty student writes it: whatever one recv brings is one pickle.
import pickle
import socket
import threading


def serve(client, address):
    try:
        client.send(pickle.dumps({"clientid": address[1]}))
        while True:
            raw = client.recv(4096)
            if not raw:
                break
            data = pickle.loads(raw)
            name, user, sid = data["student_name"], data["github_username"], data["sid"]
            print(f"Connected: Student: {name}, Github Username: {user}, sid: {sid}")
            client.send(pickle.dumps(1))
    except Exception as error:
        print("An exception occurred:", repr(error))
    client.close()


server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server.bind(("127.0.0.1", 0))
server.listen(100)
print(f"Listening at 127.0.0.1/{server.getsockname()[1]}")
while True:
    client, address = server.accept()
    threading.Thread(target=serve, args=(client, address), daemon=True).start()
