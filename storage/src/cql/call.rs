//! Sending statements: within the deadline, within a bound, and with an outcome that says whether it happened. Never sends a
//! conditional statement twice.

use std::{ops::ControlFlow, sync::atomic::Ordering, time::Duration};

use protocol::limits::STORE_DEADLINE_MS;
use scylla::{
    deserialize::row::DeserializeRow,
    errors::ExecutionError,
    response::PagingState,
    serialize::{batch::BatchValues, row::SerializeRow},
    statement::batch::{Batch, BatchStatement, BatchType},
};
use tokio::{sync::SemaphorePermit, time::timeout};

use super::{
    Cql, errors,
    statements::{Conditional, Read, Write},
    verdict::Verdict,
};
use crate::Error;

/// Statements under way at once. Beyond it a call is turned away at once: at 300 ms a statement, which is slow, this is
/// 13,000 a second, and what waits costs memory and helps nobody.
pub(super) const IN_FLIGHT_MAX: usize = 4096;
/// A plain write is sent again at once if the first coordinator failed it.
const ATTEMPTS: usize = 2;

impl Cql {
    /// A call of a face that only reads: ends in time, counts its error.
    pub(super) async fn reading<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let late = || Err(Error::Refused(format!("the store took more than {STORE_DEADLINE_MS} ms")));
        let outcome = timeout(Duration::from_millis(STORE_DEADLINE_MS), call).await;
        self.meters.count(outcome.unwrap_or_else(|_| late()))
    }

    /// A call of a face that writes: ends in time, counts its error.
    pub(super) async fn writing<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let late = || Err(Error::Unknown(format!("the store took more than {STORE_DEADLINE_MS} ms")));
        let outcome = timeout(Duration::from_millis(STORE_DEADLINE_MS), call).await;
        let outcome = outcome.unwrap_or_else(|_| late());
        if matches!(outcome, Err(Error::Refused(_) | Error::Unknown(_))) {
            self.failing.store(true, Ordering::Relaxed);
        }
        self.meters.count(outcome)
    }

    /// All rows, page after page: a server may end a page early, and with nothing on it.
    pub(super) async fn rows<R>(&self, statement: &Read, values: impl SerializeRow) -> Result<Vec<R>, Error>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let mut rows = Vec::new();
        let mut next = Some(PagingState::start());
        while let Some(state) = next.take() {
            let (page, after) = self.rows_from(statement, &values, state).await?;
            rows.extend(page);
            next = after;
        }
        Ok(rows)
    }

    /// One page, and where to go on.
    pub(super) async fn rows_from<R>(
        &self, Read(statement): &Read, values: &impl SerializeRow, from: PagingState,
    ) -> Result<(Vec<R>, Option<PagingState>), Error>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let _permit = self.admit()?;
        let page = self.servers.session().execute_single_page(statement, values, from).await;
        let (page, next) = page.map_err(|error| errors::of_a_read(&error))?;
        let page = page.into_rows_result().map_err(unreadable)?;
        let rows = page.rows::<R>().map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
        match next.into_paging_control_flow() {
            ControlFlow::Continue(next) => Ok((rows, Some(next))),
            ControlFlow::Break(()) => Ok((rows, None)),
        }
    }

    /// The first row.
    pub(super) async fn row<R>(&self, statement: &Read, values: impl SerializeRow) -> Result<Option<R>, Error>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        Ok(self.rows(statement, values).await?.into_iter().next())
    }

    /// Writes; twice, if the first coordinator fails.
    pub(super) async fn write(&self, Write(statement): &Write, values: impl SerializeRow) -> Result<(), Error> {
        let _permit = self.admit()?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            match self.servers.session().execute_unpaged(statement, &values).await {
                Ok(_) => return Ok(()),
                Err(error) if is_last(&mut failure, &error) => break,
                Err(_) => {}
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Writes rows of one partition together, or of several for fewer round trips; twice, if the first coordinator fails.
    /// The first statement carries the partition key.
    pub(super) async fn write_batch(
        &self, statements: impl IntoIterator<Item = &Write>, values: impl BatchValues,
    ) -> Result<(), Error> {
        let _permit = self.admit()?;
        let batch = self.batch(statements.into_iter().map(|Write(statement)| statement.clone().into()), true);
        self.writes.fetch_add(1, Ordering::Relaxed);
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            match self.servers.session().batch(&batch, &values).await {
                Ok(_) => return Ok(()),
                Err(error) if is_last(&mut failure, &error) => break,
                Err(_) => {}
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Writes if the condition holds.
    pub(super) async fn conditional(
        &self, Conditional(statement): &Conditional, values: impl SerializeRow,
    ) -> Result<Verdict, Error> {
        let _permit = self.admit()?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        let outcome = self.servers.session().execute_unpaged(statement, values).await;
        Verdict::of(outcome.map_err(|error| errors::of_a_write(&error))?)
    }

    /// Writes rows of one partition if the conditions hold, all or none.
    pub(super) async fn conditional_batch(
        &self, statements: impl IntoIterator<Item = &Conditional>, values: impl BatchValues,
    ) -> Result<Verdict, Error> {
        let _permit = self.admit()?;
        let batch = self.batch(statements.into_iter().map(|Conditional(statement)| statement.clone().into()), false);
        self.writes.fetch_add(1, Ordering::Relaxed);
        let outcome = self.servers.session().batch(&batch, values).await;
        Verdict::of(outcome.map_err(|error| errors::of_a_write(&error))?)
    }

    fn batch(&self, statements: impl Iterator<Item = BatchStatement>, idempotent: bool) -> Batch {
        // The driver's default is a logged one: two more writes for nothing.
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements.collect());
        let profile = if idempotent { &self.servers.profiles.write } else { &self.servers.profiles.conditional };
        batch.set_execution_profile_handle(Some(profile.clone()));
        batch.set_is_idempotent(idempotent);
        batch
    }

    /// Turned away at once: no connection, or too much under way already.
    fn admit(&self) -> Result<SemaphorePermit<'_>, Error> {
        if !self.servers.is_connected() {
            return Err(Error::Refused("no connection to a server".into()));
        }
        self.in_flight.try_acquire().map_err(|_| {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            Error::Refused(format!("{IN_FLIGHT_MAX} statements are under way"))
        })
    }
}

/// What a call that has written something already makes of the failure of a later step: not "nothing was done".
pub(super) fn half_done(error: Error) -> Error {
    match error {
        Error::Refused(why) => Error::Unknown(why),
        other => other,
    }
}

/// Notes that an attempt at a plain write failed; true: another is not worth it. What an earlier attempt may have done, a
/// later one's refusal does not undo.
fn is_last(failure: &mut Option<Error>, error: &ExecutionError) -> bool {
    if !matches!(failure, Some(Error::Unknown(_))) {
        *failure = Some(errors::of_a_write(error));
    }
    !errors::is_worth_another_try(error)
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::Corrupt(error.to_string())
}
