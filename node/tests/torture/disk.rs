//! A full disk: sends are refused and may be tried again, nothing acknowledged is lost, and with room again the node
//! goes on by itself; the same if it is restarted meanwhile.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use loadtest::{Device, client::Failed, crowd, readback::read_log};
use protocol::{Code, ConversationId, push, request::Verb};

use crate::{
    rig::{PATIENCE, Part, Rig, judge, post, starter},
    support,
};

/// A small file system in a mount namespace of its own: it goes away with the process that holds it, however it ends.
struct SmallDisk {
    holder: Child,
    at: PathBuf,
}

impl SmallDisk {
    /// `None`, said loudly, where one may not mount.
    fn mount(at: &Path, size: &str) -> Option<SmallDisk> {
        let script = "mount -t tmpfs -o size=$1 tmpfs \"$0\" && echo mounted && exec sleep infinity";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(at).arg(size);
        let mut holder = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let disk = SmallDisk { holder, at: at.to_owned() };
        if line.trim() == "mounted" {
            return Some(disk);
        }
        println!("NOT TESTED: mounting a tmpfs needs root");
        assert!(std::env::var_os("CI").is_none(), "CI must be able to mount a tmpfs");
        None
    }

    /// What makes a program see it.
    fn enter(&self) -> [String; 4] {
        ["nsenter".into(), "--target".into(), self.holder.id().to_string(), "--mount".into()]
    }

    fn ballast(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.at.strip_prefix("/").unwrap()).join("ballast")
    }

    /// Takes all the room there is, except for the last `left` bytes.
    fn fill(&self, left: u64) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.ballast()).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let size = file.metadata().unwrap().len();
        file.set_len(size.saturating_sub(left)).unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g1_a_full_disk_refuses_loses_nothing_and_is_left_behind() {
    let (starter, place) = starter(&[]);
    let Some(disk) = SmallDisk::mount(place.path(), "16m") else { return };
    let enter = disk.enter();
    let starter = starter.through(&enter.each_ref().map(String::as_str));
    let mut rig = Rig::of(starter, place);
    let people = rig.people(2).await;
    let c = rig.group(&people).await;
    let devices = [rig.device(&people[0], 0, rig.target()).await, rig.device(&people[1], 0, rig.target()).await];

    let mut said = 0;
    for restarted in [false, true] {
        assert!(say(&devices, c, &mut said, 2).await.iter().all(Result::is_ok));
        disk.fill(256 << 10);
        let mut refused = 0;
        while refused < 40 {
            for answer in say(&devices, c, &mut said, 16).await {
                match answer {
                    Ok(_) => {}
                    Err(Failed::Refused { code: Code::Unavailable, .. }) => refused += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            assert!(said < 500, "the disk never fills");
        }
        // a batch may find no room where less would fit
        disk.fill(0);
        ready(&rig, false).await;
        if restarted {
            rig.restart();
            ready(&rig, false).await;
        }
        // who knows a password or a token gets as far as reading
        devices[0].live(PATIENCE).await.unwrap();
        let login = crowd::another(&rig.rest, &people[0], 1).await;
        // its rows are small: they may still fit where a post does not
        let refused = login.err().and_then(|failed| failed.code());
        assert!(refused.is_none_or(|code| code == Code::Unavailable), "{refused:?}");
        let log = read_log(&rig.rest, &devices[0].access_token(), c, "on a full disk").await.unwrap();
        println!("restarted: {restarted}; of {said} posts {} are stored and readable", log.head - 1);

        disk.empty();
        ready(&rig, true).await;
        assert!(say(&devices, c, &mut said, 2).await.iter().all(Result::is_ok));
        crowd::another(&rig.rest, &people[0], 1).await.unwrap();
    }
    rig.restart();
    let devices = people.iter().zip(&devices).map(|(user, device)| (user.user.id, device)).collect();
    let logs = rig.settle(&[Part { c, devices }]).await;
    judge("disk", &rig.history(logs));
}

/// `n` posts at once, and what becomes of each. One that is refused is not tried again.
async fn say(devices: &[Device; 2], c: ConversationId, said: &mut usize, n: usize) -> Vec<Result<push::Sent, Failed>> {
    let begun = Instant::now();
    let posts = (0..n).map(|_| {
        *said += 1;
        let send = post(c, &format!("n{said}"), &"x".repeat(8000));
        let device = &devices[*said % 2];
        async move { device.live(PATIENCE).await.unwrap().request(Verb::Send(send)).await }
    });
    let answers = futures_util::future::join_all(posts).await;
    assert!(begun.elapsed() < PATIENCE, "{answers:?} after {:?}", begun.elapsed());
    answers
}

/// Waits until the node says that it is ready, or that it is not.
async fn ready(rig: &Rig, wanted: bool) {
    let begun = Instant::now();
    loop {
        let answer = tokio::task::block_in_place(|| support::get(rig.node.admin_address(), "/ready"));
        if (answer.status == 200) == wanted {
            println!("{} {} after {:?}", answer.status, answer.body.trim(), begun.elapsed());
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{} {}", answer.status, answer.body);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
