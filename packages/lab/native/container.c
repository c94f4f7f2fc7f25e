/*
 * podway-init run: one container, and the monitor that outlives the lab process.
 *
 *   monitor (caller's namespaces): see monitor.c. It needs nobody: when its starter dies the container
 *     goes on and its log too. When the monitor is killed, so is the container (PR_SET_PDEATHSIG); when
 *     the node's holder is, both end.
 *   container: PID 1 of its own pid namespace, which lies below the node's, so that `ps` on the
 *     node shows it. Made by an intermediate that joins namespaces and is gone then; CLONE_PARENT
 *     makes it the monitor's child all the same.
 *
 * Root: overlayfs, the image directory below, a tmpfs above: a restarted container starts afresh.
 * /proc and /sys as in other runtimes: what writes to the machine's kernel is read-only or masked,
 * unless privileged.
 *
 * Stdin: /dev/null, or with --stdin a pipe that attach writes to, or with --tty a terminal of the
 * container's own devpts, which is also its /dev/console; the monitor has its master.
 */
#include "podway-init.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
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

/* The terminal under the name that programs know; in a root that may be read-only by now. */
static void console(int slave) {
  char name[32] = "/dev/pts/?";
  int fd = open("/dev/console", O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0620);
  if (fd < 0 || ttyname_r(slave, name, sizeof name)) fail(125, "create", "/dev/console");
  close(fd);
  mount_or_fail(name, "/dev/console", NULL, MS_BIND, NULL);
}

static void container(struct options *o, int image, int in, int out, int err) {
  int null = open("/dev/null", O_RDONLY | O_CLOEXEC), master = -1, slave = -1;
  setsid();
  build_root(o, image);
  if (o->tty) {
    open_terminal(&master, &slave, o->uid);
    console(slave);
    take_terminal(slave);
  } else if (dup2(in < 0 ? null : in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) {
    fail(125, "redirect", "standard streams");
  }
  /* An image may be bound over the monitor's program file; close what it could be reached by. */
  for (int fd = 3; fd < 1024; fd++)
    if (fd != report_fd && fd != master) close(fd);
  umask(022);
  report_ready(master);
  if (master >= 0) close(master);
  become_user(o);
  exec_command(o);
}

/* ---- start ------------------------------------------------------------------------------------- */

static void make_pipe(int fds[2], int ours) {
  if (pipe2(fds, O_CLOEXEC)) fail(125, "create", "pipe");
  no_wait(fds[ours]);
}

int run_container(struct options *o) {
  int pair[2], in[2] = {-1, -1}, out[2], err[2], status = 125, master = -1;
  struct bind image = {.src = o->root};
  int node = open_pid(o->node), sandbox = open_pid(o->sandbox), pid_of = o->pid_of ? open_pid(o->pid_of) : -1;
  setsid();
  monitor_log(o);
  struct monitored m = {.listener = listen_for_attach(o->attach), .in = -1, .terminal = -1};
  report_pair(pair);
  make_pipe(out, 0), make_pipe(err, 0);
  if (o->open_stdin && !o->tty) make_pipe(in, 1);
  m.sigfd = block_signals();

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
    if (o->pid_of) join(pid_of, CLONE_NEWPID, o->pid_of);
    else if (o->share_pid) join(sandbox, CLONE_NEWPID, o->sandbox);
    pid_t child = fork_beside(CLONE_NEWNS | CLONE_NEWCGROUP | (o->share_pid || o->pid_of ? 0 : CLONE_NEWPID));
    if (child < 0) fail(125, "clone", "container");
    if (child) _exit(0);
    container(o, image.fd, in[0], out[1], err[1]);
  }
  close(pair[1]), close(out[1]), close(err[1]);
  if (in[0] >= 0) close(in[0]);
  m.child = report_wait(pair[0], &status, &master);
  if (m.child > 0 && report_wait(pair[0], &status, NULL) < 0) m.child = -1;
  if (m.child <= 0) {
    while (waitpid(-1, NULL, 0) > 0) {}
    if (o->attach) unlink(o->attach);
    return status;
  }
  waitpid(helper, NULL, 0);
  char line[48];
  int n = snprintf(line, sizeof line, "{\"pid\":%d}\n", m.child);
  if (write(1, line, (size_t)n) != n) status = 0; /* nobody listens: go on all the same */
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null >= 0) dup2(null, 0), dup2(null, 2);
  close(pair[0]), close(node), close(sandbox);
  m.out = out[0], m.err = err[0], m.in = in[1];
  if (o->tty) {
    close(out[0]), close(err[0]);
    no_wait(master);
    m.out = m.terminal = master, m.err = -1;
    m.in = o->open_stdin ? master : -1;
  }
  return monitor(o, &m);
}
