/**
 * Texts of the files in built-in images.
 *
 * The sample application is busybox httpd and one CGI script. httpd runs /cgi-bin/index.cgi for a
 * directory without index.html (`/` and `/json/`; `/json` is redirected there), and REMOTE_ADDR is
 * the address the socket saw: what a pod answers about its client is what arrived, after any NAT.
 */

const start = `#!/bin/sh
# PID 1 of the container: ends at once on TERM, which httpd as PID 1 would not.
httpd -f -v -p "\${PORT:-80}" -h /www &
trap 'kill $!; exit 0' TERM INT
wait $!
`;

const cgi = `#!/bin/sh
pod=\${POD_NAME:-$(hostname)}
ns=\${POD_NAMESPACE:-default}
ip=\${POD_IP:-$(hostname -i)}
node=\${NODE_NAME:-unknown}
client=\${REMOTE_ADDR#[}; client=\${client%]}; client=\${client#::ffff:}
path=$(printf %s "$REQUEST_URI" | tr -cd 'A-Za-z0-9/._~?=&%:+-')
echo "$client:$REMOTE_PORT $REQUEST_METHOD $path" >&2
case "$path,$HTTP_ACCEPT" in
/json*|*,application/json*)
  printf 'Content-Type: application/json\\r\\n\\r\\n'
  printf '{"pod":"%s","namespace":"%s","podIP":"%s","node":"%s","hostIP":"%s","client":{"address":"%s","port":%s},"path":"%s"}\\n' \\
    "$pod" "$ns" "$ip" "$node" "$HOST_IP" "$client" "\${REMOTE_PORT:-0}" "$path" ;;
*)
  printf 'Content-Type: text/plain\\r\\n\\r\\n'
  printf 'pod     %s\\nns      %s\\nip      %s\\nnode    %s\\nclient  %s\\n' "$pod" "$ns" "$ip" "$node" "$client" ;;
esac
`;

export function webFiles(): Readonly<Record<string, { text: string; mode: number }>> {
  return {
    'bin/podway-web': { text: start, mode: 0o755 },
    'www/cgi-bin/index.cgi': { text: cgi, mode: 0o755 },
    'www/json/.keep': { text: '', mode: 0o644 },
  };
}

/**
 * wget for a busybox whose own -T crashes: the option becomes timeout(1), the message and exit
 * status stay those of busybox. The time counts for the whole transfer, not per read.
 */
export const wgetWithTimeout = `#!/bin/sh
t=
n=$#
while [ $n -gt 0 ]; do
  a=$1; shift; n=$((n - 1))
  case $a in
  -T|--timeout) t=$1; shift; n=$((n - 1)) ;;
  -T*) t=\${a#-T} ;;
  --timeout=*) t=\${a#--timeout=} ;;
  -[cqS]*T) t=$1; shift; n=$((n - 1)); set -- "$@" "\${a%T}" ;;
  -[cqS]*T[0-9]*) t=\${a##*T}; set -- "$@" "\${a%%T*}" ;;
  *) set -- "$@" "$a" ;;
  esac
done
[ -n "$t" ] || exec busybox wget "$@"
busybox timeout "$t" busybox wget "$@"
s=$?
[ $s = 143 ] || exit $s
echo 'wget: download timed out' >&2
exit 1
`;

/** As the official image's default.conf: port 80, access log on stdout. */
export const nginxConfiguration = `user www-data;
worker_processes 1;
pid /run/nginx.pid;
events { worker_connections 768; }
http {
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  access_log /dev/stdout;
  server {
    listen 80;
    listen [::]:80;
    location / { root /usr/share/nginx/html; index index.html; }
  }
}
`;
