//! `starling-load smoke`: drives every route and every verb once, with the wrong inputs a stranger tries first, and
//! checks each answer against the protocol. One line per check.

use clap::Args;
use loadtest::{Rest, RestFailed, Target, client::Failed, rest::Call};
use protocol::{Code, rest::SignedIn};
use serde::{Serialize, de::DeserializeOwned};

use super::{CommandError, Common, Outcome, crowd};

mod accounts;
mod conversations;
mod sockets;

#[derive(Args)]
pub(crate) struct Smoke {
    #[command(flatten)]
    common: Common,
}

/// What the checks share.
struct Context {
    target: Target,
    rest: Rest,
    /// Two who talk, and one who is not in it.
    alice: SignedIn,
    bob: SignedIn,
    carol: SignedIn,
    checks: Checks,
}

/// The lines so far.
struct Checks {
    text: bool,
    lines: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    check: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
}

#[derive(Serialize)]
struct Report {
    checks: usize,
    failed: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<Line>,
}

/// Why a check failed, in words.
type Wrong = String;

impl Smoke {
    pub(crate) async fn run(self) -> Result<Outcome, CommandError> {
        let (target, rest) = self.common.server()?;
        drop(target.connect().await?);
        let mut users = crowd::users(&rest, 3).await?.into_iter();
        let (Some(alice), Some(bob), Some(carol)) = (users.next(), users.next(), users.next()) else {
            return Err(CommandError::Stalled("three users were registered, fewer came back".into()));
        };
        let checks = Checks { text: self.common.text(), lines: Vec::new() };
        let mut context = Context { target, rest, alice, bob, carol, checks };
        accounts::check(&mut context).await;
        let c = conversations::check(&mut context).await;
        if let Some(c) = c {
            sockets::check(&mut context, c).await;
        }
        accounts::check_endings(&mut context).await;
        let lines = context.checks.lines;
        let failed = lines.iter().filter(|line| line.failed.is_some()).count();
        let report = Report { checks: lines.len(), failed, lines: if self.common.text() { Vec::new() } else { lines } };
        self.common.print(&report);
        Ok(if failed == 0 { Outcome::Pass } else { Outcome::Failed })
    }
}

impl Checks {
    /// Prints and keeps one check; gives its value back if it went well.
    fn note<T>(&mut self, check: &str, result: Result<T, Wrong>) -> Option<T> {
        let (value, failed) = match result {
            Ok(value) => (Some(value), None),
            Err(wrong) => (None, Some(wrong)),
        };
        if self.text {
            match &failed {
                None => println!("ok    {check}"),
                Some(wrong) => println!("FAIL  {check}: {wrong}"),
            }
        }
        self.lines.push(Line { check: check.to_owned(), failed });
        value
    }
}

impl Context {
    /// Makes a call that must be answered with `status` and a `T` that `good` accepts.
    async fn call<T: DeserializeOwned>(
        &mut self, check: &str, call: Call, status: u16, good: impl FnOnce(&T) -> Result<(), Wrong>,
    ) -> Option<T> {
        let result = match self.rest.call::<T>(call).await {
            Ok((got, _)) if got != status => Err(format!("status {got}, expected {status}")),
            Ok((_, value)) => good(&value).map(|()| value),
            Err(failed) => Err(failed.to_string()),
        };
        self.checks.note(check, result)
    }

    /// Makes a call that must be refused with `code`, its status, and `field` if one is to blame.
    async fn refused(&mut self, check: &str, call: Call, code: Code, field: Option<&str>) {
        let result = match self.rest.call::<serde::de::IgnoredAny>(call).await {
            Ok((status, _)) => Err(format!("answered {status}, expected a refusal as {}", code.as_str())),
            Err(RestFailed::Refused { status, failure }) => {
                let details = &failure.error.details;
                equal("code", &failure.error.code.as_str(), &code.as_str())
                    .and_then(|()| equal("status", &status, &code.status()))
                    .and_then(|()| equal("retry", &details.retry, &code.retry()))
                    .and_then(|()| equal("field", &details.field.as_deref(), &field))
                    .and_then(|()| ensure(!failure.request_id.is_empty(), "no request_id"))
            }
            Err(failed) => Err(failed.to_string()),
        };
        self.checks.note(check, result);
    }
}

/// Any answer is good.
fn any<T>(_: &T) -> Result<(), Wrong> {
    Ok(())
}

fn ensure(good: bool, otherwise: impl Into<Wrong>) -> Result<(), Wrong> {
    if good { Ok(()) } else { Err(otherwise.into()) }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, expected: &T) -> Result<(), Wrong> {
    ensure(got == expected, format!("{what} is {got:?}, expected {expected:?}"))
}

/// A request on a socket that must be refused with `code`.
fn refused_as<T>(result: Result<T, Failed>, code: Code) -> Result<(), Wrong> {
    match result {
        Ok(_) => Err(format!("answered ok, expected {}", code.as_str())),
        Err(failed) => equal("code", &failed.code().map(Code::as_str), &Some(code.as_str())),
    }
}
