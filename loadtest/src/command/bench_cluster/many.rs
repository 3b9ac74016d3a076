//! Many nodes on one machine: how long until all are there and agree, and what an idle peer costs.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    super::{
        CommandError,
        figures::{Process, ratio},
        rows::row,
    },
    BenchCluster, Figures,
    house::House,
};

/// Until memory that starting took is given back or used again.
const CALM: Duration = Duration::from_secs(3);

impl BenchCluster {
    pub(super) async fn many_nodes(&self) -> Result<Figures, CommandError> {
        let all = self.nodes;
        let mut house = self.lot(all, &[]).map_err(CommandError::Start)?;
        house.grow(2).map_err(CommandError::Start)?;
        let two = house.resident(0..2).await?;
        let began = Instant::now();
        house.grow(all).map_err(CommandError::Start)?;
        let ready = began.elapsed();
        house.agree(0..all, all)?;
        let joined = began.elapsed();
        let many = house.resident(0..2).await?;
        let idle = house.idle(2.0 * self.seconds).await?.per_second().each(all as f64);
        let began = Instant::now();
        house.nodes[all - 1].kill();
        house.agree(0..all - 1, all - 1)?;
        let out = began.elapsed();
        let began = Instant::now();
        house.nodes[all - 1].restart().map_err(CommandError::Start)?;
        house.agree(0..all, all)?;
        let back = began.elapsed();
        let began = Instant::now();
        house.restart_all().map_err(CommandError::Start)?;
        house.agree(0..all, all)?;
        let anew = began.elapsed();
        let seconds = |took: Duration| ratio(took.as_secs_f64(), 1.0);
        let line = |what: String, value| row("", what, None, value, "");
        Ok(Figures::from(vec![
            line(format!("{} nodes join 2 at once: the last is ready, s", all - 2), seconds(ready)),
            line("… and all agree that it is up, s".to_owned(), seconds(joined)),
            line(format!("one of {all} is killed: out of every view, s"), seconds(out)),
            line("… started again: up in every view, s".to_owned(), seconds(back)),
            line(format!("all {all} are killed, and start at once: all agree, s"), seconds(anew)),
            line("resident KB per idle peer".to_owned(), ratio((many - two) / 1024.0, (all - 2) as f64)),
            line(format!("an idle node of {all}: ms of CPU per s"), ratio(idle.cpu_us, 1000.0)),
            line(format!("an idle node of {all}: bytes to its peers per s"), idle.bytes.round()),
        ]))
    }
}

impl House {
    /// Bytes, the mean of these nodes.
    async fn resident(&self, nodes: Range<usize>) -> Result<f64, CommandError> {
        tokio::time::sleep(CALM).await;
        let nodes = &self.nodes[nodes];
        let bytes = nodes.iter().map(|node| Process(node.pid()).rss_bytes()).sum::<Result<u64, _>>()?;
        Ok(bytes as f64 / nodes.len() as f64)
    }
}
