// The plain floor: one recvfrom and one sendto for each packet, up (`plain forward PORT TRANSCEIVER_PORT...`) and down
// (`plain back PORT`); and what no forwarder can beat: receiving alone, 64 at a time (`plain receive PORT`). A client's
// packets go to the transceiver that its port chooses, behind a header of 38 octets that begins with its address; what
// comes down has the same header.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { HEADER = 38, BATCH = 64, SLOT = 2048 };

static void forward(int sock, int transceivers, char **ports) {
    struct sockaddr_in to[256], from;
    for (int i = 0; i < transceivers; i++) {
        to[i] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(ports[i]))};
        to[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    static uint8_t packet[HEADER + SLOT];
    for (;;) {
        socklen_t size = sizeof from;
        ssize_t length = recvfrom(sock, packet + HEADER, SLOT, 0, (struct sockaddr *)&from, &size);
        if (length < 0) continue;
        memcpy(packet, &from.sin_addr, 4);
        memcpy(packet + 16, &from.sin_port, 2);
        struct sockaddr_in *chosen = &to[ntohs(from.sin_port) % transceivers];
        sendto(sock, packet, HEADER + length, 0, (struct sockaddr *)chosen, sizeof *chosen);
    }
}

static void back(int sock) {
    struct sockaddr_in to = {.sin_family = AF_INET};
    static uint8_t packet[HEADER + SLOT];
    for (;;) {
        ssize_t length = recvfrom(sock, packet, sizeof packet, 0, NULL, NULL);
        if (length < HEADER) continue;
        memcpy(&to.sin_addr, packet, 4);
        memcpy(&to.sin_port, packet + 16, 2);
        sendto(sock, packet + HEADER, length - HEADER, 0, (struct sockaddr *)&to, sizeof to);
    }
}

static void receive(int sock) {
    static uint8_t slots[BATCH][SLOT];
    struct mmsghdr messages[BATCH] = {0};
    struct iovec pieces[BATCH];
    for (int i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){slots[i], SLOT};
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    for (;;) recvmmsg(sock, messages, BATCH, MSG_WAITFORONE, NULL);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    int sock = socket(AF_INET, SOCK_DGRAM, 0), buffer = 4 << 20;
    setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(sock, (struct sockaddr *)&at, sizeof at)) return 1;
    puts("ready");
    fflush(stdout);
    if (!strcmp(argv[1], "receive")) receive(sock);
    if (!strcmp(argv[1], "back")) back(sock);
    forward(sock, argc - 3, argv + 3);
}
