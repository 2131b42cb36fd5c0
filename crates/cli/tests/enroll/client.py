# The client of the course: host, port, name, GitHub name, id (an int or a quoted text), protocol.
import ast
import pickle
import socket
import sys

host, port = sys.argv[1], int(sys.argv[2])
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
client.connect((host, port))
client_id = pickle.loads(client.recv(4096))
print(f"{client_id} has successfully connected to {host}/{port}")
data = {
    "student_name": sys.argv[3],
    "github_username": sys.argv[4],
    "sid": ast.literal_eval(sys.argv[5]),
}
client.send(pickle.dumps(data, protocol=int(sys.argv[6])))
if pickle.loads(client.recv(4096)) == 1:
    print("Data acknowledged by server and you passed the test")
