/*
 * podway-cni: the executable a container runtime calls. It knows nothing about networks:
 * it hands the CNI_* environment and stdin to the node agent over a unix socket and prints
 * the answer. Static C, because a runtime starts it several times per pod: about 1 ms,
 * where a Node.js process costs about 100 ms.
 *
 * Guarantees: nothing but one JSON document (or nothing) on stdout; exit code 0 or 1; an end
 * within PODWAY_CNI_TIMEOUT_MS (45 s if unset) whatever the agent does; a partial answer is
 * never printed. Agent away, silent or killed in mid-answer: CNI error 11 (try again later),
 * for DEL too, so that the runtime keeps the sandbox and asks again. VERSION needs no agent.
 *
 * Wire format, both ways over one stream (the other side is packages/cni/src/frame.ts):
 *   request  "PCN1" | u32be length of env | u32be length of stdin | env, each "K=V\0" | stdin
 *   answer   "PCN1" | u32be exit code     | u32be length of stdout | stdout
 * The write side stays open while waiting, so an end of stream tells the agent we are gone.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LIMIT (1u << 20) /* of stdin, and of the answer */
#define MAGIC "PCN1"
#define SUPPORTED "\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""

/* Untouched pages of .bss cost nothing, so there is no allocation that could fail. */
static char config[LIMIT + 2], answer[LIMIT + 1], env_block[65536], sock_path[256];
static size_t config_len;
static long long deadline;
extern char **environ;

static long long now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void put(const char *p, size_t n) {
  while (n > 0) {
    ssize_t w = write(STDOUT_FILENO, p, n);
    if (w < 0 && errno == EINTR) continue;
    if (w <= 0) _exit(1);
    p += w, n -= (size_t)w;
  }
}

/* The top-level "cniVersion" of the request (not the one inside prevResult), else 1.1.0. */
static const char *request_version(void) {
  static char version[16] = "1.1.0";
  int depth = 0;
  for (size_t i = 0; i < config_len; i++) {
    char c = config[i];
    if (c == '{' || c == '[') depth++;
    if (c == '}' || c == ']') depth--;
    if (c != '"') continue;
    size_t start = ++i;
    while (i < config_len && config[i] != '"') i += config[i] == '\\' ? 2 : 1;
    if (i >= config_len) break;
    if (depth != 1 || i - start != 10 || memcmp(config + start, "cniVersion", 10) != 0) continue;
    const char *p = config + i + 1;
    p += strspn(p, " \t\r\n");
    if (*p++ != ':') continue;
    p += strspn(p, " \t\r\n");
    size_t n = *p == '"' ? strspn(p + 1, "0123456789.") : 0;
    if (n > 0 && n < sizeof version && p[1 + n] == '"') memcpy(version, p + 1, n), version[n] = 0;
    break;
  }
  return version;
}

/* Print a CNI error result (SPEC section 5) and end. Details are escaped for JSON. */
__attribute__((noreturn, format(printf, 3, 4))) static void fail(int code, const char *msg, const char *fmt, ...) {
  char said[512], safe[sizeof said * 6], out[sizeof safe + 256];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(said, sizeof said, fmt, ap);
  va_end(ap);
  size_t n = 0;
  for (const unsigned char *p = (unsigned char *)said; *p; p++)
    n += (size_t)snprintf(safe + n, sizeof safe - n, *p < 0x20 || *p == '"' || *p == '\\' || *p > 0x7e ? "\\u%04x" : "%c", *p);
  safe[n] = 0;
  int len = snprintf(out, sizeof out, "{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s\",\"details\":\"%s\"}\n",
                     request_version(), code, msg, safe);
  put(out, (size_t)len);
  _exit(1);
}

#define AGAIN "the Podway agent did not answer, try again later"

/* Wait until fd is ready; past the deadline this is the end. */
static void ready(int fd, short events, const char *doing) {
  for (;;) {
    long long left = deadline - now_ms();
    struct pollfd p = {.fd = fd, .events = events};
    int r = left > 0 ? poll(&p, 1, (int)left) : 0;
    if (r > 0) return;
    if (r == 0) fail(11, AGAIN, "timed out %s (agent socket %s)", doing, sock_path);
    if (errno != EINTR) fail(5, "I/O failure", "poll: %s", strerror(errno));
  }
}

