//! Families taken along as they stand, for moving house.

use ::redis::{cmd, pipe};
use async_trait::async_trait;
use protocol::{Millis, SessionId};

use super::{Redis, SLACK_MS};
use crate::{Error, inventory::Families, tokens::Family};

/// As the scripts know them.
const FIELDS: [&str; 5] = ["generation", "hash", "expires_at", "predecessor", "spent_at"];
type Values = (Option<u64>, Option<Vec<u8>>, Option<u64>, Option<Vec<u8>>, Option<u64>);

#[async_trait]
impl Families for Redis {
    async fn family(&self, id: SessionId) -> Result<Option<Family>, Error> {
        let mut get = cmd("HMGET");
        get.arg(self.family_key(id)).arg(&FIELDS);
        let values = self.gate.read(async |mut line| get.query_async::<Values>(&mut line).await);
        self.meters.count(values.await.and_then(|values| family(id, values)))
    }

    async fn put_family(&self, id: SessionId, family: &Family) -> Result<(), Error> {
        let key = self.family_key(id);
        let [generation, hash, expires_at, predecessor, spent_at] = FIELDS;
        let mut put = pipe();
        put.atomic().del(&key).cmd("HSET").arg(&key);
        put.arg(generation).arg(family.generation).arg(hash).arg(&family.hash[..]);
        put.arg(expires_at).arg(family.expires_at.0);
        if let Some((hash, at)) = family.predecessor {
            put.arg(predecessor).arg(&hash[..]).arg(spent_at).arg(at.0);
        }
        // Nobody says what time it is here: by the server's clock, then.
        put.cmd("PEXPIREAT").arg(&key).arg(family.expires_at.0.saturating_add(SLACK_MS));
        let done = self.gate.write(async |mut line| put.exec_async(&mut line).await);
        self.meters.count(done.await)
    }
}

fn family(id: SessionId, values: Values) -> Result<Option<Family>, Error> {
    let corrupt = || Error::Corrupt(format!("the family {id} in Redis is incomplete"));
    let hash = |bytes: Vec<u8>| bytes.try_into().map_err(|_| corrupt());
    match values {
        (None, ..) => Ok(None),
        (Some(generation), Some(live), Some(expires_at), predecessor, spent_at) => Ok(Some(Family {
            generation,
            hash: hash(live)?,
            predecessor: predecessor.map(hash).transpose()?.zip(spent_at.map(Millis)),
            expires_at: Millis(expires_at),
        })),
        _ => Err(corrupt()),
    }
}
