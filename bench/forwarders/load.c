// Many clients and the transceivers behind a forwarder, in one process of two threads.
//
//     load PORT PACKETS_PER_SECOND SECONDS WARM_UP OCTETS HEADER CLIENTS TRANSCEIVERS fd...
//
// Inherits CLIENTS sockets to send from and TRANSCEIVERS sockets to receive on. Sends to 127.0.0.1:PORT from one client
// after the other, in steps of a millisecond. HEADER says what stands before a payload on the other side: its octets, or
// -1 for bundles of the hop protocol. A packet carries the time it was sent, so that the receiver knows how long it took.
// Prints "ready", after WARM_UP seconds "begin", after SECONDS more "end", each with the counts so far, and at last the
// added microseconds at p50, p99 and p99.9.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, SLOT = 2048, MAX_SAMPLES = 4000000, STAMP = 16 };

static int header, transceivers, *receiving;
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
    struct pollfd polled[256];
    for (int i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){slots[i], SLOT};
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    for (int i = 0; i < transceivers; i++) polled[i] = (struct pollfd){receiving[i], POLLIN, 0};
    while (!over) {
        poll(polled, transceivers, 100);
        for (int i = 0; i < transceivers; i++) {
            if (!(polled[i].revents & POLLIN)) continue;
            int n;
            do {
                n = recvmmsg(receiving[i], messages, BATCH, MSG_DONTWAIT, NULL);
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
    if (argc < 9) return 2;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    double rate = atof(argv[2]), seconds = atof(argv[3]), warm_up = atof(argv[4]);
    int octets = atoi(argv[5]), clients = atoi(argv[7]);
    header = atoi(argv[6]);
    transceivers = atoi(argv[8]);
    int *sending = malloc(clients * sizeof(int));
    receiving = malloc(transceivers * sizeof(int));
    for (int i = 0; i < clients; i++) sending[i] = atoi(argv[9 + i]);
    for (int i = 0; i < transceivers; i++) receiving[i] = atoi(argv[9 + clients + i]);
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    uint8_t packet[SLOT] = {0x80, 0x6f};
    pthread_t thread;
    pthread_create(&thread, NULL, receive, NULL);
    say("ready", 0);
    uint64_t start = now_ns(), sent = 0;
    int phase = 0, client = 0;
    for (;;) {
        double elapsed = (now_ns() - start) / 1e9;
        if (phase == 0 && elapsed >= warm_up) {
            phase = 1;
            sampling = 1;
            say("begin", sent);
        }
        if (elapsed >= warm_up + seconds) break;
        for (uint64_t due = (uint64_t)(elapsed * rate); sent < due; sent++) {
            uint64_t stamp = now_ns();
            memcpy(packet + STAMP, &stamp, 8);
            sendto(sending[client], packet, octets, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
            client = (client + 1) % clients;
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
    if (n) printf("latency %.1f %.1f %.1f\n", samples[n / 2] / 10.0, samples[n * 99 / 100] / 10.0, samples[n * 999 / 1000] / 10.0);
    return 0;
}