static void read_config(void) {
  for (;;) {
    ready(STDIN_FILENO, POLLIN, "reading the configuration from stdin");
    ssize_t n = read(STDIN_FILENO, config + config_len, LIMIT + 1 - config_len);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(5, "I/O failure", "reading the configuration from stdin: %s", strerror(errno));
    if (n == 0) return;
    config_len += (size_t)n;
    if (config_len > LIMIT) fail(7, "invalid network configuration", "the configuration on stdin is larger than %u bytes", LIMIT);
  }
}

static int connect_agent(void) {
  struct sockaddr_un addr = {.sun_family = AF_UNIX};
  if (strlen(sock_path) >= sizeof addr.sun_path)
    fail(4, "invalid environment variable", "PODWAY_AGENT_SOCKET is longer than %zu bytes", sizeof addr.sun_path - 1);
  strcpy(addr.sun_path, sock_path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail(5, "I/O failure", "socket: %s", strerror(errno));
  long long left = deadline - now_ms(); /* a full backlog makes connect wait: bound it */
  if (left < 1) left = 1;
  struct timeval tv = {.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
  while (connect(fd, (struct sockaddr *)&addr, sizeof addr) != 0)
    if (errno != EINTR) fail(11, AGAIN, "cannot reach the agent at %s: %s", sock_path, strerror(errno));
  return fd;
}

/* An agent that refuses early may close its reading side: its answer is still to be read. */
static void send_all(int fd, const char *p, size_t n) {
  while (n > 0) {
    ready(fd, POLLOUT, "sending the request to the agent");
    ssize_t w = send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (w < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (w < 0) return;
    p += w, n -= (size_t)w;
  }
}

static void recv_all(int fd, char *p, size_t n) {
  while (n > 0) {
    ready(fd, POLLIN, "waiting for the agent's answer");
    ssize_t r = recv(fd, p, n, MSG_DONTWAIT);
    if (r < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (r <= 0) fail(11, AGAIN, "the agent at %s went away before its answer was complete", sock_path);
    p += r, n -= (size_t)r;
  }
}

int main(void) {
  const char *ms = getenv("PODWAY_CNI_TIMEOUT_MS"), *path = getenv("PODWAY_AGENT_SOCKET"), *command = getenv("CNI_COMMAND");
  long long bound = ms ? atoll(ms) : 0;
  deadline = now_ms() + (bound > 0 && bound < 86400000 ? bound : 45000);
  snprintf(sock_path, sizeof sock_path, "%s", path && *path ? path : "/run/podway/agent.sock");
  signal(SIGPIPE, SIG_IGN);

  if (!command || !*command) fail(4, "invalid environment variable", "CNI_COMMAND is not set");
  if (strcmp(command, "VERSION") != 0 || !isatty(STDIN_FILENO)) read_config();
  if (strcmp(command, "VERSION") == 0) {
    char out[160];
    put(out, (size_t)snprintf(out, sizeof out, "{\"cniVersion\":\"%s\",\"supportedVersions\":[" SUPPORTED "]}\n", request_version()));
    return 0;
  }

  size_t env_len = 0;
  for (char **e = environ; *e; e++) {
    size_t n = strlen(*e) + 1;
    if (strncmp(*e, "CNI_", 4) != 0) continue;
    if (env_len + n > sizeof env_block) fail(4, "invalid environment variable", "the CNI_* variables are larger than %zu bytes together", sizeof env_block);
    memcpy(env_block + env_len, *e, n), env_len += n;
  }

  int fd = connect_agent();
  uint32_t lengths[2] = {htonl((uint32_t)env_len), htonl((uint32_t)config_len)};
  char head[12];
  memcpy(head, MAGIC, 4), memcpy(head + 4, lengths, 8);
  send_all(fd, head, sizeof head);
  send_all(fd, env_block, env_len);
  send_all(fd, config, config_len);

  recv_all(fd, head, sizeof head);
  memcpy(lengths, head + 4, 8);
  uint32_t code = ntohl(lengths[0]), len = ntohl(lengths[1]);
  if (memcmp(head, MAGIC, 4) != 0 || code > 1 || len > LIMIT)
    fail(5, "I/O failure", "what listens at %s does not speak the Podway CNI protocol", sock_path);
  recv_all(fd, answer, len);
  put(answer, len);
  return (int)code;
}
