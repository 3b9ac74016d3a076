//! The composition root: everything a node is made of, in the order it is opened, run and closed.

use std::{
    io::IsTerminal,
    os::unix::process::CommandExt,
    sync::Arc,
    time::{Duration, Instant},
};

use actors::{
    Random, Settings, Starling, World,
    cluster::{
        driver::{End, Parts},
        transport::Transport,
    },
    settings,
};
use tokio::sync::watch;

use crate::{
    admin::{self, Admin},
    app::{App, Stage},
    config::{self, Config, Sources},
    descriptors,
    http::edge::Edge,
    life, logs, metrics,
    net::{self, Door, admission::Admission, tls::Tls},
    peers::{self, Peers},
    report::{Failure, complain, say},
    routes,
    shutdown::{self, Shutdown},
    stores,
    world::{DataDir, SecureRandom, SteadyClock},
};

/// Connections of operators and scrapers.
const ADMIN_CONNECTIONS: usize = 256;
/// After the drain: for answers under way and close frames.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs a node until it is asked to end.
pub(crate) fn run(config: Config, sources: Sources) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("cannot start threads: {error}")))?;
    let ended = runtime.block_on(node(config, sources));
    // Work that blocks (a hash, a commit) has had its time by now.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended? {
        Ended::Done => Ok(()),
        Ended::Again => Err(Failure::Failed(again())),
    }
}

/// How a run of the process ended.
enum Ended {
    Done,
    /// It was taken out of the cluster. The same process begins again from nothing: no actor, no queue, no port of the run
    /// before is left.
    Again,
}

/// Becomes the same program anew; comes back only with the reason why it cannot.
fn again() -> String {
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    format!("cannot begin again: {}; start it", command.args(arguments).exec())
}

