/*
 * podway-init run: one container, and the monitor that outlives the lab process.
 *
 *   monitor (caller's namespaces): reads the container's stdout and stderr into a CRI log file,
 *     passes signals on, prints {"exitCode":N,"signal":N} and exits like the container does. It needs
 *     nobody: when its starter dies the container goes on and its log too. When the monitor is killed,
 *     so is the container (PR_SET_PDEATHSIG); when the node's holder is, both end.
 *   container: PID 1 of its own pid namespace, which lies below the node's, so that `ps` on the
 *     node shows it. Made by an intermediate that joins namespaces and is gone then; CLONE_PARENT
 *     makes it the monitor's child all the same.
 *
 * Root: overlayfs, the image directory below, a tmpfs above: a restarted container starts afresh.
 * /proc and /sys as in other runtimes: what writes to the machine's kernel is read-only or masked,
 * unless privileged.
 *
 * Signals to the monitor: TERM INT HUP QUIT USR1 USR2 WINCH go to the container; ALRM kills it
 * ("time is up"), which spares the caller from signalling a pid that may have been taken over.
 *
 * Log format: https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md
 *   2016-10-06T00:17:09.669794202Z stdout F content     (P: a part of a line longer than 16 KiB)
 * The file is renamed to FILE.1 (FILE.1 to FILE.2, ...) before it would grow over --log-max.
 */
#include "podway-init.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- the container's root -------------------------------------------------------------------- */

static void device(const char *path, unsigned major_no, unsigned minor_no) {
  if (mknod(path, S_IFCHR | 0666, makedev(major_no, minor_no)) || chmod(path, 0666)) fail(125, "create", path);
}

