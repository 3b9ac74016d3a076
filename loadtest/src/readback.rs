//! Reads a conversation's whole log back over REST, as the checker wants it.

use protocol::{ConversationId, Seq};

use crate::{
    Rest, RestFailed,
    history::{Entry, Log},
};

/// Reads the log of `c` from its first event to its head. `reader` names who reads, for the verdict.
///
/// # Errors
/// [`RestFailed`] of the page that failed.
pub async fn read_log(rest: &Rest, token: &str, c: ConversationId, reader: &str) -> Result<Log, RestFailed> {
    let mut log = Log { c, reader: reader.to_owned(), head: 0, entries: Vec::new() };
    loop {
        let after = log.entries.last().map_or(0, |last| last.seq);
        let page = rest.page_after(token, c, Seq(after)).await?;
        log.head = page.head.0;
        let posts = page.messages.iter().map(Entry::of_post);
        let mut entries: Vec<Entry> = posts.chain(page.events.iter().map(Entry::of_event)).collect();
        entries.sort_by_key(|entry| entry.seq);
        let ended = entries.is_empty() || !page.more;
        log.entries.append(&mut entries);
        if ended {
            return Ok(log);
        }
    }
}
