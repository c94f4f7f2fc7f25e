/*
 * The monitor of a container: reads its stdout and stderr into a CRI log file and to whoever is
 * attached, passes signals and stdin on, prints {"exitCode":N,"signal":N} and exits as the container does.
 *
 * Signals to the monitor: TERM INT HUP QUIT USR1 USR2 WINCH go to the container; ALRM kills it
 * ("time is up"), which spares the caller from signalling a pid that may have been taken over.
 *
 * Log format: https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md
 *   2016-10-06T00:17:09.669794202Z stdout F content     (P: a part of a line longer than 16 KiB)
 * The file is renamed to FILE.1 (FILE.1 to FILE.2, ...) before it would grow over --log-max.
 *
 * Attached clients: a SEQPACKET socket, one byte of kind before each message.
 *   to the client:   O bytes of stdout (or of the terminal)   R bytes of stderr
 *   from the client: S "I shall feed stdin"   I bytes for stdin   E their end   W 4 bytes rows and columns
 * A client that does not read holds the container up, as in other runtimes, so nothing is lost and
 * memory is bounded: one message per client. With --stdin-once the container's stdin (if no terminal)
 * ends with the first client that fed it.
 */
#include "podway-init.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS 8
#define CHUNK 16384
/* After the container's end, for clients that do not take its last words. */
#define PATIENCE_MS 3000

/* ---- log ------------------------------------------------------------------------------------- */

static struct log {
  const char *path;
  long size, max, files;
  int fd;
} container_log;

struct stream {
  const char *name;
  int fd;
  size_t used;
  char kind, data[CHUNK];
};

static void log_open(struct log *l) {
  struct stat st;
  if (!l->path) return;
  l->fd = open(l->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
  if (l->fd < 0) fail(125, "open", l->path);
  l->size = fstat(l->fd, &st) ? 0 : st.st_size;
}

static void log_rotate(struct log *l) {
  char from[4096], to[4096];
  for (long i = l->files - 1; i > 0; i--) {
    snprintf(to, sizeof to, "%s.%ld", l->path, i);
    if (i > 1) snprintf(from, sizeof from, "%s.%ld", l->path, i - 1);
    else snprintf(from, sizeof from, "%s", l->path);
    rename(from, to); /* the first times there is none */
  }
  if (l->files < 2) unlink(l->path);
  close(l->fd);
  l->fd = open(l->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
  l->size = 0;
}

static void log_line(struct log *l, const char *stream, char tag, const char *text, size_t len) {
  if (!l->path || l->fd < 0) return;
  struct timespec now;
  struct tm tm;
  char head[80];
  clock_gettime(CLOCK_REALTIME, &now);
  gmtime_r(&now.tv_sec, &tm);
  size_t at = strftime(head, sizeof head, "%Y-%m-%dT%H:%M:%S", &tm);
  int n = (int)at + snprintf(head + at, sizeof head - at, ".%09ldZ %s %c ", now.tv_nsec, stream, tag);
  long total = n + (long)len + 1;
  if (l->size && l->size + total > l->max) log_rotate(l);
  struct iovec iov[] = {{head, (size_t)n}, {(void *)text, len}, {(void *)"\n", 1}};
  if (writev(l->fd, iov, 3) > 0) l->size += total; /* a full disk loses lines, not the container */
}

/* ---- attached clients ------------------------------------------------------------------------ */

static struct client {
  int fd;
  bool feeds;
  size_t len; /* of a message that did not fit into the socket */
  char out[1 + CHUNK];
} clients[CLIENTS];

static struct {
  int fd, terminal;
  bool once, ends;
  size_t start, end;
  char data[1 + CHUNK];
} feed;

int listen_for_attach(const char *path) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  if (!path) return -1;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (strlen(path) >= sizeof at.sun_path) errno = ENAMETOOLONG, fail(125, "listen at", path);
  strcpy(at.sun_path, path);
  mode_t before = umask(0177);
  if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, CLIENTS)) fail(125, "listen at", path);
  umask(before);
  return fd;
}

