//! Bytes that are no WebSocket and no HTTP, and connections that end in the middle of something.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use super::Bystanders;
use crate::{
    house::{House, Person},
    support,
};

/// A connection after the upgrade, by hand.
pub(crate) fn upgrade(house: &House, extra: &str) -> TcpStream {
    let mut tcp = support::connect(house.address());
    let request = format!(
        "GET /v1/ws HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{extra}\r\n",
        house.address()
    );
    tcp.write_all(request.as_bytes()).unwrap();
    assert_eq!(support::answer(&mut tcp).status, 101);
    tcp
}

/// A frame with a mask of zeros, which leaves the bytes as they are.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(length @ 0..=125) => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

fn live(who: &Person) -> TcpStream {
    let mut tcp = upgrade(&who.house, "");
    let hello = format!(r#"{{"t":"hello","id":1,"d":{{"token":"{}","device":"raw"}}}}"#, who.access);
    tcp.write_all(&frame(0x81, hello.as_bytes())).unwrap();
    let (opcode, payload) = read_frame(&mut tcp).unwrap();
    assert_eq!(opcode, 1, "{}", String::from_utf8_lossy(&payload));
    tcp
}

fn read_frame(tcp: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    tcp.read_exact(&mut head)?;
    let length = match head[1] & 0x7f {
        126 => {
            let mut length = [0; 2];
            tcp.read_exact(&mut length)?;
            u16::from_be_bytes(length).into()
        }
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    tcp.read_exact(&mut payload)?;
    Ok((head[0] & 0x0f, payload))
}

/// The code of the close frame that comes next but for text; `None` if the connection ends without one.
pub(crate) fn close_code(tcp: &mut TcpStream) -> Option<u16> {
    loop {
        match read_frame(tcp) {
            Ok((8, payload)) => return payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]])),
            Ok(_) => {}
            Err(error) => {
                assert!(!matches!(error.kind(), std::io::ErrorKind::WouldBlock), "the node keeps it open");
                return None;
            }
        }
    }
}

#[tokio::test]
async fn broken_websocket_frames_close_that_socket_alone() {
    let house = House::shared();
    let mut bystanders = Bystanders::of(&house).await;
    let unmasked = [0x81, 0x02, b'{', b'}'];
    let mut too_long = vec![0x81, 0x80 | 127];
    too_long.extend(u64::MAX.to_be_bytes());
    too_long.extend([0; 4]);
    let mut large = vec![0x81, 0x80 | 127];
    large.extend((1u64 << 40).to_be_bytes());
    large.extend([0; 4]);
    let broken: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("no mask", unmasked.to_vec(), &[4500]),
        ("a reserved bit", frame(0xC1, b"{}"), &[4500]),
        ("a reserved opcode", frame(0x83, b"{}"), &[4500]),
        ("a reserved control opcode", frame(0x8B, b"{}"), &[4500]),
        ("a continuation of nothing", frame(0x80, b"{}"), &[4500]),
        ("a second start", [frame(0x01, b"{"), frame(0x01, b"}")].concat(), &[4500]),
        ("a control frame in parts", frame(0x09, b"x"), &[4500]),
        ("a control frame that is too long", frame(0x89, &[b'x'; 126]), &[4500]),
        ("text that is not UTF-8", frame(0x81, &[0xff, 0xfe]), &[4500]),
        ("a close code that is none", frame(0x88, &[0, 1]), &[4500, 1002]),
        ("a close frame of one byte", frame(0x88, &[3]), &[4500, 1002]),
        ("a length beyond all bounds", too_long, &[4500, 4509]),
        ("a length of a terabyte", large, &[4509]),
        ("plain HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), &[4500]),
        ("TLS", vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc], &[4500]),
    ];
    for (name, bytes, codes) in broken {
        let mut tcp = live(&bystanders.ann);
        tcp.write_all(&bytes).unwrap();
        let code = close_code(&mut tcp);
        assert!(code.is_some_and(|code| codes.contains(&code)), "{name}: {code:?}");
        // before hello as well
        let mut tcp = upgrade(&house, "");
        tcp.write_all(&bytes).unwrap();
        let code = close_code(&mut tcp);
        assert!(code.is_some_and(|code| codes.contains(&code)), "{name}, before hello: {code:?}");
    }
    // a message in more parts than allowed bytes
    let mut tcp = live(&bystanders.ann);
    tcp.write_all(&frame(0x01, &[b' '; 60_000])).unwrap();
    tcp.write_all(&frame(0x00, &[b' '; 60_000])).unwrap();
    assert_eq!(close_code(&mut tcp), Some(4509));
    bystanders.chat().await;
}

#[tokio::test]
async fn a_message_in_parts_with_pings_between_is_a_message() {
    let house = House::shared();
    let ann = house.person().await;
    let mut tcp = live(&ann);
    let message = br#"{"t":"nothing","id":5,"d":{}}"#;
    let mut bytes = frame(0x01, &message[..1]);
    for byte in &message[1..message.len() - 1] {
        bytes.extend(frame(0x89, b"are you there"));
        bytes.extend(frame(0x00, &[*byte]));
    }
    bytes.extend(frame(0x80, &message[message.len() - 1..]));
    // one byte at a time, as the worst network would
    for byte in bytes {
        tcp.write_all(&[byte]).unwrap();
    }
    let answer = loop {
        match read_frame(&mut tcp).unwrap() {
            (1, payload) => break String::from_utf8(payload).unwrap(),
            (10, payload) => assert_eq!(payload, b"are you there"),
            other => panic!("{other:?}"),
        }
    };
    assert!(answer.contains("unknown_type") && answer.contains("\"id\":5"), "{answer}");
    tcp.write_all(&frame(0x88, &1000u16.to_be_bytes())).unwrap();
    assert_eq!(close_code(&mut tcp), Some(1000), "a client's goodbye is answered");
}

