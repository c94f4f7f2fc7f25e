/*
 * What every mode of podway-init does: errors and reports between processes, joining namespaces,
 * placing mounts, becoming the user that a command runs as.
 *
 * Sources: namespaces(7), open_tree and move_mount (linux/mount.h), capabilities(7), unix(7).
 */
#include "podway-init.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int report_fd = -1, complaint_fd = 2;

void fail_text(int code, const char *what, const char *object, const char *why) {
  char line[1024];
  int n = snprintf(line, sizeof line, "%cpodway-init: %s %s: %s\n", code, what, object, why);
  if (n >= (int)sizeof line) n = sizeof line - 1;
  if (report_fd >= 0) {
    if (send(report_fd, line, n, MSG_NOSIGNAL) < 0) _exit(code);
  } else if (write(complaint_fd, line + 1, n - 1) < 0) {
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

void report_ready(int fd) {
  char control[CMSG_SPACE(sizeof fd)] = {0};
  struct iovec iov = {"R", 1};
  struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
  if (fd >= 0) {
    msg.msg_control = control, msg.msg_controllen = sizeof control;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
  }
  if (sendmsg(report_fd, &msg, MSG_NOSIGNAL) < 0) _exit(125);
}

/* The sender's pid once it is ready; 0 when the other side closed without a word (it executed its
 * command); -1 and *status when it failed, its line printed. A descriptor that came along is *passed. */
pid_t report_wait(int fd, int *status, int *passed) {
  char text[1024], control[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
  pid_t sender = 0;
  struct iovec iov = {text, sizeof text - 1};
  struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t n;
  while ((n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {}
  if (n <= 0) return 0;
  if (text[0] != 'R') {
    *status = (unsigned char)text[0];
    if (write(complaint_fd, text + 1, n - 1) < 0) *status = 125;
    return -1;
  }
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
    if (c->cmsg_type == SCM_CREDENTIALS) sender = ((struct ucred *)(void *)CMSG_DATA(c))->pid;
    else if (c->cmsg_type == SCM_RIGHTS && passed) memcpy(passed, CMSG_DATA(c), sizeof *passed);
  }
  if (!sender) fail_text(125, "read", "report socket", "no credentials");
  return sender;
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

void make_dir(const char *path, mode_t mode) {
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
