/* The rival of `ahoy hello server --udp`: a bare UDP echo, batches in and out, nothing in between.
 *
 * usage: echo IP PORT      It prints "ready" when it is bound, and ends when it is killed.
 * It looks at no byte and keeps no state; no server of this shape can do less work. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 64, BYTES = 513 };

int main(int argc, char **argv) {
    static struct mmsghdr headers[BATCH];
    static struct iovec parts[BATCH];
    static struct sockaddr_in names[BATCH];
    static char bytes[BATCH][BYTES];
    struct sockaddr_in here = {.sin_family = AF_INET};
    int receive_buffer = 4 << 20;

    if (argc != 3 || inet_pton(AF_INET, argv[1], &here.sin_addr) != 1) {
        fprintf(stderr, "usage: echo IP PORT\n");
        return 2;
    }
    here.sin_port = htons((unsigned short)atoi(argv[2]));
    int sock = socket(AF_INET, SOCK_DGRAM, 0);
    setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    if (sock < 0 || bind(sock, (struct sockaddr *)&here, sizeof here) != 0) {
        perror("echo");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec){bytes[i], BYTES};
            headers[i].msg_hdr = (struct msghdr){
                .msg_name = &names[i],
                .msg_namelen = sizeof names[i],
                .msg_iov = &parts[i],
                .msg_iovlen = 1,
            };
        }
        int count = recvmmsg(sock, headers, BATCH, MSG_WAITFORONE, NULL);
        if (count < 0) {
            perror("recvmmsg");
            return 1;
        }
        for (int i = 0; i < count; i++)
            parts[i].iov_len = headers[i].msg_len;
        for (int sent = 0; sent < count;) {
            int more = sendmmsg(sock, headers + sent, (unsigned)(count - sent), 0);
            sent += more > 0 ? more : 1;
        }
    }
}
