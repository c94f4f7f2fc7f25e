# Set-up of Podway, sourced by ./podway when its stamps say that something is missing or out of date.
#
# Five phases, each with a stamp under build/setup that is written only when the phase has ended, so
# an interrupted set-up is taken up where it stopped:
#   packages   Debian packages that are missing (needs root; scripts/packages.txt)
#   modules    npm ci                            (when package-lock.json is not the installed one)
#   build      tsc -b                            (when a source is newer than the last build)
#   native     the C helpers                     (likewise)
#   page       what podway ui serves             (likewise; only for ui and test)
# Nothing is started, and nothing is changed outside of this folder except for the packages.

say() { printf '%s\n' "podway: $*" >&2; }
die() { local code=$1; shift; printf '%s\n' "error: $1" >&2; shift; local l; for l in "$@"; do printf '  %s\n' "$l" >&2; done; exit "$code"; }

now_ms() { local t=${EPOCHREALTIME/[.,]/}; printf '%s' "${t::-3}"; }

# phase TITLE COMMAND...: one line with the time it took; on failure the last words of the log.
phase() {
  local title=$1 start; shift
  start=$(now_ms)
  [ -t 2 ] && printf 'podway: %s ...' "$title" >&2
  if ! "$@" >"$state/log" 2>&1 9>&-; then
    [ -t 2 ] && printf '\n' >&2
    printf 'error: %s failed\n' "$title" >&2
    tail -n 30 "$state/log" | sed 's/^/  /' >&2
    printf '  The whole output is in %s\n' "$state/log" >&2
    exit 1
  fi
  local ms=$(( $(now_ms) - start ))
  [ -t 2 ] && printf '\r\033[K' >&2
  printf 'podway: %s  %d.%d s\n' "$title" $((ms / 1000)) $((ms % 1000 / 100)) >&2
}

# True when what a probe of packages.txt names is there.
present() {
  local kind=${1%%:*} alternatives one path
  IFS='|' read -ra alternatives <<<"${1#*:}"
  for one in "${alternatives[@]}"; do
    case $kind in
      cmd) command -v "$one" >/dev/null 2>&1 && return 0 ;;
      lib) PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null | grep -F "$one" >/dev/null && return 0 # all of it is read: with -q, ldconfig could die of SIGPIPE
           compgen -G "/usr/lib*/$one*" >/dev/null && return 0 ;;
      static) path=$(command -v "$one" 2>/dev/null) && ! LC_ALL=C grep -qaE '/ld-(linux|musl)[^/]*\.so' "$path" && return 0 ;;
      file) case $one in
              /*) [ -e "$one" ] && return 0 ;;
              # A library for static linking: only the compiler knows where.
              *) path=$(cc -print-file-name="$one" 2>/dev/null) && [ -e "$path" ] && return 0 ;;
            esac ;;
    esac
  done
  return 1
}

# missing COLUMN CLASS...: the packages of these classes whose probe finds nothing, each once.
missing() {
  local column=$1; shift
  local class probe names
  while read -r class probe names; do
    case $class in ''|'#'*) continue ;; esac
    case " $* " in *" $class "*) ;; *) continue ;; esac
    present "$probe" && continue
    read -ra names <<<"$names"
    printf '%s\n' "${names[column]}"
  done <"$root/scripts/packages.txt" | sort -u
}

# Packages on a distribution without apt are named, not installed.
name_packages() {
  local like column tool list
  like=$(. /etc/os-release 2>/dev/null && printf ' %s %s ' "${ID:-}" "${ID_LIKE:-}")
  case $like in
    *' fedora '*|*' rhel '*|*' centos '*) column=1 tool='dnf install' ;;
    *' alpine '*) column=2 tool='apk add' ;;
    *' arch '*) column=3 tool='pacman -S' ;;
    *' suse '*|*' opensuse '*|*' sles '*) column=4 tool='zypper install' ;;
    *) column=0 tool='' ;;
  esac
  list=$(missing "$column" "$@" | grep -vx -e - | tr '\n' ' ')
  [ -n "$list" ] || return 0
  if [ -n "$tool" ]; then
    die 1 'packages are missing, and this distribution has no apt' "Install them: $tool $list"
  fi
  die 1 'packages are missing, and this distribution is not known' "By their Debian names: $list"
}

policy=/usr/sbin/policy-rc.d
policy_mark='# Written by podway while it installs packages; removed afterwards.'

# While packages are installed no service may be started. An existing policy of the machine is left alone.
forbid_services() {
  # One of ours that a kill left behind.
  grep -qsF "$policy_mark" "$policy" && rm -f "$policy"
  [ -e "$policy" ] && return 0
  (umask 022; printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" >"$policy.podway" && chmod 755 "$policy.podway" && mv -n "$policy.podway" "$policy")
}
allow_services() { if grep -qsF "$policy_mark" "$policy"; then rm -f "$policy"; fi; }

apt() { DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300 "$@" 8>&-; }

apt_install() {
  if ! compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; then apt update || return 1; fi
  local removed
  # busybox-static takes the place of busybox (same program, same path); anything else must stay.
  removed=$(apt-get -s install --no-install-recommends "$@" | awk '$1 == "Remv" && $2 != "busybox" { printf " %s", $2 }')
  if [ -n "$removed" ]; then
    echo "Installing $* would remove:$removed. Nothing was changed."
    return 1
  fi
  apt install --no-install-recommends "$@" && return 0
  # Lists that are too old name versions that are gone.
  apt update && apt install --no-install-recommends "$@"
}

# setup_packages STAMP CLASS...
setup_packages() {
  local stamp=$1; shift
  if ! command -v apt-get >/dev/null 2>&1; then
    name_packages "$@"
  else
    local list
    mapfile -t list < <(missing 0 "$@")
    if [ ${#list[@]} -gt 0 ]; then
      if [ "$EUID" -ne 0 ]; then
        die 77 "root is needed to install Debian packages: ${list[*]}" "Run it with sudo, or install them: sudo apt-get install --no-install-recommends ${list[*]}"
      fi
      (
        # Of the whole machine, not of this folder: the policy file is the machine's.
        exec 8>/run/lock/podway-packages.lock && flock 8
        trap allow_services EXIT
        trap 'exit 130' INT TERM HUP
        forbid_services
        phase "install Debian packages (${list[*]})" apt_install "${list[@]}"
      )
      mapfile -t list < <(missing 0 "$@")
      [ ${#list[@]} -eq 0 ] || die 1 "still missing after they were installed: ${list[*]}"
    fi
  fi
  touch "$stamp"
}

check_node() {
  local version major
  command -v node >/dev/null 2>&1 || die 1 'Node.js is not installed; Podway needs version 20 or newer' \
    'Debian 13 and later: apt-get install nodejs npm. Otherwise see https://nodejs.org/en/download'
  version=$(node --version)
  major=${version#v}; major=${major%%.*}
  [ "$major" -ge 20 ] || die 1 "Node.js $version is too old; Podway needs version 20 or newer" 'See https://nodejs.org/en/download'
  command -v npm >/dev/null 2>&1 || die 1 'npm is not installed' 'Debian: apt-get install npm'
}

run_npm() { (cd "$root" && npm ci --no-audit --no-fund); }
run_tsc() { (cd "$root" && npm run -s build); }
run_page() { (cd "$root" && node node_modules/vite/bin/vite.js build packages/web/app --config packages/web/app/vite.config.js); }
run_native() {
  local script
  mkdir -p "$root/build/bin"
  for script in "$root"/packages/*/native/build.mjs; do
    [ -e "$script" ] || continue
    node "$script" "$root/build/bin" || return 1
  done
}