static bool stalled(void) {
  for (int i = 0; i < CLIENTS; i++)
    if (clients[i].len) return true;
  return false;
}

static void drop(struct client *c) {
  if (c->feeds && feed.once) feed.ends = true;
  close(c->fd);
  c->fd = -1, c->len = 0, c->feeds = false;
}

static void deliver(struct client *c) {
  if (send(c->fd, c->out, c->len, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) c->len = 0;
  else if (errno != EAGAIN && errno != EINTR) drop(c);
}

static void tell_clients(char kind, const char *text, size_t len) {
  for (struct client *c = clients; c < clients + CLIENTS; c++) {
    if (c->fd < 0) continue;
    c->out[0] = kind, c->len = 1 + len;
    memcpy(c->out + 1, text, len);
    deliver(c);
  }
}

static void accept_client(int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  for (int i = 0; fd >= 0 && i < CLIENTS; i++) {
    if (clients[i].fd >= 0) continue;
    clients[i] = (struct client){.fd = fd};
    return;
  }
  if (fd >= 0) close(fd); /* too many */
}

static void hear(struct client *c) {
  ssize_t n = recv(c->fd, feed.data, sizeof feed.data, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    drop(c);
    return;
  }
  if (feed.data[0] == 'S') c->feeds = true;
  else if (feed.data[0] == 'E') feed.ends |= feed.once;
  else if (feed.data[0] == 'W' && n == 5) resize_terminal(feed.terminal, (unsigned char *)feed.data + 1);
  else if (feed.data[0] == 'I' && feed.fd >= 0) feed.start = 1, feed.end = (size_t)n;
}

/* Writes what clients fed, and closes stdin when that was all. */
static void feed_container(void) {
  if (feed.fd < 0) feed.start = feed.end = 0;
  if (feed.start < feed.end) {
    ssize_t n = write(feed.fd, feed.data + feed.start, feed.end - feed.start);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) feed.ends = true, feed.start = feed.end;
    else feed.start += (size_t)n;
  }
  if (feed.start < feed.end || !feed.ends || feed.fd < 0) return;
  if (feed.terminal < 0) close(feed.fd);
  feed.fd = -1;
}

/* ---- streams ----------------------------------------------------------------------------------- */

/* Reads once; false at the end of the stream or when nothing is there. */
static bool drain(struct stream *s, struct log *l) {
  ssize_t n = read(s->fd, s->data + s->used, sizeof s->data - s->used);
  if (n < 0 && errno == EINTR) return true;
  if (n < 0 && errno == EAGAIN) return false;
  if (n <= 0) {
    if (s->used) log_line(l, s->name, 'F', s->data, s->used);
    s->used = 0;
    if (s->fd != feed.terminal) close(s->fd);
    s->fd = -1;
    return false;
  }
  tell_clients(s->kind, s->data + s->used, (size_t)n);
  s->used += (size_t)n;
  char *start = s->data, *end = s->data + s->used, *nl;
  for (; start < end && (nl = memchr(start, '\n', (size_t)(end - start))); start = nl + 1) log_line(l, s->name, 'F', start, (size_t)(nl - start));
  s->used = (size_t)(end - start);
  if (s->used == sizeof s->data) {
    log_line(l, s->name, 'P', s->data, s->used);
    s->used = 0;
  } else {
    memmove(s->data, start, s->used);
  }
  return true;
}

/* ---- monitor ----------------------------------------------------------------------------------- */

static void record_exit(const char *path, const char *line, size_t len) {
  char tmp[4096];
  if (!path || snprintf(tmp, sizeof tmp, "%s.new", path) >= (int)sizeof tmp) return;
  int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return;
  bool whole = write(fd, line, len) == (ssize_t)len;
  close(fd);
  if (whole) rename(tmp, path);
}

