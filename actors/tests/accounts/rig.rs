//! One place that knows how accounts are started and spoken to.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actors::{
    Accounts, Caller, Clock, Random, Settings, World,
    accounts::OnEnd,
    settings::{Auth, Limits, Secret},
};
use protocol::{Code, Error, Incarnation, Millis, SessionId, close::CloseCode, peer::EndedSession, rest};
use storage::{History, Store, TokenStore, redis};
use tokio::time::Instant;

use crate::faults::{Faults, faulty};

pub(crate) const PASSWORD: &str = "violet nimbus 1906";
pub(crate) const SECOND_MS: u64 = 1_000;
pub(crate) const HOUR_MS: u64 = 3_600_000;

/// Time that moves when told.
pub(crate) struct HandClock {
    wall: AtomicU64,
    start: Instant,
    passed_ms: AtomicU64,
}

impl Clock for HandClock {
    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.passed_ms.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Millis {
        Millis(self.wall.load(Ordering::SeqCst))
    }
}

/// SplitMix64: the same in every run.
struct Seeded(Mutex<u64>);

impl Random for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Sessions whose sockets were to be closed. Nobody else is told: what others learn comes from the token store.
#[derive(Default)]
struct Ended(Mutex<Vec<(SessionId, CloseCode)>>);

impl OnEnd for Ended {
    fn close(&self, session: SessionId, code: CloseCode) {
        self.0.lock().unwrap().push((session, code));
    }

    fn tell_others(&self, _: EndedSession) {}
}

/// Accounts and everything around them.
pub(crate) struct Rig {
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) store: Store,
    pub(crate) faults: Arc<Faults>,
    pub(crate) settings: Settings,
    clock: Arc<HandClock>,
    random: Arc<Seeded>,
    ended: Arc<Ended>,
    dir: Option<tempfile::TempDir>,
}

/// One rig per token store.
pub(crate) async fn rigs(settings: Settings) -> [Rig; 3] {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = Store::open_sqlite(dir.path()).unwrap();
    [
        memory_rig(settings.clone()).await,
        Rig::new(sqlite, Some(dir), settings.clone()).await,
        redis_rig(settings, &loadtest::servers::redis_url(), &new_prefix()).await,
    ]
}

/// Tokens on the Redis at `url` under keys that begin with `prefix`, all else in memory.
pub(crate) async fn redis_rig(settings: Settings, url: &str, prefix: &str) -> Rig {
    let tokens = redis::Settings { url: url.to_owned(), tls_ca: None, prefix: prefix.to_owned() };
    let stores = storage::Settings { history: History::Memory, tokens: TokenStore::Redis(tokens) };
    Rig::new(Store::connect(&stores).await.unwrap(), None, settings).await
}

/// One that no other test has. What is kept under it goes by itself.
pub(crate) fn new_prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}-{}:", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// For tests that pause the runtime's time: a store with threads would be timed out by it.
pub(crate) async fn memory_rig(settings: Settings) -> Rig {
    Rig::new(Store::memory(), None, settings).await
}

impl Rig {
    async fn new(store: Store, dir: Option<tempfile::TempDir>, settings: Settings) -> Rig {
        let clock =
            HandClock { wall: AtomicU64::new(1_800_000_000_000), start: Instant::now(), passed_ms: AtomicU64::new(0) };
        let (clock, random, ended) = (Arc::new(clock), Arc::new(Seeded(Mutex::new(1))), Arc::default());
        let (store, faults) = faulty(store);
        let accounts = start(&store, &clock, &random, &settings, &ended).await.unwrap();
        Rig { accounts: Arc::new(accounts), store, faults, settings, clock, random, ended, dir }
    }

    /// The process ends and another one starts over the same data.
    pub(crate) async fn restart(&mut self) {
        self.try_restart().await.unwrap();
    }

    /// As [`Rig::restart`]; the accounts of before stay if it fails.
    pub(crate) async fn try_restart(&mut self) -> Result<(), storage::Error> {
        let accounts = start(&self.store, &self.clock, &self.random, &self.settings, &self.ended).await?;
        self.accounts = Arc::new(accounts);
        Ok(())
    }

    /// Another process over the same data, beside this one.
    pub(crate) async fn another(&self) -> Accounts {
        start(&self.store, &self.clock, &self.random, &self.settings, &self.ended).await.unwrap()
    }

