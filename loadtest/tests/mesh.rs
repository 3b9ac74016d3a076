//! Do the wires between processes know who dials, and cut only what they say? Against processes that say what they are
//! told and write down what they hear.
#![allow(clippy::unwrap_used)]

use std::{process::Stdio, time::Duration};

use loadtest::proxy::Mesh;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough to see that nothing comes.
const A_MOMENT: Duration = Duration::from_millis(200);
/// Dials its first argument; what it is told it says there, what it hears there it tells.
const DIALS: &str = r#"exec 3<>"/dev/tcp/127.0.0.1/$1"; cat <&3 & cat >&3; wait"#;

/// Both ends of what a process has dialled.
struct Call {
    _dialler: Child,
    tell: ChildStdin,
    told: Lines<BufReader<ChildStdout>>,
    say: OwnedWriteHalf,
    said: Lines<BufReader<OwnedReadHalf>>,
}

async fn call(mesh: &Mesh, from: &str, to: usize, server: &TcpListener) -> Call {
    let mut dialler = Command::new("bash")
        .args(["-c", DIALS, from, &mesh.address(to).port().to_string(), from])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (tell, told) = (dialler.stdin.take().unwrap(), dialler.stdout.take().unwrap());
    let (accepted, _): (TcpStream, _) = timeout(PATIENCE, server.accept()).await.unwrap().unwrap();
    let (said, say) = accepted.into_split();
    let (told, said) = (BufReader::new(told).lines(), BufReader::new(said).lines());
    Call { _dialler: dialler, tell, told, say, said }
}

impl Call {
    /// Whether what the dialler says arrives, and what it is answered.
    async fn works(&mut self) -> (bool, bool) {
        self.tell.write_all(b"there\n").await.unwrap();
        self.say.write_all(b"back\n").await.unwrap();
        let (said, told) =
            tokio::join!(timeout(A_MOMENT, self.said.next_line()), timeout(A_MOMENT, self.told.next_line()));
        (said.is_ok(), told.is_ok())
    }

    /// All that was held comes, in order, once each.
    async fn hears(&mut self, there: usize, back: usize) {
        for _ in 0..there {
            assert_eq!(timeout(PATIENCE, self.said.next_line()).await.unwrap().unwrap().unwrap(), "there");
        }
        for _ in 0..back {
            assert_eq!(timeout(PATIENCE, self.told.next_line()).await.unwrap().unwrap().unwrap(), "back");
        }
    }
}

#[tokio::test]
async fn a_cut_concerns_the_two_it_is_between_in_its_direction_whoever_dialled() {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let names = ["--a", "--b", "--c"];
    let known = |n: usize| (names[n].to_owned(), servers[n].local_addr().unwrap().to_string());
    let mesh = Mesh::start(&[known(0), known(1), known(2)]).unwrap();
    let mut a_to_b = call(&mesh, "--a", 1, &servers[1]).await;
    let mut b_to_a = call(&mesh, "--b", 0, &servers[0]).await;
    let mut c_to_b = call(&mesh, "--c", 1, &servers[1]).await;
    assert_eq!(
        (a_to_b.works().await, b_to_a.works().await, c_to_b.works().await),
        ((true, true), (true, true), (true, true))
    );

    mesh.cut(0, 1);
    assert_eq!(
        (a_to_b.works().await, b_to_a.works().await, c_to_b.works().await),
        ((false, true), (true, false), (true, true))
    );
    mesh.part(0, 1);
    assert_eq!(
        (a_to_b.works().await, b_to_a.works().await, c_to_b.works().await),
        ((false, false), (false, false), (true, true))
    );

    mesh.mend();
    a_to_b.hears(2, 1).await;
    b_to_a.hears(1, 2).await;
    assert_eq!((a_to_b.works().await, b_to_a.works().await), ((true, true), (true, true)));

    mesh.reset(0, 1);
    assert!(matches!(timeout(PATIENCE, a_to_b.said.next_line()).await.unwrap(), Err(_) | Ok(None)));
    assert_eq!(c_to_b.works().await, (true, true));
}