#[tokio::test]
async fn http_that_is_none_is_refused_and_closed() {
    let house = House::shared();
    let mut bystanders = Bystanders::of(&house).await;
    let request = |head: &str, body: &str| format!("{head}\r\nhost: x\r\n\r\n{body}").into_bytes();
    let long = "x".repeat(20_000);
    let broken: Vec<(&str, Vec<u8>)> = vec![
        ("garbage", b"\x00\x01\x02\xff\xfe\r\n\r\n".to_vec()),
        ("half a word", b"GE".to_vec()),
        ("no version", b"GET /v1/users/me\r\n\r\n".to_vec()),
        ("a version that is none", request("GET / HTTP/9.9", "")),
        ("HTTP/2 straight away", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("a header without a colon", request("GET / HTTP/1.1\r\nnonsense", "")),
        ("a header with a zero", request("GET / HTTP/1.1\r\nx: \0", "")),
        ("a header that goes on", request("GET / HTTP/1.1\r\nx: 1\r\n y: 2", "")),
        ("a long header", request(&format!("GET / HTTP/1.1\r\nx: {long}"), "")),
        ("a long path", request(&format!("GET /{long} HTTP/1.1"), "")),
        ("many headers", request(&format!("GET / HTTP/1.1{}", "\r\nx: y".repeat(500)), "")),
        ("two lengths", request("POST /v1/auth/login HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 3", "{}x")),
        ("a length that is none", request("POST /v1/auth/login HTTP/1.1\r\ncontent-length: -1", "{}")),
        (
            "length and chunks",
            request("POST /v1/auth/login HTTP/1.1\r\ncontent-length: 2\r\ntransfer-encoding: chunked", "0\r\n\r\n"),
        ),
        (
            "broken chunks",
            request(
                "POST /v1/auth/login HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked",
                "zz\r\n",
            ),
        ),
    ];
    for (name, bytes) in broken {
        let mut tcp = support::connect(house.address());
        tcp.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        // a reset is an end as well
        let _ = tcp.shutdown(std::net::Shutdown::Write);
        let _ = tcp.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{name}: {answer}");
        bystanders.chat().await;
    }
    let huge = format!("{{\"login\":\"{}\"}}", "x".repeat(70_000));
    let refused = support::post(house.address(), "/v1/auth/login", &huge);
    assert_eq!((refused.status, refused.code().as_str()), (413, "too_large"));
    for (body, code) in [("", "bad_field"), ("{", "bad_frame"), ("[]", "bad_field"), ("null", "bad_field")] {
        let refused = support::post(house.address(), "/v1/auth/login", body);
        assert_eq!((refused.status, refused.code().as_str()), (400, code), "{body}");
    }
    let bytes = b"POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n\xff\xfe";
    assert_eq!(support::raw(house.address(), bytes).status, 400);
    let deep = "[".repeat(60_000);
    assert_eq!(support::post(house.address(), "/v1/auth/login", &format!("{{\"login\":{deep}")).status, 400);
}

/// Bytes resident, from what the system says of the process.
fn resident_bytes(house: &House) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", house.pid())).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn descriptors(house: &House) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", house.pid())).unwrap().count()
}

#[tokio::test]
async fn g15_what_hostile_clients_took_comes_back() {
    let house = House::start(&[]);
    let mut bystanders = Bystanders::of(&house).await;
    let round = |ann: &Person| {
        let mut open = Vec::new();
        for n in 0..60 {
            let mut silent = support::connect(house.address());
            let mut half_head = support::connect(house.address());
            half_head.write_all(b"POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-le").unwrap();
            let mut half_body = support::connect(house.address());
            half_body
                .write_all(b"POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n{")
                .unwrap();
            let mut half_hello = upgrade(&house, "");
            half_hello.write_all(&frame(0x81, &[b' '; 60_000])[..50_000]).unwrap();
            let mut half_frame = live(ann);
            half_frame.write_all(&frame(0x81, &[b' '; 60_000])[..50_000]).unwrap();
            if n % 2 == 0 {
                silent.write_all(b"\x16\x03\x01").unwrap();
            }
            open.extend([silent, half_head, half_body, half_hello, half_frame]);
        }
        open
    };
    // once, so that what a first use allocates for good is there
    drop(round(&bystanders.ann));
    bystanders.chat().await;
    settle(&house, 60).await;
    let (resident, open) = (resident_bytes(&house), descriptors(&house));
    for _ in 0..3 {
        let taken = round(&bystanders.ann);
        bystanders.chat().await;
        drop(taken);
        settle(&house, open + 10).await;
    }
    bystanders.chat().await;
    let grown = resident_bytes(&house).saturating_sub(resident);
    println!("{open} descriptors, {resident} bytes before; {grown} bytes more after");
    assert!(grown < 16 << 20, "{grown} bytes more after");
}

/// Waits until the process has no more descriptors than this.
async fn settle(house: &House, descriptors_max: usize) {
    let started = std::time::Instant::now();
    while descriptors(house) > descriptors_max {
        assert!(started.elapsed() < crate::wire::PATIENCE, "{} descriptors are still open", descriptors(house));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
