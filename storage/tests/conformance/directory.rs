//! Members, lists and marks, as they follow from the logs.

use crate::{
    common::{Log, conversation, each, user},
    log::ALL,
};
use protocol::{Kind, Role, Seq, push::Marks};
use storage::directory::MarkUpdate;

#[tokio::test]
async fn membership_follows_from_events() {
    each(async |store| {
        let mut log = Log::create(&store, 1, Kind::Group, &[1, 2]).await;
        log.post(1, "a").await;
        log.join(&[3, 1]).await; // 3; the owner is one already
        log.role(3, Role::Admin).await; // 4
        log.remove(2).await; // 5
        log.title("new").await; // 6
        let row = async |n| store.directory.member(conversation(1), user(n)).await.unwrap().unwrap();
        let (one, two, three) = (row(1).await, row(2).await, row(3).await);
        assert_eq!((one.role, one.joined_seq, one.left_seq), (Role::Owner, Seq(1), None));
        assert_eq!((two.role, two.joined_seq, two.left_seq), (Role::Member, Seq(1), Some(Seq(5))));
        assert_eq!((three.role, three.joined_seq, three.left_seq), (Role::Admin, Seq(3), None));
        assert_eq!((three.marks, three.read_post), (Marks { read: Seq(3), delivered: Seq(3) }, 1));
        assert_eq!(store.directory.member(log.c, user(4)).await.unwrap(), None);
        let found = store.directory.conversation(log.c).await.unwrap().unwrap();
        assert_eq!((found.members, found.title.as_deref(), found.head.seq), (2, Some("new"), Seq(6)));
        log.leave(1, Some(3)).await; // 7
        log.join(&[1, 2]).await; // 8
        let (one, two, three) = (row(1).await, row(2).await, row(3).await);
        assert_eq!((one.role, one.joined_seq, one.left_seq), (Role::Member, Seq(8), None));
        assert_eq!((two.joined_seq, two.left_seq, two.marks.read), (Seq(8), None, Seq(8)));
        assert_eq!(three.role, Role::Owner);
        assert_eq!(store.directory.conversation(log.c).await.unwrap().unwrap().members, 3);
    })
    .await;
}

#[tokio::test]
async fn a_direct_conversation_knows_its_pair_and_has_no_owner() {
    each(async |store| {
        let log = Log::create(&store, 1, Kind::Direct, &[2, 1]).await;
        let found = store.directory.conversation(log.c).await.unwrap().unwrap();
        assert_eq!((found.kind, found.pair), (Kind::Direct, Some((user(2), user(1)))));
        assert_eq!(store.directory.member(log.c, user(2)).await.unwrap().unwrap().role, Role::Member);
    })
    .await;
}

#[tokio::test]
async fn members_come_in_pages_without_those_who_left() {
    each(async |store| {
        let mut log = Log::create(&store, 1, Kind::Group, &[5, 1, 2, 3, 4]).await;
        log.remove(2).await;
        let page = async |after: Option<u8>, limit| -> Vec<u8> {
            let members = store.directory.members(conversation(1), after.map(user), limit).await.unwrap();
            members.iter().map(|member| member.user.0[0]).collect()
        };
        assert_eq!(page(None, 10).await, [1, 3, 4, 5]);
        assert_eq!(page(None, 2).await, [1, 3]);
        assert_eq!(page(Some(3), 2).await, [4, 5]);
        assert_eq!(page(Some(5), 2).await, [0_u8; 0]);
        assert_eq!(store.directory.members(conversation(2), None, 10).await.unwrap(), []);
    })
    .await;
}

#[tokio::test]
async fn g11_marks_only_rise_and_stay_below_the_head() {
    each(async |store| {
        let mut log = Log::create(&store, 1, Kind::Group, &[1, 2]).await;
        for _ in 0..5 {
            log.post(1, "x").await;
        }
        let mark = async |n, read, delivered| {
            let marks = Marks { read: Seq(read), delivered: Seq(delivered) };
            let marks = store.directory.mark(conversation(1), &[MarkUpdate { user: user(n), marks }]).await.unwrap()[0];
            (marks.read.0, marks.delivered.0)
        };
        assert_eq!(mark(2, 0, 3).await, (1, 3));
        assert_eq!(mark(2, 4, 0).await, (4, 4));
        assert_eq!(mark(2, 2, 2).await, (4, 4));
        assert_eq!(mark(2, 3, 5).await, (4, 5));
        assert_eq!(mark(2, 99, 99).await, (6, 6));
        assert_eq!(mark(9, 3, 3).await, (0, 0), "who never was a member has no marks");
        let twice = [MarkUpdate { user: user(1), marks: Marks::default() }; 2];
        assert_eq!(store.directory.mark(log.c, &twice).await.unwrap(), [Marks { read: Seq(6), delivered: Seq(6) }; 2]);
        assert_eq!(store.directory.mark(conversation(9), &twice).await.unwrap(), [Marks::default(); 2]);
    })
    .await;
}

