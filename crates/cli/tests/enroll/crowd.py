# Many clients of lab 4 at once: all connect, then all send, then all wait. host, port, how many.
import pickle
import socket
import sys
import threading

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ready = threading.Barrier(count)
answers = []


def register(number):
    client = socket.create_connection((host, port))
    stream = client.makefile("rb")
    assert pickle.load(stream) == {"clientid": client.getsockname()[1]}
    ready.wait()
    name = f"student {number} " + "x" * (number * 17 % 3000)
    client.sendall(
        pickle.dumps({"student_name": name, "github_username": f"u{number}", "sid": number})
    )
    answers.append(pickle.load(stream))


threads = [threading.Thread(target=register, args=(number,)) for number in range(count)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(answers == [1] * count)
