//! Raising marks. Each is written under the seq that it is, so that the highest stays, whoever writes it when.
//!
//! The user's side is written first: where the conversation's side shows a mark, the user's shows it too, and it need not be
//! written again.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use protocol::{ConversationId, Seq, UserId, push::Marks};

use super::{
    Cql,
    call::half_done,
    log::column,
    members::{Cells, SIDE_BY_SIDE, side_by_side},
    statements::statements,
    values::{bigint, number, uuid},
};
use crate::{Error, directory::MarkUpdate, fence::Bucket, log::Head};

statements! {
    Read post_no = "SELECT post_no FROM ks.conversation_log
        WHERE conversation_id = ? AND bucket = ? AND lane IN (0, 1) AND seq = ?";
}

impl Cql {
    pub(super) async fn raise_marks(&self, c: ConversationId, updates: &[MarkUpdate]) -> Result<Vec<Marks>, Error> {
        let standing = async { self.stand(c, self.hint(c).await?).await };
        let (Some(standing), Some(shards)) = tokio::try_join!(standing, self.shards(c))? else {
            return Ok(vec![Marks::default(); updates.len()]);
        };
        let users: HashSet<UserId> = updates.iter().map(|update| update.user).collect();
        let rows = self.member_rows(c, shards, users.into_iter()).await?;
        let before: HashMap<UserId, Marks> = rows.into_iter().map(|(user, row)| (user, row.marks)).collect();
        let mut after = before.clone();
        let raise = |update: &MarkUpdate| {
            let Some(marks) = after.get_mut(&update.user) else { return Marks::default() };
            let read = update.marks.read.min(standing.head.seq);
            let delivered = update.marks.delivered.min(standing.head.seq).max(read);
            *marks = Marks { read: marks.read.max(read), delivered: marks.delivered.max(delivered) };
            *marks
        };
        let answer = updates.iter().map(raise).collect();

        let risen = || after.iter().filter_map(|(user, &now)| Some((*user, *before.get(user)?, now)));
        let read = risen().filter(|(_, before, now)| now.read > before.read).map(|(.., now)| now.read);
        let posts = self.posts_up_to(c, standing.head, read.collect()).await?;
        let cells = risen().flat_map(|(user, before, now)| cells(user, before, now, &posts)).collect::<Vec<_>>();
        side_by_side(self.place_writes(c, &cells)).await.map_err(half_done)?;
        side_by_side(self.member_writes(c, shards, &cells)).await.map_err(half_done)?;
        Ok(answer)
    }

    /// How many posts there are up to each of these events; each is looked up once.
    async fn posts_up_to(
        &self, c: ConversationId, head: Head, seqs: HashSet<Seq>,
    ) -> Result<BTreeMap<Seq, u64>, Error> {
        let count = |seq: Seq| async move {
            if seq == head.seq {
                return Ok((seq, head.post_no));
            }
            let key = (uuid(c.0), column(Bucket::of(seq))?, bigint(seq.0));
            let row = self.row::<(i64,)>(&self.marks.post_no, key).await?;
            // below a head that is decided and not yet everywhere
            let (post_no,) = row.ok_or_else(|| Error::Refused(format!("event {seq} cannot be read yet")))?;
            Ok((seq, number("post_no", post_no)?))
        };
        stream::iter(seqs.into_iter().map(count)).buffer_unordered(SIDE_BY_SIDE).try_collect().await
    }
}

/// What has risen, in as few writes as there are stamps.
fn cells(user: UserId, before: Marks, now: Marks, posts: &BTreeMap<Seq, u64>) -> impl Iterator<Item = Cells> {
    let read = (now.read > before.read).then_some(now.read);
    let delivered = (now.delivered > before.delivered).then_some(now.delivered);
    // read marks that have risen have been counted
    let post_no = posts.get(&now.read).copied().unwrap_or_default();
    let (first, second) = match (read, delivered) {
        (Some(read), Some(delivered)) if read == delivered => (Some(Cells::both(user, read, post_no)), None),
        (read, delivered) => {
            (read.map(|read| Cells::read(user, read, post_no)), delivered.map(|seq| Cells::delivered(user, seq)))
        }
    };
    first.into_iter().chain(second)
}