#[tokio::test]
async fn unread_is_posts_of_the_head_minus_posts_read() {
    each(async |store| {
        let mut log = Log::create(&store, 1, Kind::Group, &[1, 2]).await;
        let unread = async |n| {
            let found = store.directory.membership(conversation(1), user(n)).await.unwrap().unwrap();
            found.conversation.head.post_no - found.member.read_post
        };
        log.post(1, "a").await; // 2
        log.title("t").await; // 3
        log.post(1, "b").await; // 4
        log.title("u").await; // 5
        assert_eq!((unread(1).await, unread(2).await), (0, 2));
        let read = |seq| MarkUpdate { user: user(2), marks: Marks { read: Seq(seq), delivered: Seq(seq) } };
        store.directory.mark(log.c, &[read(3)]).await.unwrap();
        assert_eq!(unread(2).await, 1);
        store.directory.mark(log.c, &[read(5)]).await.unwrap();
        assert_eq!(unread(2).await, 0);
        log.post(2, "c").await; // 6
        assert_eq!((unread(1).await, unread(2).await), (1, 0));
        log.join(&[3]).await;
        assert_eq!(unread(3).await, 0, "who joins begins with nothing unread");
    })
    .await;
}

#[tokio::test]
async fn lists_and_fellows_know_only_present_members() {
    each(async |store| {
        let mut a = Log::create(&store, 1, Kind::Group, &[1, 2, 3]).await;
        let mut b = Log::create(&store, 2, Kind::Group, &[2, 4]).await;
        a.post(1, "x").await;
        let list = async |n| {
            let mut list = store.directory.list(user(n)).await.unwrap();
            list.sort_by_key(|membership| membership.conversation.id);
            list.iter().map(|m| (m.conversation.id.0[0], m.conversation.head.seq.0)).collect::<Vec<_>>()
        };
        let everybody: Vec<_> = (1..=5).map(user).collect();
        let fellows = async |n| -> Vec<u8> {
            store.directory.fellows(user(n), &everybody).await.unwrap().iter().map(|user| user.0[0]).collect()
        };
        let places = async |n| {
            let mut places: Vec<_> = store.directory.places(user(n)).await.unwrap().iter().map(|c| c.0[0]).collect();
            places.sort_unstable();
            places
        };
        assert_eq!(list(2).await, [(1, 2), (2, 1)]);
        assert_eq!((places(2).await, places(5).await), (vec![1, 2], vec![]));
        assert_eq!(list(1).await, [(1, 2)]);
        assert_eq!(list(5).await, []);
        assert_eq!(fellows(2).await, [1, 2, 3, 4]);
        assert_eq!(fellows(1).await, [1, 2, 3]);
        a.remove(2).await;
        assert_eq!(list(2).await, [(2, 1)]);
        assert_eq!(places(2).await, [2]);
        assert_eq!(fellows(2).await, [2, 4]);
        assert_eq!(fellows(1).await, [1, 3]);
        b.leave(2, Some(4)).await;
        assert_eq!(fellows(2).await, [0_u8; 0]);
        let gone = store.directory.membership(a.c, user(2)).await.unwrap().unwrap();
        assert_eq!(gone.member.left_seq, Some(Seq(3)));
        assert_eq!(store.directory.membership(a.c, user(5)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn following_again_changes_nothing() {
    each(async |store| {
        let mut log = Log::create(&store, 1, Kind::Group, &[1, 2, 3]).await;
        log.remove(2).await;
        log.join(&[2]).await;
        log.role(2, Role::Admin).await;
        log.leave(3, None).await;
        log.title("new").await;
        log.post(2, "x").await;
        let all = store.log.read(log.c, ALL).await.unwrap();
        let rows = async || {
            let mut rows = vec![];
            for n in 1..=3 {
                rows.push(store.directory.membership(conversation(1), user(n)).await.unwrap().unwrap());
            }
            rows
        };
        let before = rows().await;
        for event in &all {
            store.log.follow(log.c, std::slice::from_ref(event)).await.unwrap();
        }
        store.log.follow(log.c, &all).await.unwrap();
        assert_eq!(rows().await, before);
    })
    .await;
}
