/* A network of machines that are far from each other, inside one machine.
 *
 * usage: far NODES DELAY_MS UPLINK_MBIT MTU        (root; UPLINK_MBIT 0: as fast as it goes)
 *
 * Every node is a network namespace with an address of its own, 10.66.0.1 on, on a tun device that this
 * program reads. A packet waits for its node's uplink, then for the delay, and is written to the device
 * of the node that it is for. What would wait more than 200 ms for the uplink is dropped, as by a router
 * with a queue of that length. Prints the process ids that hold the namespaces, one line; ends, and with
 * it everything that it made, when its standard input does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NODES_MAX 16
#define QUEUE_NS 200000000ll
#define BYTES_MAX (256ll << 20)
#define PACKET_MAX 65536

struct packet {
    struct packet *next;
    int64_t due;
    int to, len;
    unsigned char bytes[];
};

struct node {
    int tun;
    pid_t pid;
    int64_t free_at; /* when the uplink has sent all that waits */
    struct packet *first, **last;
    long long sent, dropped;
};

static struct node nodes[NODES_MAX];
static int count, mtu;
static int64_t delay_ns, bits_per_s, queued;

static void die(const char *what)
{
    fprintf(stderr, "Error: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void send_fd(int channel, int fd)
{
    char byte = 0, room[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = room,
                             .msg_controllen = sizeof room};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
    if (sendmsg(channel, &message, 0) != 1)
        die("sendmsg");
}

static int receive_fd(int channel)
{
    char byte, room[CMSG_SPACE(sizeof(int))];
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = room,
                             .msg_controllen = sizeof room};
    int fd;
    if (recvmsg(channel, &message, 0) != 1 || !CMSG_FIRSTHDR(&message))
        die("no device came");
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

/* The child: a namespace with a tun device, held until the parent is gone. */
static void hold(int number, int channel)
{
    char command[256];
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (unshare(CLONE_NEWNET))
        die("a network namespace (are you root?)");
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    strcpy(request.ifr_name, "far");
    if (tun < 0 || ioctl(tun, TUNSETIFF, &request))
        die("/dev/net/tun");
    snprintf(command, sizeof command,
             "ip link set lo up && ip addr add 10.66.0.%d/24 dev far && "
             "ip link set far mtu %d txqueuelen 10000 up", number + 1, mtu);
    if (system(command))
        die(command);
    send_fd(channel, tun);
    for (;;)
        pause();
}

static void take(struct node *node, const unsigned char *bytes, int len)
{
    int to = len >= 20 && bytes[0] >> 4 == 4 ? bytes[19] - 1 : -1;
    int64_t now = now_ns(), start = node->free_at > now ? node->free_at : now;
    if (to < 0 || to >= count)
        return;
    if (queued + len > BYTES_MAX || (bits_per_s && start - now > QUEUE_NS)) {
        node->dropped++;
        return;
    }
    node->free_at = start + (bits_per_s ? len * 8ll * 1000000000ll / bits_per_s : 0);
    struct packet *packet = malloc(sizeof *packet + len);
    if (!packet)
        die("memory");
    *packet = (struct packet){.due = node->free_at + delay_ns, .to = to, .len = len};
    memcpy(packet->bytes, bytes, len);
    *node->last = packet;
    node->last = &packet->next;
    node->sent += len;
    queued += len;
}

/* Delivers what is due; when the next is. */
static int64_t deliver(struct node *node, int64_t now)
{
    struct packet *packet;
    while ((packet = node->first) && packet->due <= now) {
        if (write(nodes[packet->to].tun, packet->bytes, packet->len) < 0 && errno == EAGAIN)
            return now + 50000;
        node->first = packet->next;
        if (!node->first)
            node->last = &node->first;
        queued -= packet->len;
        free(packet);
    }
    return packet ? packet->due : INT64_MAX;
}

int main(int argc, char **argv)
{
    static unsigned char bytes[PACKET_MAX];
    struct pollfd polled[NODES_MAX + 1];
    if (argc != 5 || (count = atoi(argv[1])) < 2 || count > NODES_MAX) {
        fprintf(stderr, "usage: far NODES DELAY_MS UPLINK_MBIT MTU\n");
        return 2;
    }
    delay_ns = (int64_t)(atof(argv[2]) * 1e6);
    bits_per_s = (int64_t)(atof(argv[3]) * 1e6);
    mtu = atoi(argv[4]);
    for (int i = 0; i < count; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
            die("socketpair");
        nodes[i].pid = fork();
        if (nodes[i].pid == 0)
            hold(i, pair[1]);
        close(pair[1]);
        nodes[i].tun = receive_fd(pair[0]);
        close(pair[0]);
        nodes[i].last = &nodes[i].first;
        polled[i] = (struct pollfd){nodes[i].tun, POLLIN, 0};
        printf("%d%c", nodes[i].pid, i + 1 < count ? ' ' : '\n');
    }
    fflush(stdout);
    polled[count] = (struct pollfd){0, POLLIN, 0};
    for (;;) {
        int64_t now = now_ns(), next = INT64_MAX;
        for (int i = 0; i < count; i++) {
            int64_t due = deliver(&nodes[i], now);
            next = due < next ? due : next;
        }
        int64_t wait = next == INT64_MAX ? 1000000000 : next - now_ns();
        struct timespec patience = {wait > 0 ? wait / 1000000000 : 0, wait > 0 ? wait % 1000000000 : 0};
        if (ppoll(polled, count + 1, &patience, NULL) < 0 && errno != EINTR)
            die("poll");
        if (polled[count].revents) {
            int got = read(0, bytes, sizeof bytes);
            if (got <= 0)
                break;
            /* A line asks for the figures: bytes that each has sent, and packets dropped. */
            for (int i = 0; i < count; i++)
                printf("%lld %lld%c", nodes[i].sent, nodes[i].dropped, i + 1 < count ? ' ' : '\n');
            fflush(stdout);
        }
        for (int i = 0; i < count; i++)
            for (int n = 0, len; n < 64 && (len = read(nodes[i].tun, bytes, sizeof bytes)) > 0; n++)
                take(&nodes[i], bytes, len);
    }
    for (int i = 0; i < count; i++)
        kill(nodes[i].pid, SIGKILL);
    return 0;
}
