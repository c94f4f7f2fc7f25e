/*
 * podway-init attach: the caller's descriptors 0, 1, 2 joined to the stdio of a container that runs,
 * through the socket of its monitor (monitor.c has the messages). Descriptor 3 as for exec --stream:
 * "started\n", then sizes of the terminal; its end detaches. The container goes on. Exit 0 when it ended.
 *
 * Memory: one message per direction.
 */
#include "podway-init.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONTROL 3

struct message {
  char data[1 + 16384]; /* the first byte is the kind */
  size_t start, end;
};

static int connect_to(const char *path) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (strlen(path) >= sizeof at.sun_path) errno = ENAMETOOLONG, fail(125, "attach to", path);
  strcpy(at.sun_path, path);
  if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at)) fail(125, "attach to", path);
  return fd;
}

/* True when the message is on its way, or nobody is there to take it. */
static bool sent(int fd, struct message *m) {
  if (m->end && send(fd, m->data, m->end, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  m->end = 0;
  return true;
}

static void written(struct message *m) {
  int to = m->data[0] == 'R' ? 2 : 1;
  ssize_t n = write(to, m->data + m->start, m->end - m->start);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  m->start += n < 0 ? m->end - m->start : (size_t)n;
}

int attach(struct options *o) {
  static struct message in, out;
  unsigned char size[5] = {'W'};
  size_t have = 0;
  bool reading = o->open_stdin;
  int fd = connect_to(o->attach);
  block_signals();
  if (o->open_stdin && send(fd, "S", 1, MSG_NOSIGNAL) < 0) return 0;
  if (write(CONTROL, "started\n", 8) < 0) return 0;
  no_wait(fd), no_wait(0), no_wait(1), no_wait(2), no_wait(CONTROL);
  for (;;) {
    bool waiting = out.start < out.end;
    struct pollfd p[4] = {{.fd = CONTROL, .events = POLLIN}, {.fd = reading && !in.end ? 0 : -1, .events = POLLIN},
                          {.fd = waiting && !in.end ? -1 : fd, .events = (short)((waiting ? 0 : POLLIN) | (in.end ? POLLOUT : 0))},
                          {.fd = waiting ? (out.data[0] == 'R' ? 2 : 1) : -1, .events = POLLOUT}};
    if (poll(p, 4, -1) < 0) continue;
    if (p[3].revents) written(&out);
    if (p[0].revents) {
      ssize_t n = read(CONTROL, size + 1 + have, 4 - have);
      if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        sent(fd, &in);
        return 0;
      }
      if (n > 0 && (have += (size_t)n) == 4) {
        have = 0;
        if (send(fd, size, sizeof size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) reading = reading && errno == EAGAIN; /* the next size will do */
      }
    }
    if (p[1].revents) {
      ssize_t n = read(0, in.data + 1, sizeof in.data - 1);
      if (n >= 0) in.data[0] = n ? 'I' : 'E', in.end = 1 + (size_t)n, reading = n > 0;
    }
    sent(fd, &in);
    if (!(p[2].revents & (POLLIN | POLLHUP | POLLERR)) || out.start < out.end) continue;
    ssize_t n = recv(fd, out.data, sizeof out.data, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n <= 0) return 0;
    out.start = 1, out.end = (size_t)n;
    written(&out);
  }
}
