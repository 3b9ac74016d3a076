//! How long what is known of a session stays.

use protocol::{Millis, SessionId, UserId};
use storage::{
    accounts::{Session, Sessions},
    cql::Cql,
};

use crate::keyspace::{operator, with_keyspace};

const DAY_MS: u64 = 86_400_000;
const DAY_S: i32 = 86_400;

#[tokio::test]
async fn g13_a_revocation_outlives_everything_else_of_its_session() {
    with_keyspace(async |settings| {
        let cql = Cql::open(&settings).await.unwrap();
        let (id, created_at) = (SessionId([1; 16]), Millis(1_000 * DAY_MS));
        let session = Session {
            id,
            user: UserId([2; 16]),
            device: None,
            device_name: None,
            generation: 1,
            created_at,
            last_seen_at: created_at,
            expires_at: Millis(created_at.0 + 30 * DAY_MS),
            revoked_at: None,
        };
        cql.create_session(&session).await.unwrap();
        let operator = operator().await;
        let left = async || {
            let columns = "TTL(user_id), TTL(generation), TTL(expires_at), TTL(revoked_at)";
            let text = format!("SELECT {columns} FROM {}.auth_sessions", settings.keyspace);
            let rows = operator.query_unpaged(text, ()).await.unwrap().into_rows_result().unwrap();
            rows.single_row::<(i32, i32, i32, Option<i32>)>().unwrap()
        };
        let about = |days: i32, left: i32| (days * DAY_S - 3600..=days * DAY_S).contains(&left);
        let (user, generation, expires, _) = left().await;
        assert!([user, generation, expires].iter().all(|left| about(37, *left)), "{:?}", left().await);

        // a rotation that was under way when the session was ended, with the longest life there is
        cql.revoke(id, Millis(created_at.0 + DAY_MS)).await.unwrap();
        let at = Millis(created_at.0 + DAY_MS + 1);
        cql.rotated(id, 2, at, Millis(at.0 + 400 * DAY_MS)).await.unwrap();
        let (user, generation, expires, revoked) = left().await;
        assert!([user, generation, expires].iter().all(|left| about(400, *left)), "{:?}", left().await);
        assert!(about(800, revoked.unwrap()), "{revoked:?}");
        assert!(cql.session(id).await.unwrap().unwrap().revoked_at.is_some());
        assert_eq!(cql.sessions_of(session.user).await.unwrap(), []);
    })
    .await;
}