    /// Closes the file and opens it again, where there is one.
    pub(crate) async fn reopen(&mut self) {
        let Some(dir) = &self.dir else { return self.restart().await };
        let path = dir.path().to_owned();
        // Every clone of the store must be gone before the file can be opened again.
        let nothing = Store::memory();
        self.store = nothing.clone();
        self.accounts =
            Arc::new(start(&nothing, &self.clock, &self.random, &self.settings, &self.ended).await.unwrap());
        (self.store, self.faults) = faulty(Store::open_sqlite(&path).unwrap());
        self.restart().await;
    }

    pub(crate) fn pass(&self, ms: u64) {
        self.clock.wall.fetch_add(ms, Ordering::SeqCst);
        self.clock.passed_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Somebody sets the machine's clock back. A process does not follow, so restart it.
    pub(crate) fn set_clock_back(&self, ms: u64) {
        self.clock.wall.fetch_sub(ms, Ordering::SeqCst);
    }

    /// What was told of ended sessions since the last look.
    pub(crate) fn ended(&self) -> Vec<(SessionId, CloseCode)> {
        std::mem::take(&mut self.ended.0.lock().unwrap())
    }

    /// Waits until that many ends were told since the last look.
    pub(crate) async fn until_ended(&self, n: usize) {
        let told = async {
            while self.ended.0.lock().unwrap().len() < n {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
    }

    pub(crate) async fn caller(&self, access_token: &str) -> Caller {
        self.accounts.authenticate(access_token).await.unwrap()
    }

    pub(crate) async fn code(&self, access_token: &str) -> Option<Code> {
        self.accounts.authenticate(access_token).await.err().map(|error| error.code)
    }

    pub(crate) async fn register(&self, username: &str) -> rest::SignedIn {
        self.accounts.register(registration(username), address(1)).await.unwrap()
    }

    pub(crate) async fn login(&self, login: &str, device: Option<&str>) -> rest::SignedIn {
        self.try_login(login, PASSWORD, device, address(1)).await.unwrap()
    }

    pub(crate) async fn try_login(
        &self, login: &str, password: &str, device: Option<&str>, from: IpAddr,
    ) -> Result<rest::SignedIn, Error> {
        let device = device.map(|device| device.to_owned().try_into().unwrap());
        let body = rest::Login { login: login.to_owned(), password: password.to_owned(), device, device_name: None };
        self.accounts.login(body, from).await
    }

    pub(crate) async fn refresh(&self, refresh_token: &str) -> Result<rest::Tokens, Error> {
        let body = rest::Refresh { refresh_token: refresh_token.to_owned() };
        self.accounts.refresh(body, address(1)).await
    }
}

async fn start(
    store: &Store, clock: &Arc<HandClock>, random: &Arc<Seeded>, settings: &Settings, ended: &Arc<Ended>,
) -> Result<Accounts, storage::Error> {
    let world = World { clock: clock.clone(), random: random.clone(), store: store.clone() };
    Accounts::start(world, settings, ended.clone()).await
}

pub(crate) fn registration(username: &str) -> rest::Register {
    rest::Register {
        username: username.to_owned(),
        password: PASSWORD.to_owned(),
        display_name: None,
        email: None,
        device: None,
        device_name: None,
    }
}

pub(crate) fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

/// Passwords hashed as cheaply as argon2 allows; rates off.
pub(crate) fn settings() -> Settings {
    Settings {
        node: "a".to_owned(),
        incarnation: Incarnation([1; 16]),
        auth: Auth {
            issuer: "starling".to_owned(),
            access_ttl: Duration::from_secs(900),
            refresh_ttl: Duration::from_secs(30 * 24 * 3600),
            secret: Secret([5; 32]),
            sessions_per_user_max: 20,
            single_session: false,
            password_memory_kib: 8,
            password_passes: 1,
        },
        limits: Limits {
            frame_bytes: 65_536,
            text_chars: 8_000,
            inflight: 32,
            queue_soft_bytes: 1 << 18,
            queue_hard_bytes: 1 << 20,
            ping_ms: 25_000,
            send_per_s: 0,
            send_burst: 0,
            rest_per_min: 0,
            login_per_min: 0,
            register_per_min: 0,
            members: 10_000,
        },
    }
}
