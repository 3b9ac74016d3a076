# shellcheck shell=bash disable=SC2034
# What the scripts here share: processes known by pid and start, free ports, certificates. Sourced, never run.

# What is kept is in `state`. What dies with the servers is in `volatile`, in memory where there is room for it: making
# tables is a row of syncs. Both have one name per clone, so that whatever a killed run left behind is found again.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=$(cd "$here/../.." && pwd)/target/servers
volatile=/dev/shm/starling-servers.$UID.$(cksum <<<"$here" | cut -d' ' -f1)
memory=$(df --output=size --block-size=M /dev/shm 2>/dev/null | tail -n 1 || true)
if ((${memory//[!0-9]/} + 0 < 1024)); then volatile=$state/volatile; fi

fail() {
    echo "$*" >&2
    exit 1
}

# When a process began, in ticks since boot: a pid that was given away again has another one.
began() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # shellcheck disable=SC2086 # the name in brackets, which may hold anything, is cut off first
    set -- ${stat##*) }
    [[ $1 != Z ]] && echo "${20}"
}

# FILE PID: writes down who it is.
note() { echo "$2 $(began "$2")" >"$1"; }

# FILE: whether the process noted there still runs.
runs() {
    local pid start
    read -r pid start 2>/dev/null <"$1" || return 1
    [[ $(began "$pid") == "$start" ]]
}

# FILE SIGNAL [SECONDS]: sends a signal to the process noted there, if it is still that one, and waits until it is gone.
# After that many seconds, ten otherwise, it is killed.
end() {
    local pid tenths=0 most=${3:-10}
    if runs "$1"; then
        read -r pid _ <"$1"
        kill "-$2" "$pid" 2>/dev/null || true
        while runs "$1"; do
            ((++tenths == 10 * most)) && kill -KILL "$pid" 2>/dev/null
            sleep 0.1
        done
    fi
    rm -f "$1"
}

# LOG COMMAND…: becomes a process of its own that keeps nothing open: not make's job slots, not a lock, not a pipe that
# somebody reads to its end.
become() {
    local log=$1 fd
    shift
    for fd in /proc/self/fd/*; do
        fd=${fd##*/}
        ((fd > 2)) && eval "exec $fd>&-"
    done
    exec setsid "$@" </dev/null >"$log" 2>&1
}

# A port of 127.0.0.1 on which nobody listens, below those that the system hands out to whoever connects.
free_port() {
    local port
    for _ in {1..100}; do
        port=$((30000 + RANDOM % 2700))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    fail "no port between 30000 and 32700 is free"
}

# DIR: an authority (ca.pem) and a certificate for 127.0.0.1 and localhost (server.pem, server.key, server.p12).
certificates() {
    [[ -e $1/server.p12 ]] && return
    mkdir -p "$1"
    (
        cd "$1"
        printf '[req]\ndistinguished_name = name\n[name]\n[ca]\nbasicConstraints = critical, CA:TRUE\n' >openssl.cnf
        printf '[server]\nsubjectAltName = IP:127.0.0.1, DNS:localhost\nbasicConstraints = CA:FALSE\n' >>openssl.cnf
        exec 2>openssl.log
        openssl req -new -x509 -config openssl.cnf -extensions ca -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
            -keyout ca.key -out ca.pem -days 3650 -subj "/CN=authority of test servers"
        openssl req -new -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
            -keyout server.key -out server.csr -subj "/CN=localhost"
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 \
            -extfile openssl.cnf -extensions server -out server.pem
        openssl pkcs12 -export -in server.pem -inkey server.key -name server -passout pass:starling -out server.p12
    ) || fail "cannot make certificates; see $1/openssl.log"
}

# The settings of a node on the servers of `env`, as its environment; a keyspace and a secret are its caller's affair.
on_servers() {
    export STARLING_STORAGE__BACKEND=cql STARLING_STORAGE__CQL__NODES=$STARLING_TEST_CQL STARLING_STORAGE__CQL__REPLICATION=1
    export STARLING_STORAGE__CQL__USERNAME=$STARLING_TEST_CQL_USER STARLING_STORAGE__CQL__PASSWORD=$STARLING_TEST_CQL_PASSWORD
    export STARLING_TOKENS__BACKEND=redis STARLING_TOKENS__REDIS__URL=$STARLING_TEST_REDIS
}
