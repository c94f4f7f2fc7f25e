/*
 * Bytes between descriptors, terminals, and signals as descriptors: what exec --stream, attach and the
 * monitor of a container have in common.
 *
 * Memory: one buffer per direction; a reader that does not read stops the writer (back-pressure).
 * Sources: poll(2), pty(7), ioctl_tty(2), signalfd(2).
 */
#include "podway-init.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

void no_wait(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

void flow_open(struct flow *f, int from, int to, bool close_to) {
  f->from = from, f->to = to, f->close_to = close_to;
  no_wait(from), no_wait(to);
}

bool flow_full(const struct flow *f) { return f->start < f->end; }

/* Wants bytes while it has none, and room while it has some. */
void flow_wants(const struct flow *f, struct pollfd *in, struct pollfd *out) {
  *in = (struct pollfd){.fd = flow_full(f) ? -1 : f->from, .events = POLLIN};
  *out = (struct pollfd){.fd = flow_full(f) ? f->to : -1, .events = POLLOUT};
}

static void flow_stop(struct flow *f) {
  if (f->close_to && f->to >= 0) close(f->to);
  f->to = -1;
}

/* Moves what can be moved, up to some buffers full, so that one busy flow leaves room for the others.
 * False when nothing moved. Bytes that nobody takes are dropped, so that their writer goes on. */
bool flow_move(struct flow *f) {
  bool moved = false;
  for (int turn = 0; turn < 16; turn++) {
    if (!flow_full(f)) {
      if (f->from < 0) break;
      ssize_t n = read(f->from, f->data, sizeof f->data);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) break;
      if (n <= 0) { /* a terminal that nobody has open any more says EIO */
        f->from = -1;
        flow_stop(f);
        break;
      }
      f->start = 0, f->end = (size_t)n, moved = true;
    }
    ssize_t n = f->to < 0 ? (ssize_t)(f->end - f->start) : write(f->to, f->data + f->start, f->end - f->start);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) flow_stop(f);
    else f->start += (size_t)n, moved = true;
  }
  return moved;
}

/* All signals, as a descriptor. Writing to what is closed is an error then, not the end. */
int block_signals(void) {
  sigset_t set;
  sigfillset(&set);
  sigprocmask(SIG_BLOCK, &set, NULL);
  int fd = signalfd(-1, &set, SFD_CLOEXEC);
  if (fd < 0) fail(125, "create", "signalfd");
  return fd;
}

int exit_code(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

void open_terminal(int *master, int *slave, long uid) {
  char name[32];
  int number, unlock = 0;
  *master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (*master < 0) *master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (*master < 0 || ioctl(*master, TIOCSPTLCK, &unlock) || ioctl(*master, TIOCGPTN, &number)) fail(125, "open", "/dev/ptmx");
  snprintf(name, sizeof name, "/dev/pts/%d", number);
  *slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (*slave < 0 || (uid > 0 && fchown(*slave, (uid_t)uid, (gid_t)-1))) fail(125, "open", name);
}

/* For a session leader. */
void take_terminal(int slave) {
  if (ioctl(slave, TIOCSCTTY, 0)) fail(125, "take", "terminal");
  if (dup2(slave, 0) < 0 || dup2(slave, 1) < 0 || dup2(slave, 2) < 0) fail(125, "redirect", "standard streams");
}

void resize_terminal(int master, const unsigned char *size) {
  struct winsize w = {.ws_row = (unsigned short)(size[0] << 8 | size[1]), .ws_col = (unsigned short)(size[2] << 8 | size[3])};
  if (master >= 0) ioctl(master, TIOCSWINSZ, &w);
}
