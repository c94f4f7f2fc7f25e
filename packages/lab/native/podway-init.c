/*
 * podway-init: everything Podway's lab needs setns, unshare, mount and pivot_root for.
 *
 *   podway-init hold  --hostname NAME [--title TEXT] [--netns-file FILE] [--tmpfs DIR]...
 *                     [--overlay TARGET DIR]... [--bind SRC DST ro|rw]... [--sysctl K=V]...
 *       Becomes a lab node: own mnt, uts, ipc and pid namespaces, and net (the one that FILE is
 *       bound to, or a new one, in which nothing is brought up). The holder is PID 1 of the node's
 *       pid namespace and reaps; killing it kills all that runs in the node.
 *       Mounts: private propagation, the overlays (the machine's TARGET below, what the node writes in
 *       DIR/upper), new /proc and /sys, the tmpfs, then the binds. Namespace files
 *       and mounts hidden by a tmpfs are let go of, so that a node never keeps another lab alive.
 *   podway-init pause --node PID --hostname NAME [--title TEXT] [--netns PATH] [--shm DIR] [--host-net]
 *                     [--sysctl K=V]...
 *       A pod sandbox inside a node: own net, ipc, uts and pid namespaces (pid is for pods that share
 *       it). Brings lo up, binds its netns to PATH and a tmpfs for /dev/shm to DIR in the node's
 *       mount namespace. Outlives whoever started it.
 *   podway-init run   --node PID --sandbox PID --root DIR [--bind SRC DST ro|rw]...
 *                     [--node-bind SRC DST ro|rw]... [--tmpfs DIR]... [--cwd DIR] [--user UID] [--group GID]
 *                     [--groups G,G] [--caps HEX] [--privileged] [--read-only-root] [--no-new-privs]
 *                     [--share-pid] [--log FILE --log-max BYTES --log-files N] [--exit-file FILE] -- CMD [ARG]...
 *       A container: the sandbox's net, ipc, uts; own mnt, pid, cgroup. See container.c.
 *   podway-init exec  --target PID [-n -m -p -u -i -C -U -T | -a] [--cwd DIR] [--user ...] [--caps HEX] [--no-new-privs] -- CMD [ARG]...
 *       Runs CMD in those namespaces of PID (letters as in nsenter) with the caller's stdio and
 *       environment. Same as: nsenter -t PID -a -- CMD.
 *   podway-init unmount --node PID PATH...
 *       Unmounts and removes PATHs in the node's mount namespace; what is absent is done.
 *
 * hold, pause and run print {"pid":N} (as the caller's pid namespace counts) on stdout when they are
 * ready. hold and pause go to the background then, keeping stdout open: its end is their death.
 * The environment of CMD is podway-init's own. Paths after --bind are the caller's, those after
 * --node-bind the node's.
 *
 * Errors: one line `podway-init: WHAT OBJECT: WHY` on stderr, exit 125; 126 when CMD cannot be
 * run, 127 when there is none.
 *
 * Sources: namespaces(7), pid_namespaces(7), mount_namespaces(7), open_tree and move_mount
 * (linux/mount.h), capabilities(7), nsenter(1).
 */
#include "podway-init.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int report_fd = -1;
static int self_fd = -1; /* this program, for executing it again where its path is hidden */

void fail_text(int code, const char *what, const char *object, const char *why) {
  char line[1024];
  int n = snprintf(line, sizeof line, "%cpodway-init: %s %s: %s\n", code, what, object, why);
  if (n >= (int)sizeof line) n = sizeof line - 1;
  if (report_fd >= 0) {
    if (send(report_fd, line, n, MSG_NOSIGNAL) < 0) _exit(code);
  } else if (write(2, line + 1, n - 1) < 0) {
    _exit(code);
  }
  _exit(code);
}

void fail(int code, const char *what, const char *object) { fail_text(code, what, object, strerror(errno)); }

/* ---- reports ---------------------------------------------------------------------------- */

void report_pair(int pair[2]) {
  int on = 1;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) fail(125, "create", "report socket");
  setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
}

void report_ready(void) {
  if (send(report_fd, "R", 1, MSG_NOSIGNAL) < 0) _exit(125);
}

/* The sender's pid once it is ready; 0 when the other side closed without a word (it executed its
 * command); -1 and *status when it failed, its line printed. */
