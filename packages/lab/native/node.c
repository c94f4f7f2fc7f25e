/*
 * podway-init hold, pause and unmount: the two processes that keep namespaces alive, a lab node and
 * a pod sandbox, and what they leave in the node's mounts.
 *
 * Sources: pid_namespaces(7), mount_namespaces(7), netdevice(7), kernel's overlayfs.rst.
 */
#include "podway-init.h"
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int self_fd = -1; /* this program, for executing it again where its path is hidden */

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

/* ---- hold and pause ----------------------------------------------------------------------- */

/* Starts again as a program that only waits: a fresh address space keeps it under a megabyte,
 * and ps shows what it is. */
static void rest(const char *name, const char *title) {
  char *argv[] = {(char *)name, (char *)title, NULL}, *envp[] = {NULL};
  int null = open("/dev/null", O_RDWR);
  if (null >= 0) dup2(null, 0), dup2(null, 2);
  report_ready(-1);
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

int wait_for_ever(const char *name) {
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
  pid_t pid = report_wait(fd, &status, NULL);
  if (pid <= 0) return status;
  char line[48];
  int n = snprintf(line, sizeof line, "{\"pid\":%d}\n", pid);
  return write(1, line, n) == n ? 0 : 125;
}

int hold(struct options *o) {
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

int pause_sandbox(struct options *o) {
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

int unmount_all(struct options *o) {
  int node = open_pid(o->node);
  join(node, CLONE_NEWNS, o->node);
  for (char **p = o->command; *p; p++) {
    if (umount2(*p, MNT_DETACH) && errno != ENOENT && errno != EINVAL) fail(125, "unmount", *p);
    if (unlink(*p) && errno != ENOENT && (errno != EISDIR || rmdir(*p))) fail(125, "remove", *p);
  }
  return 0;
}
