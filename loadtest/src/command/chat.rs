//! `starling-load chat`: people in groups who send at a given rate, or as fast as they are answered, on one node or on
//! several of a cluster.

use std::{collections::BTreeMap, fs::File, io::BufWriter, path::PathBuf, sync::Arc, time::Instant};

use clap::Args;
use loadtest::{Rest, Target, checker, device::BACKOFF_MAX};
use serde::Serialize;

use super::{
    CommandError, Common, Outcome, check, crowd,
    figures::{Percentiles, Process, ratio},
    talk::{Crew, Group, Seat, Talk},
};

/// A generator later than this at p99 measures itself.
const LAG_MS_MAX: f64 = 50.0;

#[derive(Args)]
pub(crate) struct Chat {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Another node of the same cluster, repeatable: devices are spread over all, and each comes back to the next
    #[arg(long, value_name = "URL")]
    pub(crate) also: Vec<String>,
    /// How many people
    #[arg(long, default_value_t = 20)]
    pub(crate) users: usize,
    /// Devices of each
    #[arg(long, default_value_t = 1)]
    pub(crate) devices: usize,
    /// How many groups
    #[arg(long, default_value_t = 10)]
    pub(crate) conversations: usize,
    /// Members of each group
    #[arg(long, default_value_t = 2)]
    pub(crate) members: usize,
    /// Sends per second in all, evenly spaced, whatever the server does
    #[arg(long, default_value_t = 100.0, conflicts_with = "outstanding")]
    pub(crate) rate: f64,
    /// Instead of a rate: every device keeps this many sends unanswered
    #[arg(long)]
    pub(crate) outstanding: Option<usize>,
    /// Seconds
    #[arg(long, default_value_t = 10.0)]
    pub(crate) duration: f64,
    /// Bytes of a text
    #[arg(long, default_value_t = 100)]
    pub(crate) size: usize,
    /// Record everything, read the logs back and decide the promises
    #[arg(long)]
    pub(crate) check: bool,
    /// Write what was recorded to this file
    #[arg(long, requires = "check")]
    pub(crate) history: Option<PathBuf>,
    /// The server's process, for CPU per send
    #[arg(long)]
    pub(crate) pid: Option<u32>,
}

#[derive(Serialize)]
pub(crate) struct Report {
    acked: u64,
    pub(crate) sends_per_s: f64,
    pub(crate) ack_ms: Percentiles,
    pub(crate) deliver_ms: Percentiles,
    /// Sends that ended without `ok`, by code; `unknown` never got an answer.
    errors: BTreeMap<String, u64>,
    generator_lag_ms: Percentiles,
    /// Devices that still lacked something long after the last send.
    unsettled: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_us_per_send: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<checker::Verdict>,
}

impl Chat {
    pub(crate) async fn run(self) -> Result<Outcome, CommandError> {
        let mut report = self.measure().await?;
        let verdict = if self.common.text() { report.verdict.take() } else { None };
        self.common.print(&report);
        if let Some(verdict) = &verdict {
            check::print(verdict);
        }
        Ok(match verdict.or(report.verdict) {
            Some(verdict) if !verdict.violations.is_empty() => Outcome::Failed,
            _ if report.unsettled > 0 => Outcome::Failed,
            _ if report.generator_lag_ms.p99 > LAG_MS_MAX => Outcome::TooSlow,
            _ => Outcome::Pass,
        })
    }

    pub(crate) async fn measure(&self) -> Result<Report, CommandError> {
        if self.members < 2 || self.users < self.members || self.conversations == 0 || self.devices == 0 {
            let message = "--members is at least 2, --users at least --members, the others at least 1";
            return Err(CommandError::Usage(message.into()));
        }
        let (target, rest) = self.common.server()?;
        let (crew, groups) = self.prepare(target, &rest).await?;
        let talk = Talk::new(crew.clone(), groups.clone(), self.size);
        let server = self.pid.map(Process);
        let cpu = server.map(Process::cpu_us).transpose()?;
        let started = Instant::now();
        match self.outstanding {
            Some(outstanding) => talk.closed_loop(outstanding, self.duration).await,
            None => talk.open_loop(self.rate, self.duration).await,
        }
        let took = started.elapsed().as_secs_f64();
        let acked = talk.acked();
        let cpu = match (server, cpu) {
            (Some(server), Some(before)) => Some((server.cpu_us()? - before) as f64),
            _ => None,
        };
        let unsettled = if self.check { crew.settle(&rest, &groups).await? } else { 0 };
        let verdict = if self.check { Some(self.judge(&rest, &crew, &groups).await?) } else { None };
        Ok(Report {
            acked,
            sends_per_s: ratio(acked as f64, took),
            ack_ms: talk.acks.percentiles(),
            deliver_ms: crew.deliveries().percentiles(),
            errors: talk.errors(),
            generator_lag_ms: talk.lag.percentiles(),
            cpu_us_per_send: cpu.map(|cpu| ratio(cpu, acked as f64)),
            unsettled,
            verdict,
        })
    }

    /// Users, groups, devices; returns when every device is live.
    async fn prepare(&self, target: Target, rest: &Rest) -> Result<(Arc<Crew>, Vec<Group>), CommandError> {
        let mut nodes = vec![target];
        for url in &self.also {
            nodes.push(self.common.another(url)?);
        }
        let users = crowd::users(rest, self.users).await?;
        let mut groups = Vec::new();
        for number in 0..self.conversations {
            let members: Vec<usize> = (0..self.members).map(|i| (number + i) % self.users).collect();
            let others: Vec<_> = members[1..].iter().map(|user| users[*user].user.id).collect();
            let c = crowd::group(rest, &users[members[0]], &others).await?;
            let devices = members.iter().flat_map(|user| (0..self.devices).map(move |d| user * self.devices + d));
            groups.push(Group { c, members: devices.collect() });
        }
        let mut seats = Vec::new();
        for user in users {
            for number in 0..self.devices {
                let mut targets = nodes.clone();
                targets.rotate_left(seats.len() % nodes.len());
                seats.push(Seat { user: user.clone(), number, targets, backoff_max: BACKOFF_MAX });
            }
        }
        Ok((Arc::new(Crew::gather(rest, seats, self.check).await?), groups))
    }

    /// Reads the logs back and decides.
    async fn judge(&self, rest: &Rest, crew: &Crew, groups: &[Group]) -> Result<checker::Verdict, CommandError> {
        let history = crew.history(rest, groups).await?;
        if let Some(path) = &self.history {
            let failed = |source| CommandError::File { path: path.clone(), source };
            history.write(BufWriter::new(File::create(path).map_err(failed)?)).map_err(failed)?;
        }
        Ok(checker::check(&history))
    }
}