pid_t report_wait(int fd, int *status) {
  char text[1024], control[CMSG_SPACE(sizeof(struct ucred))];
  struct iovec iov = {text, sizeof text - 1};
  struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t n;
  while ((n = recvmsg(fd, &msg, 0)) < 0 && errno == EINTR) {}
  if (n <= 0) return 0;
  if (text[0] != 'R') {
    *status = (unsigned char)text[0];
    if (write(2, text + 1, n - 1) < 0) *status = 125;
    return -1;
  }
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
    if (c->cmsg_type == SCM_CREDENTIALS) return ((struct ucred *)(void *)CMSG_DATA(c))->pid;
  fail_text(125, "read", "report socket", "no credentials");
}

/* fork whose child becomes a sibling: its parent is ours, so that the one who waits may live in
 * another pid namespace than the one who made it. */
pid_t fork_beside(int extra_flags) {
  return (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD | extra_flags, 0, 0, 0, 0);
}

/* ---- namespaces and mounts --------------------------------------------------------------- */

int open_pid(pid_t pid) {
  char name[32];
  int fd = (int)syscall(SYS_pidfd_open, pid, 0);
  snprintf(name, sizeof name, "process %d", pid);
  if (fd < 0) fail(125, "open", name);
  return fd;
}

void join(int pidfd, int flags, pid_t pid) {
  char name[48];
  snprintf(name, sizeof name, "namespaces of process %d", pid);
  if (flags && setns(pidfd, flags)) fail(125, "join", name);
}

void mount_or_fail(const char *src, const char *dst, const char *type, unsigned long flags, const char *data) {
  if (mount(src, dst, type, flags, data)) fail(125, "mount", dst);
}

void make_parents(const char *path) {
  char part[4096];
  if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part) {
    errno = ENAMETOOLONG;
    fail(125, "make directory", path);
  }
  for (char *p = part + 1; (p = strchr(p, '/')); p++) {
    *p = 0;
    if (mkdir(part, 0755) && errno != EEXIST) fail(125, "make directory", part);
    *p = '/';
  }
}

static void make_dir(const char *path, mode_t mode) {
  make_parents(path);
  if (mkdir(path, mode) && errno != EEXIST) fail(125, "make directory", path);
}

void clone_sources(struct bind *list, int n) {
  for (int i = 0; i < n; i++) {
    struct stat st;
    list[i].fd = (int)syscall(SYS_open_tree, AT_FDCWD, list[i].src, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (list[i].fd < 0 || fstat(list[i].fd, &st)) fail(125, "open", list[i].src);
    list[i].dir = S_ISDIR(st.st_mode);
  }
}

void place(struct bind *list, int n) {
  for (int i = 0; i < n; i++) {
    struct bind *b = &list[i];
    if (b->dir) {
      make_dir(b->dst, 0755);
    } else {
      make_parents(b->dst);
      int fd = open(b->dst, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
      if (fd < 0 && errno != EROFS && errno != ENXIO && errno != ETXTBSY) fail(125, "create", b->dst);
      if (fd >= 0) close(fd);
    }
    struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
    if (b->ro && syscall(SYS_mount_setattr, b->fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &ro, sizeof ro))
      fail(125, "make read-only", b->src);
    if (syscall(SYS_move_mount, b->fd, "", AT_FDCWD, b->dst, MOVE_MOUNT_F_EMPTY_PATH)) fail(125, "bind", b->dst);
    close(b->fd);
  }
}

void write_sysctls(const struct options *o) {
  for (int i = 0; i < o->nsysctls; i++) {
    const char *eq = strchr(o->sysctls[i], '=');
    char path[512];
    if (!eq || eq - o->sysctls[i] > 400 || strstr(o->sysctls[i], "..")) fail_text(125, "set sysctl", o->sysctls[i], "not KEY=VALUE");
    snprintf(path, sizeof path, "/proc/sys/%.*s", (int)(eq - o->sysctls[i]), o->sysctls[i]);
    for (char *p = path + 10; *p; p++)
      if (*p == '.') *p = '/';
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, eq + 1, strlen(eq + 1)) < 0) fail(125, "set sysctl", o->sysctls[i]);
    close(fd);
  }
}

/* Where `ip netns` keeps its names must be a shared mount of its own, as `ip netns add` would make it: were
 * that done later, on top of pods' namespaces that are bound there already, nobody could unmount them any more. */