async fn node(config: Config, sources: Sources) -> Result<Ended, Failure> {
    let failed = Failure::Failed;
    let started = Instant::now();

    // What can be refused is refused before anything is answered.
    let data = DataDir::open(&config.node_data_dir).map_err(failed)?;
    let client = net::bind("listen.client", config.listen_client).await.map_err(failed)?;
    let operators = net::bind("listen.admin", config.listen_admin).await.map_err(failed)?;
    let nodes = net::bind("listen.peer", config.listen_peer).await.map_err(failed)?;
    let tls = match (&config.listen_tls_cert, &config.listen_tls_key_file) {
        (Some(cert), Some(key)) => Some(Tls::load(cert, key).map_err(failed)?),
        _ => None,
    };
    let [client_at, admin_at, peer_at] = [&client, &operators, &nodes].map(|l| l.local_addr().map(|a| a.to_string()));
    let settings = settings(&config, &data).map_err(failed)?;
    let node = settings.node.clone();
    let peers = Peers::open(&config, &node).map_err(failed)?;
    let greeting = peers::greeting(&config, &settings).map_err(failed)?;
    let me = peers::me(&config, &greeting, peer_at.as_deref().unwrap_or_default());

    let level = logs::start(&config.log_format, &config.log_level);
    let recorder = metrics::start(&node);
    tracing::info!(node, version = env!("CARGO_PKG_VERSION"), "starting");

    let clock = Arc::new(SteadyClock::start(&data.clock_mark()));
    let shutdown = Shutdown::new();
    shutdown::listen(shutdown.clone(), reload(sources, level, tls.clone(), peers.clone()))
        .map_err(|error| Failure::Failed(format!("cannot take signals: {error}")))?;
    let closing = watch::Sender::new(false);
    let edge = Edge::new(clock.clone(), Arc::new(SecureRandom), &config);
    let routes = watch::Sender::new(routes::waiting(edge.clone()));
    let stage = watch::Sender::new(Stage::Waiting("starting".to_owned()));
    let admin = Admin {
        stage: stage.subscribe(),
        clock: clock.clone(),
        token: config.admin_token.clone(),
        node: node.clone(),
        metrics: recorder.clone(),
        shutdown: shutdown.clone(),
        started,
    };
    let admission = Admission::new(
        connections_max(&config),
        config.limits_address_connections,
        config.limits_handshakes_per_s,
        config.listen_trusted_proxies.clone(),
    );
    let scheme = if tls.is_some() { "https" } else { "http" };
    let clients = Door { listener: client, router: routes.subscribe(), admission: admission.clone(), tls: tls.clone() };
    let admins = Door {
        listener: operators,
        router: watch::Sender::new(admin::router(admin)).subscribe(),
        admission: Admission::new(ADMIN_CONNECTIONS, 0, 0, Vec::new()),
        tls: None,
    };
    // Before the stores: whoever comes meanwhile gets an answer, and a signal ends the waiting.
    tokio::spawn(clients.serve(closing.subscribe()));
    tokio::spawn(admins.serve(closing.subscribe()));
    let (links, events) = Transport::start(greeting, peers.clone(), Arc::new(SecureRandom))
        .await
        .map_err(|error| Failure::Failed(error.to_string()))?;
    tokio::spawn(peers.clone().accept(nodes, links.clone(), closing.subscribe()));
    let watching = peers.clone();
    tokio::spawn(async move { watching.watch().await });
    tokio::spawn(metrics::upkeep(recorder));
    tokio::spawn(keep_time(clock.clone()));
    if let Some(tls) = &tls {
        tokio::spawn(tls.clone().watch());
    }

    let begin = async |store| {
        let world = World { clock: clock.clone(), random: Arc::new(SecureRandom), store };
        Ok(App::new(Starling::start(world.clone(), settings.clone()).await?, world, &config))
    };
    let places = stores::settings(&config);
    let (mut moves, mut left) = (None, None);
    let app = tokio::select! {
        biased;
        () = shutdown.asked() => None,
        app = stores::wait(&places, begin, &stage) => Some(app.map_err(failed)?),
    };
    if let Some(app) = app {
        app.starling.join(Parts { me, link: links, events, dialer: peers, clock: clock.clone() });
        let open = || {
            drop(routes.send_replace(routes::router(app.clone(), edge)));
            stage.send_replace(Stage::Serving(app.clone()));
            let [client_at, admin_at, peer_at] = [client_at, admin_at, peer_at].map(|at| at.unwrap_or_default());
            say(&format!("ready client={scheme}://{client_at} admin=http://{admin_at} peer={peer_at}"));
            tracing::info!(node, start_ms = started.elapsed().as_micros() as f64 / 1e3, "ready");
            if std::io::stderr().is_terminal() {
                welcome(&format!("{scheme}://{client_at}"));
            }
        };
        moves = life::serve(&app, &config, &shutdown, &stage, open).await;
        left = Some(app);
    }
    closing.send_replace(true);
    let closed = Instant::now();
    while admission.open() > 0 && closed.elapsed() < CLOSING_TIMEOUT {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // what was still being answered may have needed the others
    if let Some(app) = left {
        app.starling.leave().await;
    }
    if let Err(error) = clock.save() {
        tracing::warn!(%error, "cannot write the clock's mark");
    }
    match moves {
        Some(End::Replaced) => Err(Failure::Failed(format!(
            "another process runs as node {node} and has taken its place in the cluster; give each node a node.id of its own"
        ))),
        Some(End::Removed | End::Left) => Ok(Ended::Again),
        None => {
            tracing::info!("ended");
            Ok(Ended::Done)
        }
    }
}

/// What `actors` depends on, from the configuration and the data directory.
fn settings(config: &Config, data: &DataDir) -> Result<Settings, String> {
    let node = match config.node_id.as_str() {
        "auto" => data.node_id()?,
        name => name.to_owned(),
    };
    let secret = match &config.auth_secret {
        Some(secret) => secret.clone(),
        None => data.auth_secret()?,
    };
    let secret =
        config::parse_key(&secret).ok_or("auth.secret in node.data_dir is not 64 hexadecimal digits; restore it")?;
    let mut incarnation = [0; 16];
    SecureRandom.fill(&mut incarnation);
    Ok(Settings {
        node,
        incarnation: protocol::Incarnation(incarnation),
        auth: settings::Auth {
            issuer: config.auth_issuer.clone(),
            access_ttl: Duration::from_secs(config.auth_access_ttl_s),
            refresh_ttl: Duration::from_secs(config.auth_refresh_ttl_s),
            secret: settings::Secret(secret),
            sessions_per_user_max: config.auth_sessions_per_user_max,
            single_session: config.auth_single_session,
            password_memory_kib: config.auth_password_memory_kib,
            password_passes: config.auth_password_passes,
        },
        limits: settings::Limits {
            frame_bytes: config.limits_frame_bytes,
            text_chars: config.limits_text_chars,
            inflight: config.limits_inflight,
            queue_soft_bytes: config.limits_queue_soft_bytes,
            queue_hard_bytes: config.limits_queue_hard_bytes,
            ping_ms: config.limits_ping_ms,
            send_per_s: config.limits_send_per_s,
            send_burst: config.limits_send_burst,
            rest_per_min: config.limits_rest_per_min,
            login_per_min: config.limits_login_per_min,
            register_per_min: config.limits_register_per_min,
            members: config.limits_members,
        },
    })
}

/// The configured number, or fewer if the process may not open as many descriptors.
fn connections_max(config: &Config) -> usize {
    descriptors::raise();
    let wanted = config.limits_connections;
    let Some(max) = descriptors::max() else { return wanted };
    let room = max.saturating_sub(descriptors::RESERVED).max(1);
    if room < wanted {
        tracing::info!(
            descriptors = max,
            room,
            "fewer connections than limits.connections: raise `ulimit -n` for more"
        );
    }
    wanted.min(room)
}

/// Writes the clock's mark and shows how far it is ahead of the machine's.
async fn keep_time(clock: Arc<SteadyClock>) {
    let mut every = tokio::time::interval(crate::world::MARK_INTERVAL);
    let mut failing = false;
    loop {
        every.tick().await;
        ::metrics::gauge!("starling_clock_ahead_seconds").set(clock.ahead().as_secs_f64());
        let clock = clock.clone();
        let Ok(saved) = tokio::task::spawn_blocking(move || clock.save()).await else { return };
        // A full disk stays full for a while: one line is enough.
        if let (Err(error), false) = (&saved, failing) {
            tracing::warn!(%error, "cannot write the clock's mark; a clock set back before the next start would show");
        }
        failing = saved.is_err();
    }
}

/// What SIGHUP does: certificates and the log level, from the same sources as at start.
fn reload(sources: Sources, level: logs::Level, tls: Option<Tls>, peers: Arc<Peers>) -> impl Fn() + Send + 'static {
    move || {
        if let Some(tls) = &tls {
            tls.reload();
        }
        peers.reload();
        match config::load(&sources, config::environment()) {
            Ok(loaded) => {
                level.set(&loaded.config.log_level);
                tracing::info!(level = loaded.config.log_level, "log level read again");
            }
            Err(mistakes) => {
                for mistake in mistakes {
                    tracing::error!(%mistake, "the configuration has a mistake; the log level stays");
                }
            }
        }
    }
}

/// For a person at a terminal: how to talk to the node.
fn welcome(client: &str) {
    complain("try it:");
    complain(&format!(
        "  curl -s {client}/v1/auth/register -H 'content-type: application/json' \
         -d '{{\"username\":\"ada\",\"password\":\"correct horse battery\"}}'"
    ));
    complain(&format!("  then open {}/v1/ws and say hello; README.md shows how", client.replacen("http", "ws", 1)));
}
