// Many clients and the transceivers behind a forwarder, in one process of two threads.
//
//     load PORT PACKETS_PER_SECOND SECONDS WARM_UP OCTETS PREFIX HEADER SENDERS RECEIVERS DATAGRAMS fd...
//
// Inherits SENDERS sockets to send from and RECEIVERS sockets to receive on. Sends to 127.0.0.1:PORT from one sender after
// the other, in steps of a millisecond: packets of OCTETS octets behind PREFIX (in hexadecimal, "-" for none) if DATAGRAMS
// is "-" (uplink), else the datagrams of that file in turn (downlink). Before each of these stand its length, its number of
// packets, the offset of the first payload, and the port it goes to if not PORT (32 bits each, then OCTETS octets a
// payload). HEADER says what stands before a payload where it is received: its octets, or -1 for bundles of the hop
// protocol. A packet carries the time it was sent, so that the receiver knows how long it took.
// Prints "ready", after WARM_UP seconds "begin", after SECONDS more "end", each with the packets sent and received so far
// and the CPU microseconds of the thread that receives; at last the added microseconds at p50, p99 and p99.9, of the last
// four million packets if there were more.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, SLOT = 2048, MAX_SAMPLES = 4000000, STAMP = 16 };

static int header, receivers, *receiving;
static volatile uint64_t received;
static volatile int sampling, over;
static uint32_t *samples;
static volatile uint64_t sampled;
static clockid_t receiver_clock;

static uint64_t read_ns(clockid_t clock) {
    struct timespec t = {0};
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint64_t now_ns(void) { return read_ns(CLOCK_MONOTONIC); }

static void take(const uint8_t *data, int length, uint64_t now) {
    int packets = 1, start = header;
    if (header < 0) {
        packets = data[3];
        start = 24 + 24 * packets + 16;
    }
    received += packets;
    if (sampling && start + STAMP + 8 <= length) {
        uint64_t sent;
        memcpy(&sent, data + start + STAMP, 8);
        samples[sampled++ % MAX_SAMPLES] = (uint32_t)((now - sent) / 100);
    }
}

static uint64_t arrived_ns(struct msghdr *message) {
    struct cmsghdr *control = CMSG_FIRSTHDR(message);
    if (control == NULL || control->cmsg_type != SO_TIMESTAMPNS) return read_ns(CLOCK_REALTIME);
    struct timespec t;
    memcpy(&t, CMSG_DATA(control), sizeof t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void *receive(void *unused) {
    static uint8_t slots[BATCH][SLOT];
    struct mmsghdr messages[BATCH] = {0};
    struct iovec pieces[BATCH];
    static uint8_t controls[BATCH][64];
    for (int i = 0; i < BATCH; i++) {
        messages[i].msg_hdr.msg_control = controls[i];
        pieces[i] = (struct iovec){slots[i], SLOT};
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int waiting = epoll_create1(0);
    for (int i = 0; i < receivers; i++) {
        struct epoll_event wanted = {.events = EPOLLIN, .data.fd = receiving[i]};
        epoll_ctl(waiting, EPOLL_CTL_ADD, receiving[i], &wanted);
        int on = 1;
        setsockopt(receiving[i], SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    }
    while (!over) {
        struct epoll_event events[512];
        // Nobody waits for a packet: to wake a receiver costs whoever sends, and receivers are elsewhere in real life. So
        // the kernel says when each packet came.
        struct timespec nap = {0, 200000};
        nanosleep(&nap, NULL);
        int ready = epoll_wait(waiting, events, 512, 0);
        for (int i = 0; i < ready; i++) {
            int n;
            do {
                for (int k = 0; k < BATCH; k++) messages[k].msg_hdr.msg_controllen = sizeof controls[k];
                n = recvmmsg(events[i].data.fd, messages, BATCH, MSG_DONTWAIT, NULL);
                for (int k = 0; k < n; k++) take(slots[k], messages[k].msg_len, arrived_ns(&messages[k].msg_hdr));
            } while (n == BATCH);
        }
    }
    return unused;
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void say(const char *what, uint64_t sent) {
    printf("%s %llu %llu %.1f\n", what, (unsigned long long)sent, (unsigned long long)received,
           read_ns(receiver_clock) / 1e3);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc < 11) return 2;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    in_port_t usual_port = to.sin_port;
    double rate = atof(argv[2]), seconds = atof(argv[3]), warm_up = atof(argv[4]);
    int octets = atoi(argv[5]), senders = atoi(argv[8]), sender = 0, phase = 0;
    header = atoi(argv[7]);
    receivers = atoi(argv[9]);
    int *sending = malloc(senders * sizeof(int));
    receiving = malloc(receivers * sizeof(int));
    for (int i = 0; i < senders; i++) sending[i] = atoi(argv[11 + i]);
    for (int i = 0; i < receivers; i++) receiving[i] = atoi(argv[11 + senders + i]);
    uint8_t packet[SLOT] = {0}, *payload = packet, *datagrams = NULL, *end = NULL, *next = NULL;
    for (char *digits = argv[6]; sscanf(digits, "%2hhx", payload) == 1; digits += 2) payload++;
    memcpy(payload, "\x80\x6f", 2);
    if (strcmp(argv[10], "-")) {
        struct stat file;
        int fd = open(argv[10], O_RDONLY);
        fstat(fd, &file);
        next = datagrams = mmap(NULL, file.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE, fd, 0);
        end = datagrams + file.st_size;
    }
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    pthread_t thread;
    pthread_create(&thread, NULL, receive, NULL);
    pthread_getcpuclockid(thread, &receiver_clock);
    say("ready", 0);
    uint64_t start = now_ns(), sent = 0;
    for (;;) {
        double elapsed = (now_ns() - start) / 1e9;
        if (phase == 0 && elapsed >= warm_up) {
            phase = 1;
            sampling = 1;
            say("begin", sent);
        }
        if (elapsed >= warm_up + seconds || (datagrams && next >= end)) break;
        for (uint64_t due = (uint64_t)(elapsed * rate); sent < due && !(datagrams && next >= end);) {
            uint64_t stamp = read_ns(CLOCK_REALTIME);
            if (datagrams) {
                uint32_t length, packets, first, port;
                memcpy(&length, next, 4);
                memcpy(&packets, next + 4, 4);
                memcpy(&first, next + 8, 4);
                memcpy(&port, next + 12, 4);
                next += 16;
                to.sin_port = port ? htons(port) : usual_port;
                for (uint32_t i = 0; i < packets; i++) memcpy(next + first + i * octets + STAMP, &stamp, 8);
                sendto(sending[sender], next, length, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
                next += length;
                sent += packets;
            } else {
                memcpy(payload + STAMP, &stamp, 8);
                sendto(sending[sender], packet, payload - packet + octets, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
                sent++;
            }
            sender = (sender + 1) % senders;
        }
        struct timespec pause = {0, 1000000 - (now_ns() - start) % 1000000};
        nanosleep(&pause, NULL);
    }
    say("end", sent);
    sampling = 0;
    usleep(200000);
    over = 1;
    pthread_join(thread, NULL);
    say("last", sent);
    uint64_t n = sampled < MAX_SAMPLES ? sampled : MAX_SAMPLES;
    qsort(samples, n, sizeof *samples, ascending);
    if (n)
        printf("latency %.1f %.1f %.1f\n", samples[n / 2] / 10.0, samples[n * 99 / 100] / 10.0,
               samples[n * 999 / 1000] / 10.0);
    return 0;
}
