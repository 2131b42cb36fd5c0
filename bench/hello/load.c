/* A load of HELLO requests over UDP, on loopback only, bounded in time and count.
 *
 * usage: load IP PORT SECONDS WINDOW FIRST_ID
 * One socket; at most WINDOW requests are on their way at a time, sent and received in batches, so
 * the server is never flooded and the rate is what both sides together can do. The ids walk through
 * all of four digits, beginning at FIRST_ID. It prints one line: replies, seconds, lost, OKs.
 * A reply that is neither OK nor RESET nor an echo of a request ends the run with status 1. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, REPLY_BYTES = 128, REQUEST_BYTES = 10, SECONDS_MAX = 60, LOST_MS = 200 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    static struct mmsghdr out[BATCH], in[BATCH];
    static struct iovec out_parts[BATCH], in_parts[BATCH];
    static char requests[BATCH][REQUEST_BYTES + 1], replies[BATCH][REPLY_BYTES];
    struct sockaddr_in there = {.sin_family = AF_INET};
    int receive_buffer = 4 << 20;

    if (argc != 6 || inet_pton(AF_INET, argv[1], &there.sin_addr) != 1 ||
        (ntohl(there.sin_addr.s_addr) >> 24) != 127) {
        fprintf(stderr, "usage: load 127.x.x.x PORT SECONDS WINDOW FIRST_ID\n");
        return 2;
    }
    there.sin_port = htons((unsigned short)atoi(argv[2]));
    double seconds = atof(argv[3]);
    long window = atol(argv[4]);
    unsigned next_id = (unsigned)atoi(argv[5]);
    if (seconds <= 0 || seconds > SECONDS_MAX || window < 1 || window > 4096) {
        fprintf(stderr, "load: at most %d s and a window of 1 to 4096\n", SECONDS_MAX);
        return 2;
    }
    int sock = socket(AF_INET, SOCK_DGRAM, 0);
    setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    if (sock < 0 || connect(sock, (struct sockaddr *)&there, sizeof there) != 0) {
        perror("load");
        return 1;
    }
    for (int i = 0; i < BATCH; i++) {
        out_parts[i] = (struct iovec){requests[i], REQUEST_BYTES};
        out[i].msg_hdr = (struct msghdr){.msg_iov = &out_parts[i], .msg_iovlen = 1};
        in_parts[i] = (struct iovec){replies[i], REPLY_BYTES};
        in[i].msg_hdr = (struct msghdr){.msg_iov = &in_parts[i], .msg_iovlen = 1};
    }
    double start = now(), end = start + seconds, last = start;
    long on_the_way = 0, got = 0, lost = 0, oks = 0;
    while (last < end) {
        while (on_the_way < window) {
            long room = window - on_the_way;
            int count = room < BATCH ? (int)room : BATCH;
            for (int i = 0; i < count; i++) {
                snprintf(requests[i], sizeof requests[i], "HELLO %04u", next_id % 10000);
                next_id++;
            }
            int sent = sendmmsg(sock, out, (unsigned)count, 0);
            if (sent < 0 && errno == ECONNREFUSED) {
                fprintf(stderr, "load: nobody listens\n");
                return 1;
            }
            if (sent <= 0)
                break;
            on_the_way += sent;
        }
        struct pollfd ready = {.fd = sock, .events = POLLIN};
        if (poll(&ready, 1, LOST_MS) == 0) {
            lost += on_the_way;
            on_the_way = 0;
            last = now();
            continue;
        }
        int count = recvmmsg(sock, in, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < count; i++) {
            if (memcmp(replies[i], "OK ", 3) == 0)
                oks++;
            else if (memcmp(replies[i], "RESET ", 6) != 0 && memcmp(replies[i], "HELLO ", 6) != 0) {
                fprintf(stderr, "load: a reply that is none\n");
                return 1;
            }
        }
        if (count > 0) {
            got += count;
            on_the_way = on_the_way > count ? on_the_way - count : 0;
        }
        last = now();
    }
    printf("replies=%ld seconds=%.3f lost=%ld oks=%ld\n", got, last - start, lost, oks);
    return 0;
}
