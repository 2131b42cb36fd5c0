/* A load of small requests over UDP, on loopback only, bounded in time and count.
 *
 * usage: load WHAT IP PORT SECONDS WINDOW
 * WHAT is what is asked for, and so what counts as an answer:
 *   hello     HELLO and an id of four digits, all ids in turn: OK, RESET, or the request itself
 *   connect   the connect request of BitTorrent's UDP trackers (BEP 15): 16 bytes with our number
 *   binding   a STUN binding request (RFC 8489): a success response with our number
 * One socket; at most WINDOW requests are on their way at a time, sent and received in batches, so
 * the server is never flooded and the rate is what both sides together can do. It prints one line:
 * replies, seconds, lost, and how many of the replies were OK. A datagram that is no answer ends
 * the run with status 1. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, REPLY_BYTES = 256, REQUEST_BYTES_MAX = 20, IDS = 10000 };
enum { SECONDS_MAX = 60, LOST_MS = 200 };

enum what { HELLO, CONNECT, BINDING };
static const size_t request_bytes[] = {[HELLO] = 10, [CONNECT] = 16, [BINDING] = 20};
static const uint8_t connect_magic[8] = {0, 0, 0x04, 0x17, 0x27, 0x10, 0x19, 0x80};
static const uint8_t binding_head[8] = {0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Writes request number `number`. */
static void ask(enum what what, uint32_t number, uint8_t *out) {
    uint32_t id = number % IDS;
    switch (what) {
    case HELLO:
        memcpy(out, "HELLO ", 6);
        for (int place = 9; place >= 6; place--, id /= 10)
            out[place] = (uint8_t)('0' + id % 10);
        break;
    case CONNECT:
        memcpy(out, connect_magic, 8);
        memset(out + 8, 0, 4);
        memcpy(out + 12, &number, 4);
        break;
    case BINDING:
        memcpy(out, binding_head, 8);
        memset(out + 8, 0x5a, 8);
        memcpy(out + 16, &number, 4);
        break;
    }
}

/* 0: no answer to anything that was asked; 1: an answer; 2: an OK. `sent` is the next number. */
static int judge(enum what what, const uint8_t *bytes, size_t len, uint32_t sent) {
    uint32_t number;
    switch (what) {
    case HELLO:
        if (len > 3 && memcmp(bytes, "OK ", 3) == 0)
            return 2;
        return (len == 10 && memcmp(bytes, "RESET ", 6) == 0) ||
               (len == 10 && memcmp(bytes, "HELLO ", 6) == 0);
    case CONNECT:
        memcpy(&number, bytes + 4, 4);
        return len == 16 && memcmp(bytes, "\0\0\0\0", 4) == 0 && number < sent;
    case BINDING:
        memcpy(&number, bytes + 16, 4);
        return len >= 32 && bytes[0] == 1 && bytes[1] == 1 &&
               memcmp(bytes + 4, binding_head + 4, 4) == 0 && number < sent;
    }
    return 0;
}

int main(int argc, char **argv) {
    static struct mmsghdr out[BATCH], in[BATCH];
    static struct iovec out_parts[BATCH], in_parts[BATCH];
    static uint8_t requests[BATCH][REQUEST_BYTES_MAX], replies[BATCH][REPLY_BYTES];
    struct sockaddr_in there = {.sin_family = AF_INET};
    int receive_buffer = 4 << 20;
    enum what what = HELLO;

    if (argc == 6 && strcmp(argv[1], "connect") == 0)
        what = CONNECT;
    else if (argc == 6 && strcmp(argv[1], "binding") == 0)
        what = BINDING;
    else if (argc != 6 || strcmp(argv[1], "hello") != 0)
        argc = 0;
    if (argc == 0 || inet_pton(AF_INET, argv[2], &there.sin_addr) != 1 ||
        (ntohl(there.sin_addr.s_addr) >> 24) != 127) {
        fprintf(stderr, "usage: load hello|connect|binding 127.x.x.x PORT SECONDS WINDOW\n");
        return 2;
    }
    there.sin_port = htons((unsigned short)atoi(argv[3]));
    double seconds = atof(argv[4]);
    long window = atol(argv[5]);
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
        out_parts[i] = (struct iovec){requests[i], request_bytes[what]};
        out[i].msg_hdr = (struct msghdr){.msg_iov = &out_parts[i], .msg_iovlen = 1};
        in_parts[i] = (struct iovec){replies[i], REPLY_BYTES};
        in[i].msg_hdr = (struct msghdr){.msg_iov = &in_parts[i], .msg_iovlen = 1};
    }
    double start = now(), end = start + seconds, last = start;
    long on_the_way = 0, got = 0, lost = 0, oks = 0;
    uint32_t next = 0;
    while (last < end) {
        while (on_the_way < window) {
            long room = window - on_the_way;
            int count = room < BATCH ? (int)room : BATCH;
            for (int i = 0; i < count; i++)
                ask(what, next + (uint32_t)i, requests[i]);
            int sent = sendmmsg(sock, out, (unsigned)count, 0);
            if (sent < 0 && errno == ECONNREFUSED) {
                fprintf(stderr, "load: nobody listens\n");
                return 1;
            }
            if (sent <= 0)
                break;
            next += (uint32_t)sent;
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
            int verdict = judge(what, replies[i], in[i].msg_len, next);
            if (verdict == 0) {
                fprintf(stderr, "load: a reply that is none, %u bytes\n", in[i].msg_len);
                return 1;
            }
            oks += verdict == 2;
        }
        if (count > 0) {
            got += count;
            on_the_way = on_the_way > count ? on_the_way - count : 0;
        }
        last = now();
    }
    printf("replies=%ld seconds=%.4f lost=%ld oks=%ld\n", got, last - start, lost, oks);
    return 0;
}
