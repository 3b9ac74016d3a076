# shellcheck shell=bash
# Stores to measure on, and `keys`, which say to a node where they are. A Cassandra that has one core to itself to live on
# and syncs as it does by default, and a Redis, unless STARLING_TEST_CQL and STARLING_TEST_REDIS say where others are; what
# is started here ends with the script that sources this, from the top of the project.
if [[ -z ${STARLING_TEST_CQL:-} || -z ${STARLING_TEST_REDIS:-} ]]; then
    servers=$PWD/loadtest/servers
    dir=$(mktemp -d -p "${CARGO_TARGET_DIR:-target}") # on the disk that the build is on, not in memory
    trap '"$servers/cassandra" stop "$dir/cassandra"; "$servers/redis" stop "$dir/redis"; rm -rf "$dir"' EXIT
    STARLING_TEST_CQL=$(CASSANDRA_HEAP=1g taskset --cpu-list 0 "$servers/cassandra" start "$dir/cassandra")
    STARLING_TEST_REDIS=redis://$(taskset --cpu-list 0 "$servers/redis" start "$dir/redis")/
    unset STARLING_TEST_CQL_USER STARLING_TEST_CQL_PASSWORD
    export STARLING_TEST_CQL STARLING_TEST_REDIS
fi

keys=(
    --set "storage.cql.nodes=$STARLING_TEST_CQL" --set storage.cql.keyspace=bench --set storage.cql.replication=1
    --set tokens.backend=redis --set "tokens.redis.url=$STARLING_TEST_REDIS" --set "auth.secret=$(printf '%064d' 0)"
)
[[ -z ${STARLING_TEST_CQL_USER:-} ]] || keys+=(
    --set "storage.cql.username=$STARLING_TEST_CQL_USER" --set "storage.cql.password=$STARLING_TEST_CQL_PASSWORD"
)