static void mount_dev(void) {
  mount_or_fail("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=64k");
  device("/dev/null", 1, 3), device("/dev/zero", 1, 5), device("/dev/full", 1, 7);
  device("/dev/random", 1, 8), device("/dev/urandom", 1, 9), device("/dev/tty", 5, 0);
  if (mkdir("/dev/pts", 0755) || mkdir("/dev/shm", 01777)) fail(125, "make directory", "/dev/pts");
  mount_or_fail("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
  static const char *const links[][2] = {{"pts/ptmx", "/dev/ptmx"}, {"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"},
                                         {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"}};
  for (size_t i = 0; i < sizeof links / sizeof *links; i++)
    if (symlink(links[i][0], links[i][1])) fail(125, "create", links[i][1]);
}

static void protect_kernel(void) {
  static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  static const char *const masked[] = {"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
                                       "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware"};
  const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  for (size_t i = 0; i < sizeof read_only / sizeof *read_only; i++) {
    if (mount(read_only[i], read_only[i], NULL, MS_BIND, NULL)) {
      if (errno == ENOENT) continue;
      fail(125, "bind", read_only[i]);
    }
    mount_or_fail(NULL, read_only[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | flags, NULL);
  }
  for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
    struct stat st;
    if (stat(masked[i], &st)) continue;
    if (S_ISDIR(st.st_mode)) mount_or_fail("tmpfs", masked[i], "tmpfs", MS_RDONLY, "size=0k");
    else mount_or_fail("/dev/null", masked[i], NULL, MS_BIND, NULL);
  }
}

/* Stages on /tmp of this private copy of the node's mounts, which is dropped as a whole. */
static void build_root(struct options *o, int image) {
  mount_or_fail(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
  mount_or_fail("tmpfs", "/tmp", "tmpfs", 0, "mode=755");
  static const char *const dirs[] = {"/tmp/lower", "/tmp/upper", "/tmp/work", "/tmp/root"};
  for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
    if (mkdir(dirs[i], 0755)) fail(125, "make directory", dirs[i]);
  if (syscall(SYS_move_mount, image, "", AT_FDCWD, "/tmp/lower", MOVE_MOUNT_F_EMPTY_PATH)) fail(125, "bind", o->root);
  mount_or_fail("overlay", "/tmp/root", "overlay", 0, "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work");
  if (chdir("/tmp/root") || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/")) fail(125, "change root to", o->root);
  static const char *const points[] = {"/proc", "/sys", "/dev", "/tmp"};
  for (size_t i = 0; i < sizeof points / sizeof *points; i++)
    if (mkdir(points[i], i == 3 ? 01777 : 0755) && errno != EEXIST) fail(125, "make directory", points[i]);
  mount_or_fail("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  mount_or_fail("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | (o->privileged ? 0 : MS_RDONLY), NULL);
  mount_dev();
  place(o->binds, o->nbinds);
  place(o->node_binds, o->nnode_binds);
  for (int i = 0; i < o->ntmpfs; i++) {
    make_parents(o->tmpfs[i]);
    if (mkdir(o->tmpfs[i], 0755) && errno != EEXIST) fail(125, "make directory", o->tmpfs[i]);
    mount_or_fail("tmpfs", o->tmpfs[i], "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
  }
  if (!o->privileged) protect_kernel();
  if (o->cwd) {
    make_parents(o->cwd);
    if ((mkdir(o->cwd, 0755) && errno != EEXIST) || chdir(o->cwd)) fail(125, "enter", o->cwd);
  }
  if (o->ro_root) mount_or_fail(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
}

static void container(struct options *o, int image, int out, int err) {
  int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  setsid();
  build_root(o, image);
  if (dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) fail(125, "redirect", "standard streams");
  /* An image may be bound over the monitor's program file; close what it could be reached by. */
  for (int fd = 3; fd < 1024; fd++)
    if (fd != report_fd) close(fd);
  umask(022);
  report_ready();
  become_user(o);
  exec_command(o);
}

/* ---- log ------------------------------------------------------------------------------------- */

struct log {
  const char *path;
  long size, max, files;
  int fd;
};

struct stream {
  const char *name;
  int fd;
  size_t used;
  char data[16384];
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

/* Reads once; false at the end of the stream or when nothing is there. */
static bool drain(struct stream *s, struct log *l) {
  ssize_t n = read(s->fd, s->data + s->used, sizeof s->data - s->used);
  if (n < 0 && errno == EINTR) return true;
  if (n < 0 && errno == EAGAIN) return false;
  if (n <= 0) {
    if (s->used) log_line(l, s->name, 'F', s->data, s->used);
    s->used = 0;
    close(s->fd);
    s->fd = -1;
    return false;
  }
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

static int monitor(struct options *o, pid_t child, int sigfd, struct stream *streams, struct log *l) {
  int status = 0;
  for (bool alive = true; alive;) {
    struct pollfd p[3] = {{.fd = sigfd, .events = POLLIN}, {.fd = streams[0].fd, .events = POLLIN}, {.fd = streams[1].fd, .events = POLLIN}};
    if (poll(p, 3, -1) < 0) continue;
    for (int i = 0; i < 2; i++)
      if (p[i + 1].revents) drain(&streams[i], l);
    struct signalfd_siginfo si;
    if (!p[0].revents || read(sigfd, &si, sizeof si) != sizeof si) continue;
    if (si.ssi_signo == SIGCHLD) alive = waitpid(child, &status, WNOHANG) != child;
    else kill(child, si.ssi_signo == SIGALRM ? SIGKILL : (int)si.ssi_signo);
  }
  for (int i = 0; i < 2; i++) {
    while (streams[i].fd >= 0 && drain(&streams[i], l)) {}
    if (streams[i].used) log_line(l, streams[i].name, 'F', streams[i].data, streams[i].used);
  }
  int signal_no = WIFSIGNALED(status) ? WTERMSIG(status) : 0, code = signal_no ? 128 + signal_no : WEXITSTATUS(status);
  char line[80];
  int n = snprintf(line, sizeof line, "{\"exitCode\":%d,\"signal\":%d}\n", code, signal_no);
  record_exit(o->exitfile, line, (size_t)n);
  if (write(1, line, (size_t)n) < 0) return code; /* the starter is gone: the exit file has it */
  return code;
}

static void make_pipe(int fds[2]) {
  if (pipe2(fds, O_CLOEXEC)) fail(125, "create", "log pipe");
  fcntl(fds[0], F_SETFL, O_NONBLOCK);
}

int run_container(struct options *o) {
  int pair[2], out[2], err[2], status = 125;
  static struct stream streams[2] = {{.name = "stdout"}, {.name = "stderr"}};
  struct log log = {.path = o->log, .max = o->log_max, .files = o->log_files, .fd = -1};
  struct bind image = {.src = o->root};
  int node = open_pid(o->node), sandbox = open_pid(o->sandbox);
  setsid();
  log_open(&log);
  report_pair(pair);
  make_pipe(out), make_pipe(err);
  streams[0].fd = out[0], streams[1].fd = err[0];

  sigset_t set;
  sigfillset(&set);
  sigprocmask(SIG_BLOCK, &set, NULL);
  int sigfd = signalfd(-1, &set, SFD_CLOEXEC);
  if (sigfd < 0) fail(125, "create", "signalfd");

  join(node, CLONE_NEWPID, o->node); /* for children only */
  pid_t helper = fork();
  if (helper < 0) fail(125, "fork", "container");
  if (!helper) {
    report_fd = pair[1];
    /* Sources are cloned in a copy of the caller's mounts: open_tree wants a mount namespace
     * of its own only for the move that comes later, so nothing here is seen by others. */
    clone_sources(&image, 1);
    clone_sources(o->binds, o->nbinds);
    join(sandbox, CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, o->sandbox);
    join(node, CLONE_NEWNS, o->node);
    clone_sources(o->node_binds, o->nnode_binds);
    if (o->share_pid) join(sandbox, CLONE_NEWPID, o->sandbox);
    pid_t child = fork_beside(CLONE_NEWNS | CLONE_NEWCGROUP | (o->share_pid ? 0 : CLONE_NEWPID));
    if (child < 0) fail(125, "clone", "container");
    if (child) _exit(0);
    container(o, image.fd, out[1], err[1]);
  }
  close(pair[1]), close(out[1]), close(err[1]);
  pid_t child = report_wait(pair[0], &status);
  if (child > 0 && report_wait(pair[0], &status) < 0) child = -1;
  if (child <= 0) {
    while (waitpid(-1, NULL, 0) > 0) {}
    return status;
  }
  waitpid(helper, NULL, 0);
  char line[48];
  int n = snprintf(line, sizeof line, "{\"pid\":%d}\n", child);
  if (write(1, line, (size_t)n) != n) status = 0; /* nobody listens: go on all the same */
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null >= 0) dup2(null, 0), dup2(null, 2);
  close(pair[0]), close(node), close(sandbox);
  return monitor(o, child, sigfd, streams, &log);
}
