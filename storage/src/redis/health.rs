//! Whether Redis answers and can be written to, and what was asked of it.

use async_trait::async_trait;

use super::Redis;
use crate::{
    Error,
    health::{Health, Snapshot},
};

#[async_trait]
impl Health for Redis {
    async fn ping(&self) -> Result<(), Error> {
        self.meters.count(self.gate.ping().await)
    }

    fn snapshot(&self) -> Snapshot {
        self.gate.snapshot()
    }
}