static void share_netns_names(void) {
  const char *dir = "/run/netns";
  make_dir(dir, 0755);
  mount_or_fail(dir, dir, NULL, MS_BIND | MS_REC, NULL);
  mount_or_fail(NULL, dir, NULL, MS_SHARED | MS_REC, NULL);
}

/* Lets go of every mount that keeps another namespace alive, and of those under a coming tmpfs. */
static void drop_foreign_mounts(const struct options *o) {
  char *line = NULL, *paths[4096];
  size_t size = 0;
  int n = 0;
  FILE *f = fopen("/proc/self/mountinfo", "re");
  if (!f) fail(125, "open", "/proc/self/mountinfo");
  while (getline(&line, &size, f) > 0 && n < 4096) {
    char path[4096], *type = strstr(line, " - ");
    if (sscanf(line, "%*s %*s %*s %*s %4095s", path) != 1 || !type) continue;
    bool drop = !strncmp(type + 3, "nsfs ", 5);
    for (int i = 0; i < o->ntmpfs; i++) {
      size_t len = strlen(o->tmpfs[i]);
      drop |= !strncmp(path, o->tmpfs[i], len) && path[len] == '/';
    }
    if (drop) paths[n++] = strdup(path);
  }
  fclose(f);
  free(line);
  while (n-- > 0) {
    umount2(paths[n], MNT_DETACH); /* a parent may have taken it along: then there is nothing to do */
    free(paths[n]);
  }
}

/* The node's own TARGET on top of the machine's. A DIR whose file system cannot be an upper layer
 * (itself an overlay, as in a container) gets a tmpfs, seen by the node only. */
