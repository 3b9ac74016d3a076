//! The row of the view as this node knows it: reads and changes under way, one of each. Whatever is not known for certain
//! is read again.

use std::time::Duration;

use protocol::cluster::View;
use storage::{Error, cluster::Changed};
use tokio::time::Instant;

use crate::cluster::jitter::Jitter;

/// Read at least this often.
const EVERY: Duration = Duration::from_secs(1);
/// Read at most this often, whatever versions peers claim to have seen.
const SPACING: Duration = Duration::from_millis(50);
/// An answer that takes longer will not come; a store's own deadline is shorter.
const LOST: Duration = Duration::from_secs(5);
/// The longest pause after somebody else was faster.
const CONTENDED: Duration = Duration::from_millis(150);
/// The longest pause after the store failed.
const FAILED: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(super) struct Row {
    view: View,
    /// When it was first read.
    known: Option<Instant>,
    reading: Option<Reading>,
    asked: Option<Instant>,
    /// There is reason to read it now.
    wanted: bool,
    changing: Option<(Instant, View)>,
    /// It is not known what became of a change: read before the next one.
    unsure: bool,
    not_before: Option<Instant>,
    jitter: Jitter,
}

#[derive(Debug)]
struct Reading {
    since: Instant,
    /// What it knew when it asked.
    revision: u64,
    /// It completes what is under way: it was asked after a change whose outcome is unknown, or for a doubt.
    decided: bool,
}

/// What a read has shown.
pub(super) enum Finding {
    Nothing,
    Newer(View),
    /// Less than was known when it was asked, though a read sees every change before it.
    WentBack,
}

impl Row {
    pub(super) fn new(random: u64) -> Row {
        Row {
            view: View::default(),
            known: None,
            reading: None,
            asked: None,
            wanted: false,
            changing: None,
            unsure: false,
            not_before: None,
            jitter: Jitter::new(random),
        }
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    pub(super) fn known(&self) -> Option<Instant> {
        self.known
    }

    /// Somebody goes by this version.
    pub(super) fn saw(&mut self, version: u64) {
        self.wanted |= version > self.view.version;
    }

    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    pub(super) fn read_due(&self, now: Instant) -> bool {
        if self.reading.as_ref().is_some_and(|reading| now < reading.since + LOST) {
            return false;
        }
        let pause = if self.wanted || self.unsure { SPACING } else { EVERY };
        self.asked.is_none_or(|asked| now >= asked + pause)
    }

    /// It is read now; returns whether what may be under way is to be completed first.
    pub(super) fn reading(&mut self, now: Instant) -> bool {
        self.asked = Some(now);
        self.wanted = false;
        self.reading = Some(Reading { since: now, revision: self.view.revision, decided: self.unsure });
        self.unsure
    }

    pub(super) fn read(&mut self, decided: bool, result: Result<View, Error>, now: Instant) -> Finding {
        let Some(reading) = self.reading.take_if(|reading| reading.decided == decided) else { return Finding::Nothing };
        let Ok(view) = result else { return Finding::Nothing };
        self.known = self.known.or(Some(now));
        if view.revision < reading.revision {
            if decided {
                return Finding::WentBack;
            }
            // a plain read may miss what another one saw
            self.unsure = true;
            return Finding::Nothing;
        }
        self.unsure &= !decided;
        if view.revision > self.view.revision { Finding::Newer(view) } else { Finding::Nothing }
    }

    pub(super) fn may_change(&mut self, now: Instant) -> bool {
        if self.changing.as_ref().is_some_and(|(since, _)| now >= *since + LOST) {
            self.changing = None;
            self.unsure = true;
        }
        let paused = self.not_before.is_some_and(|at| now < at);
        self.known.is_some() && self.changing.is_none() && !self.unsure && !paused
    }

    pub(super) fn is_changing(&self) -> bool {
        self.changing.is_some()
    }

    pub(super) fn changing(&mut self, next: View, now: Instant) {
        self.changing = Some((now, next));
    }

    /// What the row holds now, as far as the answer says.
    pub(super) fn changed(&mut self, result: Result<Changed, Error>, now: Instant) -> Option<View> {
        let (_, next) = self.changing.take()?;
        match result {
            Ok(Changed::Applied) => Some(next),
            Ok(Changed::Stale(view)) => {
                self.not_before = Some(now + self.jitter.up_to(CONTENDED));
                // a row that refuses a change and yet holds nothing newer must be looked at
                self.unsure = view.revision <= self.view.revision;
                Some(view)
            }
            Err(error) => {
                // refused is for certain
                self.unsure = !matches!(error, Error::Refused(_));
                self.not_before = Some(now + self.jitter.up_to(FAILED));
                None
            }
        }
    }

    /// Goes by `view` from now on, unless it is no news; returns the one before.
    pub(super) fn install(&mut self, view: View) -> Option<View> {
        (view.revision > self.view.revision).then(|| std::mem::replace(&mut self.view, view))
    }
}
