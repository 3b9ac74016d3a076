//! Servers that go away and come back while a store is open.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use loadtest::proxy::{Fault, Proxy};
use protocol::UserId;
use storage::{
    Error,
    accounts::Accounts,
    cql::{Cql, Settings},
    health::Health,
};
use tokio::time::sleep;

use crate::keyspace::with_keyspace;

async fn until_ping(cql: &Cql, answers: bool, within: Duration) {
    let started = Instant::now();
    while cql.ping().await.is_ok() != answers {
        assert!(started.elapsed() < within, "a ping that says {answers}: not within {within:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_lost_server_is_refused_at_once_and_found_again_in_time() {
    with_keyspace(async |settings| {
        let wire = Proxy::start(&settings.nodes[0]).await.unwrap();
        let cql = Cql::open(&Settings { nodes: vec![wire.address().to_string()], ..settings }).await.unwrap();
        let accounts: Arc<dyn Accounts> = cql.clone();
        let nobody = UserId([1; 16]);
        assert_eq!(accounts.user(nobody).await.unwrap(), None);

        wire.set(Fault::Cut);
        until_ping(&cql, false, Duration::from_secs(5)).await;
        let started = Instant::now();
        let refused = accounts.user(nobody).await;
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
        assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());

        // the driver by itself would look again 9 s later
        sleep(Duration::from_secs(14)).await;
        wire.set(Fault::None);
        until_ping(&cql, true, Duration::from_secs(4)).await;
        assert_eq!(accounts.user(nobody).await.unwrap(), None);
    })
    .await;
}