static void mount_overlays(const struct options *o) {
  for (int i = 0; i < o->noverlays; i++) {
    const struct overlay *v = &o->overlays[i];
    char upper[2048], work[2048], data[6400];
    if (strlen(v->dir) > 2000 || strlen(v->target) > 2000) fail_text(125, "mount overlay on", v->target, strerror(ENAMETOOLONG));
    snprintf(upper, sizeof upper, "%s/upper", v->dir);
    snprintf(work, sizeof work, "%s/work", v->dir);
    snprintf(data, sizeof data, "lowerdir=%s,upperdir=%s,workdir=%s", v->target, upper, work);
    make_dir(upper, 0755), make_dir(work, 0700);
    if (!mount("overlay", v->target, "overlay", MS_NOSUID | MS_NODEV, data)) continue;
    if (errno != EINVAL) fail(125, "mount overlay on", v->target);
    mount_or_fail("tmpfs", v->dir, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755");
    make_dir(upper, 0755), make_dir(work, 0700);
    mount_or_fail("overlay", v->target, "overlay", MS_NOSUID | MS_NODEV, data);
  }
}

static void set_hostname(const char *name) {
  if (name && sethostname(name, strlen(name))) fail(125, "set hostname", name);
}

/* ---- credentials, exec ------------------------------------------------------------------- */

void become_user(const struct options *o) {
  if (o->set_caps)
    for (int c = 0; c < 64 && prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
      if (!(o->caps >> c & 1) && prctl(PR_CAPBSET_DROP, c, 0, 0, 0)) fail(125, "drop capability from", "bounding set");
  if (o->groups || o->uid >= 0 || o->gid >= 0) {
    gid_t list[32];
    int n = 0;
    for (const char *p = o->groups; p && *p && n < 32; p = strchr(p, ','), p = p ? p + 1 : p) list[n++] = (gid_t)strtoul(p, NULL, 10);
    if (setgroups(n, list)) fail(125, "set", "supplementary groups");
  }
  if (o->gid >= 0 && setresgid((gid_t)o->gid, (gid_t)o->gid, (gid_t)o->gid)) fail(125, "set", "group id");
  if (o->uid >= 0 && setresuid((uid_t)o->uid, (uid_t)o->uid, (uid_t)o->uid)) fail(125, "set", "user id");
  if (o->set_caps) {
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct d[2];
    if (syscall(SYS_capget, &h, d)) fail(125, "read", "capabilities");
    for (int i = 0; i < 2; i++) {
      d[i].permitted &= (uint32_t)(o->caps >> 32 * i);
      d[i].effective &= d[i].permitted;
      d[i].inheritable = 0;
    }
    if (syscall(SYS_capset, &h, d)) fail(125, "set", "capabilities");
  }
  if (o->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail(125, "set", "no_new_privs");
}

void exec_command(const struct options *o) {
  sigset_t none;
  sigemptyset(&none);
  for (int s = 1; s < NSIG; s++) signal(s, SIG_DFL);
  sigprocmask(SIG_SETMASK, &none, NULL);
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* after the change of user, which clears it */
  execvp(o->command[0], o->command);
  if (errno == ENOENT)
    fail_text(127, "exec", o->command[0], strchr(o->command[0], '/') ? strerror(errno) : "executable file not found in $PATH");
  fail(126, "exec", o->command[0]);
}

/* ---- hold and pause ----------------------------------------------------------------------- */

/* Starts again as a program that only waits: a fresh address space keeps it under a megabyte,
 * and ps shows what it is. */
static void rest(const char *name, const char *title) {
  char *argv[] = {(char *)name, (char *)title, NULL}, *envp[] = {NULL};
  int null = open("/dev/null", O_RDWR);
  if (null >= 0) dup2(null, 0), dup2(null, 2);
  report_ready();
  syscall(SYS_execveat, self_fd, "", argv, envp, AT_EMPTY_PATH);
  _exit(125);
}

static volatile sig_atomic_t told_to_end;
static void on_end(int sig) { (void)sig, told_to_end = 1; }
static void on_child(int sig) {
  (void)sig;
  int e = errno;
  while (waitpid(-1, NULL, WNOHANG) > 0) {}
  errno = e;
}

static int wait_for_ever(const char *name) {
  prctl(PR_SET_NAME, name[0] == '/' ? name + 1 : name, 0, 0, 0);
  struct sigaction end = {.sa_handler = on_end}, child = {.sa_handler = on_child, .sa_flags = SA_NOCLDSTOP};
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &all, NULL);
  sigaction(SIGTERM, &end, NULL);
  sigaction(SIGINT, &end, NULL);
  sigaction(SIGCHLD, &child, NULL);
  while (!told_to_end) sigsuspend(&none);
  return 0;
}

/* Prints the pid of the child that is ready, and leaves it to itself. */
static int announce(int fd) {
  int status = 125;
  pid_t pid = report_wait(fd, &status);
  if (pid <= 0) return status;
  char line[48];
  int n = snprintf(line, sizeof line, "{\"pid\":%d}\n", pid);
  return write(1, line, n) == n ? 0 : 125;
}

static int hold(struct options *o) {
  int pair[2], net = o->netfile ? open(o->netfile, O_RDONLY | O_CLOEXEC) : -1;
  if (o->netfile && net < 0) fail(125, "open", o->netfile);
  report_pair(pair);
  setsid();
  if (net >= 0 && setns(net, CLONE_NEWNET)) fail(125, "join", o->netfile);
  if (unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | (net < 0 ? CLONE_NEWNET : 0)))
    fail(125, "unshare", "namespaces of the node");
  pid_t child = fork();
  if (child < 0) fail(125, "fork", "node");
  if (child) {
    close(pair[1]);
    return announce(pair[0]);
  }
  report_fd = pair[1];
  close(pair[0]);
  if (net >= 0) close(net);
  mount_or_fail(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
  clone_sources(o->binds, o->nbinds);
  mount_overlays(o);
  drop_foreign_mounts(o);
  mount_or_fail("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  mount_or_fail("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  for (int i = 0; i < o->ntmpfs; i++) {
    make_dir(o->tmpfs[i], 0755);
    mount_or_fail("tmpfs", o->tmpfs[i], "tmpfs", MS_NOSUID | MS_NODEV, strcmp(o->tmpfs[i], "/tmp") ? "mode=755" : "mode=1777");
  }
  share_netns_names();
  place(o->binds, o->nbinds);
  set_hostname(o->hostname);
  write_sysctls(o);
  if (chdir("/")) fail(125, "enter", "/");
  rest("podway-node", o->title ? o->title : o->hostname);
  return 125;
}

static void loopback_up(void) {
  struct ifreq r = {.ifr_name = "lo"};
  int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (s < 0 || ioctl(s, SIOCGIFFLAGS, &r)) fail(125, "read", "link lo");
  r.ifr_flags |= IFF_UP;
  if (ioctl(s, SIOCSIFFLAGS, &r)) fail(125, "bring up", "link lo");
  close(s);
}

static int pause_sandbox(struct options *o) {
  int pair[2], node = open_pid(o->node);
  report_pair(pair);
  setsid();
  join(node, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID, o->node);
  pid_t child = fork();
  if (child < 0) fail(125, "fork", "sandbox");
  if (child) {
    close(pair[1]);
    int status = announce(pair[0]);
    waitpid(child, NULL, 0); /* the step in between; the sandbox itself is the holder's to reap */
    return status;
  }
  /* In the node now. Once more, for a pid namespace below the node's. */
  report_fd = pair[1];
  close(pair[0]);
  int flags = CLONE_NEWIPC | CLONE_NEWPID | (o->host_net ? 0 : CLONE_NEWNET | CLONE_NEWUTS);
  if (unshare(flags)) fail(125, "unshare", "namespaces of the sandbox");
  child = fork();
  if (child < 0) fail(125, "fork", "sandbox");
  if (child) _exit(0);
  if (!o->host_net) {
    set_hostname(o->hostname);
    loopback_up();
  }
  write_sysctls(o);
  if (o->shm) {
    make_dir(o->shm, 0700);
    mount_or_fail("shm", o->shm, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777,size=64m");
  }
  if (o->netns) {
    make_parents(o->netns);
    int fd = open(o->netns, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (fd < 0) fail(125, "create", o->netns);
    close(fd);
    mount_or_fail("/proc/thread-self/ns/net", o->netns, NULL, MS_BIND, NULL);
  }
  if (chdir("/")) fail(125, "enter", "/");
  rest("/pause", o->title ? o->title : o->hostname);
  return 125;
}

/* ---- exec, unmount ------------------------------------------------------------------------- */

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
      if (WIFEXITED(status)) return WEXITSTATUS(status);
      if (WIFSIGNALED(status)) return 128 + WTERMSIG(status);
      raise(SIGSTOP); /* the child was stopped (Ctrl-Z): so are we, for the shell's job control */
      kill(child, SIGCONT);
    }
  }
}

static int exec_in(struct options *o) {
  int target = open_pid(o->target), flags = o->ns;
  struct stat ours, theirs;
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/ns/user", o->target);
  /* Joining the user namespace one is already in is refused by the kernel. */
  if (!stat("/proc/self/ns/user", &ours) && !stat(path, &theirs) && ours.st_ino == theirs.st_ino) flags &= ~CLONE_NEWUSER;
  join(target, flags, o->target);
  if (o->cwd && chdir(o->cwd)) fail(125, "enter", o->cwd);
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

static int unmount_all(struct options *o) {
  int node = open_pid(o->node);
  join(node, CLONE_NEWNS, o->node);
  for (char **p = o->command; *p; p++) {
    if (umount2(*p, MNT_DETACH) && errno != ENOENT && errno != EINVAL) fail(125, "unmount", *p);
    if (unlink(*p) && errno != ENOENT && (errno != EISDIR || rmdir(*p))) fail(125, "remove", *p);
  }
  return 0;
}

/* ---- options -------------------------------------------------------------------------------- */

static char **next(char ***argv, const char *option, int n) {
  char **values = *argv + 1;
  for (int i = 0; i < n; i++)
    if (!values[i]) fail_text(125, "read option", option, "value missing");
  *argv += n;
  return values;
}

static long number(const char *text, const char *option) {
  char *end;
  long n = strtol(text, &end, 10);
  if (*end || end == text || n < 0) fail_text(125, "read option", option, "not a number");
  return n;
}

static void add_bind(struct bind *list, int *n, char **v, const char *option) {
  if (*n == MAX_LIST) fail_text(125, "read option", option, "too many");
  list[(*n)++] = (struct bind){.src = v[0], .dst = v[1], .ro = !strcmp(v[2], "ro"), .fd = -1};
}

static int ns_of_letter(const char *a) {
  static const struct { const char *s; int flag; } names[] = {
    {"-n", CLONE_NEWNET}, {"-m", CLONE_NEWNS}, {"-p", CLONE_NEWPID}, {"-u", CLONE_NEWUTS}, {"-i", CLONE_NEWIPC},
    {"-C", CLONE_NEWCGROUP}, {"-U", CLONE_NEWUSER}, {"-T", CLONE_NEWTIME},
    {"-a", CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWUSER | CLONE_NEWTIME},
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (!strcmp(a, names[i].s)) return names[i].flag;
  return 0;
}

static void parse(struct options *o, char **argv) {
  for (; *argv; argv++) {
    const char *a = *argv;
    char **v;
    if (!strcmp(a, "--")) {
      o->command = argv + 1;
      return;
    }
#define IS(name, n) (!strcmp(a, name) && (v = next(&argv, a, n)))
#define TEXT(name, field) if (IS(name, 1)) o->field = v[0]
#define NUMBER(name, field) if (IS(name, 1)) o->field = number(v[0], a)
#define FLAG(name, field) if (!strcmp(a, name)) o->field = true
    TEXT("--hostname", hostname); else TEXT("--title", title); else TEXT("--netns-file", netfile);
    else TEXT("--netns", netns); else TEXT("--shm", shm); else TEXT("--root", root); else TEXT("--cwd", cwd);
    else TEXT("--log", log); else TEXT("--exit-file", exitfile); else TEXT("--groups", groups);
    else NUMBER("--node", node); else NUMBER("--target", target); else NUMBER("--sandbox", sandbox);
    else NUMBER("--log-max", log_max); else NUMBER("--log-files", log_files);
    else NUMBER("--user", uid); else NUMBER("--group", gid);
    else FLAG("--privileged", privileged); else FLAG("--host-net", host_net); else FLAG("--share-pid", share_pid);
    else FLAG("--read-only-root", ro_root); else FLAG("--no-new-privs", no_new_privs);
    else if (IS("--caps", 1)) o->caps = strtoull(v[0], NULL, 16), o->set_caps = true;
    else if (IS("--bind", 3)) add_bind(o->binds, &o->nbinds, v, a);
    else if (IS("--node-bind", 3)) add_bind(o->node_binds, &o->nnode_binds, v, a);
    else if (o->noverlays < MAX_LIST && IS("--overlay", 2)) o->overlays[o->noverlays++] = (struct overlay){v[0], v[1]};
    else if (!strcmp(a, "--tmpfs") && o->ntmpfs < MAX_LIST && (v = next(&argv, a, 1))) o->tmpfs[o->ntmpfs++] = v[0];
    else if (!strcmp(a, "--sysctl") && o->nsysctls < MAX_LIST && (v = next(&argv, a, 1))) o->sysctls[o->nsysctls++] = v[0];
    else if (ns_of_letter(a)) o->ns |= ns_of_letter(a);
    else if (a[0] != '-') { o->command = argv; return; }
    else fail_text(125, "read option", a, "unknown");
  }
  o->command = argv;
}

static void need(bool present, const char *mode, const char *what) {
  if (!present) fail_text(125, mode, what, "required");
}

int main(int argc, char **argv) {
  if (argc > 0 && (!strcmp(argv[0], "/pause") || !strcmp(argv[0], "podway-node"))) return wait_for_ever(argv[0]);
  static struct options o = {.uid = -1, .gid = -1, .log_max = 10 << 20, .log_files = 5};
  const char *mode = argc > 1 ? argv[1] : "";
  if (argc > 1) parse(&o, argv + 2);
  self_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
  bool command = o.command && *o.command;
  if (strcmp(mode, "exec")) umask(022); /* what is made here must not depend on who calls */
  if (!strcmp(mode, "hold")) {
    need(o.hostname, mode, "--hostname");
    return hold(&o);
  }
  if (!strcmp(mode, "pause")) {
    need(o.node, mode, "--node"), need(o.hostname, mode, "--hostname");
    return pause_sandbox(&o);
  }
  if (!strcmp(mode, "run")) {
    need(o.node, mode, "--node"), need(o.sandbox, mode, "--sandbox"), need(o.root, mode, "--root"), need(command, mode, "CMD");
    return run_container(&o);
  }
  if (!strcmp(mode, "exec")) {
    need(o.target, mode, "--target"), need(o.ns, mode, "a namespace letter or -a"), need(command, mode, "CMD");
    return exec_in(&o);
  }
  if (!strcmp(mode, "unmount")) {
    need(o.node, mode, "--node"), need(command, mode, "PATH");
    return unmount_all(&o);
  }
  fail_text(125, "run mode", *mode ? mode : "(none)", "expected hold, pause, run, exec or unmount");
}
