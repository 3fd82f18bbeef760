// Many clients and the transceivers behind a forwarder, in one process of two threads.
//
//     load PORT PACKETS_PER_SECOND SECONDS WARM_UP OCTETS HEADER SENDERS RECEIVERS DATAGRAMS fd...
//
// Inherits SENDERS sockets to send from and RECEIVERS sockets to receive on. Sends to 127.0.0.1:PORT from one sender after
// the other, in steps of a millisecond: packets of OCTETS octets if DATAGRAMS is "-" (uplink), else the datagrams of that
// file in turn (downlink), each with its length, its number of packets and the offset of the first payload before it (32
// bits each, then OCTETS octets a payload). HEADER says what stands before a payload where it is received: its octets, or
// -1 for bundles of the hop protocol. A packet carries the time it was sent, so that the receiver knows how long it took.
// Prints "ready", after WARM_UP seconds "begin", after SECONDS more "end", each with the counts so far, and at last the
// added microseconds at p50, p99 and p99.9.

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

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void take(const uint8_t *data, int length, uint64_t now) {
    int packets = 1, start = header;
    if (header < 0) {
        packets = data[3];
        start = 24 + 24 * packets + 16;
    }
    received += packets;
    if (sampling && start + STAMP + 8 <= length && sampled < MAX_SAMPLES) {
        uint64_t sent;
        memcpy(&sent, data + start + STAMP, 8);
        samples[sampled++] = (uint32_t)((now - sent) / 100);
    }
}

static void *receive(void *unused) {
    static uint8_t slots[BATCH][SLOT];
    struct mmsghdr messages[BATCH] = {0};
    struct iovec pieces[BATCH];
    for (int i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){slots[i], SLOT};
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    int waiting = epoll_create1(0);
    for (int i = 0; i < receivers; i++) {
        struct epoll_event wanted = {.events = EPOLLIN, .data.fd = receiving[i]};
        epoll_ctl(waiting, EPOLL_CTL_ADD, receiving[i], &wanted);
    }
    while (!over) {
        struct epoll_event events[512];
        int ready = epoll_wait(waiting, events, 512, 100);
        for (int i = 0; i < ready; i++) {
            int n;
            do {
                n = recvmmsg(events[i].data.fd, messages, BATCH, MSG_DONTWAIT, NULL);
                uint64_t now = now_ns();
                for (int k = 0; k < n; k++) take(slots[k], messages[k].msg_len, now);
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
    printf("%s %llu %llu\n", what, (unsigned long long)sent, (unsigned long long)received);
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc < 10) return 2;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    double rate = atof(argv[2]), seconds = atof(argv[3]), warm_up = atof(argv[4]);
    int octets = atoi(argv[5]), senders = atoi(argv[7]), sender = 0, phase = 0;
    header = atoi(argv[6]);
    receivers = atoi(argv[8]);
    int *sending = malloc(senders * sizeof(int));
    receiving = malloc(receivers * sizeof(int));
    for (int i = 0; i < senders; i++) sending[i] = atoi(argv[10 + i]);
    for (int i = 0; i < receivers; i++) receiving[i] = atoi(argv[10 + senders + i]);
    uint8_t packet[SLOT] = {0x80, 0x6f}, *datagrams = NULL, *end = NULL, *next;
    if (strcmp(argv[9], "-")) {
        struct stat file;
        int fd = open(argv[9], O_RDONLY);
        fstat(fd, &file);
        next = datagrams = mmap(NULL, file.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE, fd, 0);
        end = datagrams + file.st_size;
    }
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    pthread_t thread;
    pthread_create(&thread, NULL, receive, NULL);
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
            uint64_t stamp = now_ns();
            if (datagrams) {
                uint32_t length, packets, first;
                memcpy(&length, next, 4);
                memcpy(&packets, next + 4, 4);
                memcpy(&first, next + 8, 4);
                next += 12;
                for (uint32_t i = 0; i < packets; i++) memcpy(next + first + i * octets + STAMP, &stamp, 8);
                sendto(sending[sender], next, length, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
                next += length;
                sent += packets;
            } else {
                memcpy(packet + STAMP, &stamp, 8);
                sendto(sending[sender], packet, octets, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
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
    qsort(samples, sampled, sizeof *samples, ascending);
    uint64_t n = sampled;
    if (n)
        printf("latency %.1f %.1f %.1f\n", samples[n / 2] / 10.0, samples[n * 99 / 100] / 10.0,
               samples[n * 999 / 1000] / 10.0);
    return 0;
}
