/* A load of small requests over TCP, on loopback only, bounded in time and count.
 *
 * usage: load_tcp hello|set new|kept IP PORT SECONDS CLIENTS PX
 *   hello   HELLO and an id of four digits; OK or RESET is the answer
 *   set     Redis: SET id address NX PX milliseconds; +OK or the null reply is the answer
 *   new     a connection for each request: connect, send, read the answer, close
 *   kept    connections that stay, one request at a time on each
 * So many CLIENTS at a time, each asking for the next of 10,000 ids as soon as it has its answer. The
 * clients come from many addresses of 127.0.0.0/8, as there are not enough ports for one. It prints one
 * line: replies, seconds, and how many of the replies were OK. Anything that is no answer ends the run
 * with status 1. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS_MAX = 512, IDS = 10000, SECONDS_MAX = 60, REPLY_BYTES = 128, REQUEST_BYTES = 128 };
enum { SILENT_MS = 5000, SOURCES = 200 };

static struct sockaddr_in there = {.sin_family = AF_INET};
static int is_set, is_kept, poller;
static const char *px;
static uint32_t next_id;
static int sockets[CLIENTS_MAX];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void ask(int client) {
    char request[REQUEST_BYTES];
    int len;
    uint32_t id = next_id++ % IDS;
    if (is_set)
        len = snprintf(request, sizeof request,
                       "*6\r\n$3\r\nSET\r\n$4\r\n%04u\r\n$15\r\n127.0.0.1 12345\r\n"
                       "$2\r\nNX\r\n$2\r\nPX\r\n$%zu\r\n%s\r\n",
                       id, strlen(px), px);
    else
        len = snprintf(request, sizeof request, "HELLO %04u", id);
    if (send(sockets[client], request, (size_t)len, 0) != len)
        fail("send");
}

static void join(int client) {
    static uint32_t source;
    struct sockaddr_in here = {.sin_family = AF_INET};
    int yes = 1;
    here.sin_addr.s_addr = htonl(0x7f000002 + source++ % SOURCES);
    int sock = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(sock, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (sock < 0 || bind(sock, (struct sockaddr *)&here, sizeof here) != 0)
        fail("bind");
    /* The kernel of the server takes it at once, so this waits for nobody. */
    if (connect(sock, (struct sockaddr *)&there, sizeof there) != 0)
        fail("connect");
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)client};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, sock, &event) != 0)
        fail("epoll_ctl");
    sockets[client] = sock;
}

/* 1: OK, 0: no, -1: no answer at all. */
static int judge(const char *reply, ssize_t len) {
    if (is_set)
        return len == 5 && memcmp(reply, "+OK\r\n", 5) == 0   ? 1
               : len == 5 && memcmp(reply, "$-1\r\n", 5) == 0 ? 0
                                                              : -1;
    return len > 3 && memcmp(reply, "OK ", 3) == 0       ? 1
           : len == 10 && memcmp(reply, "RESET ", 6) == 0 ? 0
                                                          : -1;
}

int main(int argc, char **argv) {
    struct epoll_event events[CLIENTS_MAX];
    char reply[REPLY_BYTES];
    if (argc != 8 || inet_pton(AF_INET, argv[3], &there.sin_addr) != 1 ||
        (ntohl(there.sin_addr.s_addr) >> 24) != 127) {
        fprintf(stderr, "usage: load_tcp hello|set new|kept 127.x.x.x PORT SECONDS CLIENTS PX\n");
        return 2;
    }
    is_set = strcmp(argv[1], "set") == 0;
    is_kept = strcmp(argv[2], "kept") == 0;
    there.sin_port = htons((unsigned short)atoi(argv[4]));
    double seconds = atof(argv[5]);
    int clients = atoi(argv[6]);
    px = argv[7];
    if (seconds <= 0 || seconds > SECONDS_MAX || clients < 1 || clients > CLIENTS_MAX) {
        fprintf(stderr, "load_tcp: at most %d s and %d clients\n", SECONDS_MAX, CLIENTS_MAX);
        return 2;
    }
    poller = epoll_create1(0);
    for (int client = 0; client < clients; client++) {
        join(client);
        ask(client);
    }
    double start = now(), end = start + seconds, last = start;
    long got = 0, oks = 0;
    while (last < end) {
        int count = epoll_wait(poller, events, CLIENTS_MAX, SILENT_MS);
        if (count == 0) {
            fprintf(stderr, "load_tcp: no answer for %d ms\n", SILENT_MS);
            return 1;
        }
        for (int i = 0; i < count; i++) {
            int client = (int)events[i].data.u32;
            ssize_t len = recv(sockets[client], reply, sizeof reply, 0);
            int verdict = judge(reply, len);
            if (verdict < 0) {
                fprintf(stderr, "load_tcp: a reply that is none, %zd bytes\n", len);
                return 1;
            }
            got++;
            oks += verdict;
            if (!is_kept) {
                close(sockets[client]);
                join(client);
            }
            ask(client);
        }
        last = now();
    }
    printf("replies=%ld seconds=%.4f oks=%ld\n", got, last - start, oks);
    return 0;
}
