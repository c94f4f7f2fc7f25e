/*
 * podway-init exec: a command in the namespaces of another process.
 *
 * With --stream the caller is not a terminal but a server that carries the streams elsewhere: the
 * command is the leader of a session of its own, with pipes (or with --tty a terminal of the container's
 * devpts), and bytes go between them and descriptors 0, 1, 2. Descriptor 3 is a socket:
 *   to the caller:   "started\n", or one line `podway-init: WHAT OBJECT: WHY` when CMD could not be run
 *   from the caller: 4 bytes rows and columns whenever they change; its end hangs up
 * Hanging up is SIGHUP to the session's process groups, and SIGKILL a second later to what stayed. What
 * CMD itself sent away (setsid, nohup in the background) stays when CMD ends by itself, as in Kubernetes.
 *
 * Sources: nsenter(1), setns(2), credentials(7) on sessions.
 */
#include "podway-init.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONTROL 3
#define PATIENCE_MS 1000

/* ---- streams of a caller far away ------------------------------------------------------------ */

struct streamed {
  pid_t child;
  int sigfd, terminal;
  struct flow in, out, err;
  unsigned char size[4];
  size_t have; /* bytes of size */
  bool control, hung_up;
};

static void hang_up(struct streamed *s) {
  if (s->hung_up) return;
  s->hung_up = true, s->control = false;
  kill(-s->child, SIGHUP);
  if (s->terminal < 0) return;
  close(s->terminal); /* the kernel hangs up what is in the foreground */
  s->terminal = s->in.to = s->out.from = -1;
}

static void read_control(struct streamed *s) {
  ssize_t n = read(CONTROL, s->size + s->have, sizeof s->size - s->have);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n <= 0) {
    hang_up(s);
    return;
  }
  s->have += (size_t)n;
  if (s->have < sizeof s->size) return;
  s->have = 0;
  resize_terminal(s->terminal, s->size);
}

/* What the command wrote before it ended is passed on; not what others may still write. */
static void last_words(struct streamed *s) {
  while (!s->hung_up) {
    bool moved = flow_move(&s->out) | flow_move(&s->err);
    if (!moved && !flow_full(&s->out) && !flow_full(&s->err)) return;
    if (moved) continue;
    struct pollfd p[3] = {{.fd = CONTROL, .events = POLLIN}, {.fd = flow_full(&s->out) ? s->out.to : -1, .events = POLLOUT},
                          {.fd = flow_full(&s->err) ? s->err.to : -1, .events = POLLOUT}};
    if (poll(p, 3, -1) > 0 && p[0].revents) read_control(s);
  }
}

static int relay(struct streamed *s) {
  for (;;) {
    struct pollfd p[8] = {{.fd = s->sigfd, .events = POLLIN}, {.fd = s->control ? CONTROL : -1, .events = POLLIN}};
    flow_wants(&s->in, &p[2], &p[3]);
    flow_wants(&s->out, &p[4], &p[5]);
    flow_wants(&s->err, &p[6], &p[7]);
    int ready = poll(p, 8, s->hung_up ? PATIENCE_MS : -1);
    if (ready == 0) kill(-s->child, SIGKILL);
    if (ready <= 0) continue;
    if (p[1].revents) read_control(s);
    if (p[2].revents || p[3].revents) flow_move(&s->in);
    if (p[4].revents || p[5].revents) flow_move(&s->out);
    if (p[6].revents || p[7].revents) flow_move(&s->err);
    struct signalfd_siginfo si;
    if (!p[0].revents || read(s->sigfd, &si, sizeof si) != sizeof si) continue;
    if (si.ssi_signo != SIGCHLD) {
      if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGHUP || si.ssi_signo == SIGINT) hang_up(s);
      continue;
    }
    int status;
    if (waitpid(s->child, &status, WNOHANG) != s->child) continue;
    if (s->hung_up) kill(-s->child, SIGKILL); /* what was left of its group */
    last_words(s);
    return exit_code(status);
  }
}

static int exec_streamed(struct options *o) {
  static struct streamed s = {.terminal = -1, .control = true};
  int in[2], out[2], err[2], slave = -1, pair[2], status = 125;
  if (o->tty) open_terminal(&s.terminal, &slave, o->uid);
  else if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC)) fail(125, "create", "pipe");
  report_pair(pair);
  s.sigfd = block_signals();
  s.child = fork();
  if (s.child < 0) fail(125, "fork", "command");
  if (!s.child) {
    report_fd = pair[1];
    setsid();
    if (o->tty) take_terminal(slave);
    else if (dup2(in[0], 0) < 0 || dup2(out[1], 1) < 0 || dup2(err[1], 2) < 0) fail(125, "redirect", "standard streams");
    become_user(o);
    exec_command(o);
  }
  close(pair[1]);
  if (report_wait(pair[0], &status, NULL) < 0) return status;
  close(pair[0]);
  if (write(CONTROL, "started\n", 8) < 0) hang_up(&s); /* nobody is there any more */
  no_wait(CONTROL);
  s.err.from = s.err.to = -1;
  if (o->tty) {
    close(slave);
    flow_open(&s.in, 0, s.terminal, false);
    flow_open(&s.out, s.terminal, 1, false);
  } else {
    close(in[0]), close(out[1]), close(err[1]);
    flow_open(&s.in, 0, in[1], true);
    flow_open(&s.out, out[0], 1, false);
    flow_open(&s.err, err[0], 2, false);
  }
  return relay(&s);
}

/* ---- the caller's own terminal ------------------------------------------------------------------ */

/* The child ends as it ends: same status, or 128 + signal. Terminal signals reach the child by
 * themselves (same process group); those sent to us by kill(2) are passed on. */
static int wait_like(pid_t child, const sigset_t *set) {
  for (;;) {
    siginfo_t info;
    int status;
    if (sigwaitinfo(set, &info) < 0) continue;
    if (info.si_signo != SIGCHLD) {
      if (info.si_code != SI_KERNEL) kill(child, info.si_signo);
      continue;
    }
    while (waitpid(child, &status, WNOHANG | WUNTRACED) == child) {
      if (!WIFSTOPPED(status)) return exit_code(status);
      raise(SIGSTOP); /* the child was stopped (Ctrl-Z): so are we, for the shell's job control */
      kill(child, SIGCONT);
    }
  }
}

int exec_in(struct options *o) {
  int target = open_pid(o->target), flags = o->ns;
  struct stat ours, theirs;
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/ns/user", o->target);
  /* Joining the user namespace one is already in is refused by the kernel. */
  if (!stat("/proc/self/ns/user", &ours) && !stat(path, &theirs) && ours.st_ino == theirs.st_ino) flags &= ~CLONE_NEWUSER;
  join(target, flags, o->target);
  if (o->stream) fcntl(CONTROL, F_SETFD, FD_CLOEXEC);
  if (o->cwd && chdir(o->cwd)) fail(125, "enter", o->cwd);
  if (o->stream) return exec_streamed(o);
  sigset_t set;
  sigemptyset(&set);
  for (const int *s = (const int[]){SIGCHLD, SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGCONT, 0}; *s; s++) sigaddset(&set, *s);
  sigprocmask(SIG_BLOCK, &set, NULL);
  pid_t child = fork();
  if (child < 0) fail(125, "fork", "command");
  if (!child) {
    become_user(o);
    exec_command(o);
  }
  return wait_like(child, &set);
}