static void last_words(struct stream *streams, struct log *l) {
  for (struct timespec end, now = {0};;) {
    if (!now.tv_sec) clock_gettime(CLOCK_MONOTONIC, &end), end.tv_sec += PATIENCE_MS / 1000;
    for (int i = 0; i < 2; i++)
      while (!stalled() && streams[i].fd >= 0 && drain(&streams[i], l)) {}
    if (!stalled()) break;
    clock_gettime(CLOCK_MONOTONIC, &now);
    struct pollfd p[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) p[i] = (struct pollfd){.fd = clients[i].len ? clients[i].fd : -1, .events = POLLOUT};
    int ready = poll(p, CLIENTS, 100);
    for (int i = 0; i < CLIENTS; i++) {
      if (ready > 0 && p[i].revents) deliver(&clients[i]);
      else if (clients[i].len && now.tv_sec > end.tv_sec) drop(&clients[i]);
    }
  }
  for (int i = 0; i < 2; i++)
    if (streams[i].used) log_line(l, streams[i].name, 'F', streams[i].data, streams[i].used);
}

/* Waits for one thing to happen and handles it. True when the container has ended. */
static bool attend(const struct monitored *m, struct stream *streams, struct log *l, int *status) {
  bool held_up = stalled(), feeding = feed.start < feed.end;
  struct pollfd p[5 + CLIENTS] = {{.fd = m->sigfd, .events = POLLIN}, {.fd = held_up ? -1 : streams[0].fd, .events = POLLIN},
                                  {.fd = held_up ? -1 : streams[1].fd, .events = POLLIN}, {.fd = m->listener, .events = POLLIN},
                                  {.fd = feeding ? feed.fd : -1, .events = POLLOUT}};
  for (int i = 0; i < CLIENTS; i++) {
    const struct client *c = &clients[i];
    /* One who waits for room in stdin is not heard meanwhile. */
    p[5 + i] = (struct pollfd){.fd = feeding && !c->len ? -1 : c->fd, .events = (short)((feeding ? 0 : POLLIN) | (c->len ? POLLOUT : 0))};
  }
  if (poll(p, 5 + CLIENTS, -1) < 0) return false;
  for (int i = 0; i < CLIENTS; i++) {
    struct client *c = &clients[i];
    if (p[5 + i].fd < 0 || !p[5 + i].revents) continue;
    if (c->len) deliver(c);
    if (c->fd >= 0 && feed.start >= feed.end && p[5 + i].revents & (POLLIN | POLLHUP | POLLERR)) hear(c);
  }
  feed_container();
  for (int i = 0; i < 2; i++)
    if (p[i + 1].revents && !stalled()) drain(&streams[i], l);
  if (p[3].revents) accept_client(m->listener);
  struct signalfd_siginfo si;
  if (!p[0].revents || read(m->sigfd, &si, sizeof si) != sizeof si) return false;
  if (si.ssi_signo == SIGCHLD) return waitpid(m->child, status, WNOHANG) == m->child;
  kill(m->child, si.ssi_signo == SIGALRM ? SIGKILL : (int)si.ssi_signo);
  return false;
}

void monitor_log(const struct options *o) {
  container_log = (struct log){.path = o->log, .max = o->log_max, .files = o->log_files, .fd = -1};
  log_open(&container_log);
}

int monitor(struct options *o, const struct monitored *m) {
  static struct stream streams[2] = {{.name = "stdout", .kind = 'O'}, {.name = "stderr", .kind = 'R'}};
  int status = 0;
  streams[0].fd = m->out, streams[1].fd = m->err;
  feed.fd = m->in, feed.terminal = m->terminal, feed.once = o->stdin_once && m->terminal < 0;
  for (int i = 0; i < CLIENTS; i++) clients[i].fd = -1;
  while (!attend(m, streams, &container_log, &status)) {}
  if (o->attach) unlink(o->attach);
  last_words(streams, &container_log);
  char line[80];
  int n = snprintf(line, sizeof line, "{\"exitCode\":%d,\"signal\":%d}\n", exit_code(status), WIFSIGNALED(status) ? WTERMSIG(status) : 0);
  record_exit(o->exitfile, line, (size_t)n);
  if (write(1, line, (size_t)n) < 0) return exit_code(status); /* the starter is gone: the exit file has it */
  return exit_code(status);
}