# setup PACKAGE_CLASSES...: whatever of the four phases is not up to date, one process at a time.
setup() {
  mkdir -p "$state" 2>/dev/null
  [ -w "$state" ] || die 1 "set-up is needed, but $state cannot be written by this user" \
    'Something changed since the last build. Run it as the owner of that folder.'
  exec 9>"$state/lock"
  if ! flock -n 9; then
    say 'another podway is setting up here; waiting for it'
    flock 9
  fi
  rm -f "$state"/stamp.*
  check_node
  trap 'printf "\npodway: set-up interrupted; the next run takes it up again\n" >&2; exit 130' INT TERM HUP
  local class classes=() started
  for class in "$@"; do [ "$class" = page ] || fresh_packages "$class" || classes+=("$class"); done
  for class in "${classes[@]}"; do setup_packages "$state/packages-$class" "$class"; done
  if ! fresh_modules; then
    phase 'install Node.js modules' run_npm
    cp "$root/package-lock.json" "$state/package-lock.json"
    rm -f "$state/build" "$state/page"
  fi
  # A stamp bears the time when its phase began: what is edited meanwhile counts as newer.
  if ! fresh_build; then
    started=$(mktemp "$state/stamp.XXXXXX")
    phase 'build' run_tsc
    mv "$started" "$state/build"
  fi
  case " $* " in
    *' build '*)
      if ! fresh_native; then
        started=$(mktemp "$state/stamp.XXXXXX")
        phase 'compile the C helpers' run_native
        mv "$started" "$state/native"
      fi ;;
  esac
  case " $* " in
    *' page '*)
      if ! fresh_page; then
        started=$(mktemp "$state/stamp.XXXXXX")
        phase 'build the page' run_page
        mv "$started" "$state/page"
      fi ;;
  esac
  trap - INT TERM HUP
  exec 9>&-
}
