//! `starling-load growth`: what a send and a page cost as one conversation grows. One at a time, medians, so that the
//! figures compare with each other and with nothing else.

use std::time::Instant;

use clap::Args;
use futures_util::{StreamExt, stream::FuturesUnordered};
use loadtest::{
    Client,
    client::{Failed, Handle},
    random::Random,
};
use protocol::{
    ClientId, ConversationId, Post, Seq,
    push::{HistoryPage, Sent, Synced},
    request::{Hello, Hist, Page, Send, Sync, Verb},
};
use serde::Serialize;

use super::{CommandError, Common, Outcome, crowd, figures::Latencies};

/// Measured requests per size and kind.
const SAMPLES: u64 = 300;

#[derive(Args)]
pub(crate) struct Growth {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Numbers of messages at which to measure, ascending
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000, 100_000])]
    pub(crate) sizes: Vec<u64>,
}

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) sizes: Vec<AtSize>,
}

#[derive(Serialize)]
pub(crate) struct AtSize {
    pub(crate) messages: u64,
    pub(crate) send_ms_p50: f64,
    pub(crate) newest_page_ms_p50: f64,
    pub(crate) middle_page_ms_p50: f64,
}

impl Growth {
    pub(crate) async fn run(self) -> Result<Outcome, CommandError> {
        self.common.print(&self.measure().await?);
        Ok(Outcome::Pass)
    }

    pub(crate) async fn measure(&self) -> Result<Report, CommandError> {
        let (target, rest) = self.common.server()?;
        let user = crowd::users(&rest, 1).await?.remove(0);
        let c = crowd::group(&rest, &user, &[]).await?;
        let token = Some(user.tokens.access_token.clone());
        let hello = Hello { token, device: Some(crowd::device(0)), ..Hello::default() };
        let client = Client::connect(&target, hello, None).await?;
        client.request::<Synced>(Verb::Sync(Sync::default())).await?;
        let mut writer = Writer { handle: client.handle(), c, tag: Random::unseeded().bits(), sent: 0 };
        let under_way = client.welcome.limits.inflight.max(1);
        let mut sizes = Vec::new();
        for size in &self.sizes {
            writer.fill(*size, under_way).await?;
            sizes.push(writer.measure().await?);
        }
        Ok(Report { sizes })
    }
}

struct Writer {
    handle: Handle,
    c: ConversationId,
    tag: u64,
    sent: u64,
}

impl Writer {
    fn send(&mut self) -> impl Future<Output = Result<Sent, Failed>> + use<> {
        self.sent += 1;
        let cid = ClientId::try_from(format!("{:x}-{}", self.tag, self.sent)).expect("short and printable");
        let post = Post { text: Some("x".repeat(100)), ..Post::default() };
        let verb = Verb::Send(Send { c: self.c, cid, base: None, post });
        let handle = self.handle.clone();
        async move { handle.request(verb).await }
    }

    /// Sends until the conversation has `messages`.
    async fn fill(&mut self, messages: u64, under_way_max: usize) -> Result<(), Failed> {
        let mut under_way = FuturesUnordered::new();
        while self.sent < messages || !under_way.is_empty() {
            if self.sent < messages && under_way.len() < under_way_max {
                under_way.push(self.send());
            } else if let Some(sent) = under_way.next().await {
                sent?;
            }
        }
        Ok(())
    }

    async fn measure(&mut self) -> Result<AtSize, Failed> {
        let messages = self.sent;
        let (sends, newest, middle) = (Latencies::new(), Latencies::new(), Latencies::new());
        for _ in 0..SAMPLES {
            let started = Instant::now();
            self.send().await?;
            sends.record(started.elapsed());
        }
        for (latencies, before) in [(&newest, None), (&middle, Some(Seq(messages / 2 + 2)))] {
            for _ in 0..SAMPLES {
                let started = Instant::now();
                let page = Page { before, ..Page::default() };
                self.handle.request::<HistoryPage>(Verb::Hist(Hist { c: self.c, page })).await?;
                latencies.record(started.elapsed());
            }
        }
        let p50 = |latencies: &Latencies| latencies.percentiles().p50;
        Ok(AtSize {
            messages,
            send_ms_p50: p50(&sends),
            newest_page_ms_p50: p50(&newest),
            middle_page_ms_p50: p50(&middle),
        })
    }
}
