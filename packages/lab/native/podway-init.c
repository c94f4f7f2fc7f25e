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
 *                     [--share-pid | --pid-of PID] [--stdin] [--stdin-once] [--tty] [--attach SOCKET] [--log FILE --log-max BYTES --log-files N] [--exit-file FILE] -- CMD [ARG]...
 *       A container: the sandbox's net, ipc, uts; own mnt, pid (or that of PID), cgroup. See container.c.
 *   podway-init exec  --target PID [-n -m -p -u -i -C -U -T | -a] [--cwd DIR] [--user ...] [--caps HEX] [--no-new-privs] -- CMD [ARG]...
 *       Runs CMD in those namespaces of PID (letters as in nsenter) with the caller's stdio and
 *       environment. Same as: nsenter -t PID -a -- CMD.
 *       With --stream [--tty] for a caller far away: CMD gets pipes or a terminal of its own. See exec.c.
 *   podway-init attach --attach SOCKET [--stdin]
 *       The stdio of a running container, relayed to the caller's. See attach.c.
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
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
    else TEXT("--attach", attach);
    else NUMBER("--node", node); else NUMBER("--target", target); else NUMBER("--sandbox", sandbox);
    else NUMBER("--pid-of", pid_of);
    else NUMBER("--log-max", log_max); else NUMBER("--log-files", log_files);
    else NUMBER("--user", uid); else NUMBER("--group", gid);
    else FLAG("--privileged", privileged); else FLAG("--host-net", host_net); else FLAG("--share-pid", share_pid);
    else FLAG("--read-only-root", ro_root); else FLAG("--no-new-privs", no_new_privs);
    else FLAG("--tty", tty); else FLAG("--stdin", open_stdin); else FLAG("--stdin-once", stdin_once); else FLAG("--stream", stream);
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
  if (o.stream) complaint_fd = 3;
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
  if (!strcmp(mode, "attach")) {
    need(o.attach, mode, "--attach");
    return attach(&o);
  }
  if (!strcmp(mode, "unmount")) {
    need(o.node, mode, "--node"), need(command, mode, "PATH");
    return unmount_all(&o);
  }
  fail_text(125, "run mode", *mode ? mode : "(none)", "expected hold, pause, run, exec, attach or unmount");
}
