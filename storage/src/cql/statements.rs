//! Statements, each prepared once, when the store is opened. Their kind says how they are sent: a conditional one is never
//! sent twice, whatever the caller forgets.

use scylla::{client::session::Session, statement::prepared::PreparedStatement};

use super::{Settings, connect::Profiles, errors, servers::Servers};
use crate::OpenError;

/// Rows of one page. A server may answer with fewer, and with more to come.
const PAGE_ROWS: i32 = 1000;

/// Reads rows of one partition, page by page.
pub(super) struct Read(pub(super) PreparedStatement);

/// Reads after completing what conditional writes have under way there: what it finds is the last word.
pub(super) struct Serial(pub(super) Read);

/// Writes what may be written twice: every cell carries its own stamp, or is always written alike.
pub(super) struct Write(pub(super) PreparedStatement);

/// Writes if a condition holds.
pub(super) struct Conditional(pub(super) PreparedStatement);

/// What statements are prepared with.
pub(super) struct Preparer<'a> {
    session: &'a Session,
    profiles: &'a Profiles,
    settings: &'a Settings,
}

impl<'a> Preparer<'a> {
    pub(super) fn new(session: &'a Session, servers: &'a Servers) -> Preparer<'a> {
        Preparer { session, profiles: &servers.profiles, settings: &servers.settings }
    }

    async fn prepare(&self, text: &str) -> Result<PreparedStatement, OpenError> {
        let prepared = self.session.prepare(self.settings.qualified(text)).await;
        prepared.map_err(|error| errors::of_a_statement(self.settings, "cannot prepare a statement", &error.into()))
    }
}

impl Read {
    pub(super) async fn prepare(with: &Preparer<'_>, text: &str) -> Result<Read, OpenError> {
        let mut prepared = with.prepare(text).await?;
        prepared.set_execution_profile_handle(Some(with.profiles.read.clone()));
        prepared.set_page_size(PAGE_ROWS);
        prepared.set_is_idempotent(true);
        Ok(Read(prepared))
    }
}

impl Serial {
    pub(super) async fn prepare(with: &Preparer<'_>, text: &str) -> Result<Serial, OpenError> {
        let Read(mut prepared) = Read::prepare(with, text).await?;
        prepared.set_consistency(with.profiles.serial_read);
        Ok(Serial(Read(prepared)))
    }
}

impl Write {
    pub(super) async fn prepare(with: &Preparer<'_>, text: &str) -> Result<Write, OpenError> {
        let mut prepared = with.prepare(text).await?;
        prepared.set_execution_profile_handle(Some(with.profiles.write.clone()));
        prepared.set_is_idempotent(true);
        Ok(Write(prepared))
    }
}

impl Conditional {
    pub(super) async fn prepare(with: &Preparer<'_>, text: &str) -> Result<Conditional, OpenError> {
        let mut prepared = with.prepare(text).await?;
        prepared.set_execution_profile_handle(Some(with.profiles.conditional.clone()));
        prepared.set_is_idempotent(false);
        Ok(Conditional(prepared))
    }
}

/// The statements of one feature: `statements! { Read one = "…"; Write other = "…"; }` makes a struct `Statements` with a
/// field for each, and `Statements::prepare`.
macro_rules! statements {
    ($($kind:ident $name:ident = $text:expr;)+) => {
        pub(super) struct Statements { $(pub(super) $name: $crate::cql::statements::$kind,)+ }

        impl Statements {
            pub(super) async fn prepare(
                with: &$crate::cql::statements::Preparer<'_>,
            ) -> Result<Statements, $crate::OpenError> {
                Ok(Statements { $($name: $crate::cql::statements::$kind::prepare(with, $text).await?,)+ })
            }
        }
    };
}
pub(super) use statements;
