//! Forged tokens of every kind, against a ring whose keys the test holds.

use serde_json::{Value, json};

use super::*;

const NOW: Millis = Millis(1_800_000_000_000);
const USER: UserId = UserId([1; 16]);
const SESSION: SessionId = SessionId([2; 16]);

fn pkcs8(seed: u8) -> Vec<u8> {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap().to_pkcs8().unwrap().as_ref().to_vec()
}

fn ring(seeds: &[u8]) -> Ring {
    Ring { keys: seeds.iter().map(|seed| Key::new(&pkcs8(*seed), NOW).unwrap()).collect() }
}

fn header() -> Header {
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some(TYPE.to_owned());
    header.kid = Some(ring(&[1]).keys[0].kid.clone());
    header
}

fn claims() -> Value {
    let now = NOW.0 / 1000;
    json!({"iss": "starling", "aud": "starling", "sub": USER, "sid": SESSION, "iat": now, "nbf": now, "exp": now + 900})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn signed(header: &Header, claims: &Value, seed: u8) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_ed_der(&pkcs8(seed))).unwrap()
}

fn verify(token: &str) -> Result<Caller, Refusal> {
    ring(&[1]).verify(token, "starling", NOW)
}

#[test]
fn a_token_of_ours_names_its_caller() {
    let token = ring(&[1]).sign("starling", USER, SESSION, NOW, 900).unwrap();
    assert_eq!(verify(&token), Ok(Caller { user: USER, session: SESSION, expires_at: Millis(NOW.0 + 900_000) }));
    assert!(verify(&signed(&header(), &claims(), 1)).is_ok(), "the forgeries below differ from this in one thing each");
}

#[test]
fn a_token_without_a_signature_is_forged() {
    let token = signed(&header(), &claims(), 1);
    let [_, body, _] = token.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    for alg in ["none", "None", "NONE", ""] {
        let head = json!({"alg": alg, "typ": TYPE, "kid": ring(&[1]).keys[0].kid});
        let head = URL_SAFE_NO_PAD.encode(head.to_string());
        assert_eq!(verify(&format!("{head}.{body}.")), Err(Refusal::Forged));
        assert_eq!(verify(&format!("{head}.{body}")), Err(Refusal::Forged));
    }
}

#[test]
fn a_token_signed_with_the_public_key_as_a_password_is_forged() {
    let ring = ring(&[1]);
    let public = &ring.keys[0].public;
    for secret in [public.clone(), URL_SAFE_NO_PAD.encode(public).into_bytes()] {
        let mut header = header();
        header.alg = Algorithm::HS256;
        let token = jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(&secret)).unwrap();
        assert_eq!(verify(&token), Err(Refusal::Forged));
    }
}

#[test]
fn a_token_signed_with_another_key_under_our_kid_is_forged() {
    assert_eq!(verify(&signed(&header(), &claims(), 9)), Err(Refusal::Forged));
}

#[test]
fn a_token_of_an_unknown_key_is_told_apart_so_that_keys_are_read_again() {
    let header = Header { kid: Some("elsewhere".to_owned()), ..header() };
    assert_eq!(verify(&signed(&header, &claims(), 1)), Err(Refusal::UnknownKey));
    let header = Header { kid: None, ..header };
    assert_eq!(verify(&signed(&header, &claims(), 1)), Err(Refusal::Forged));
}

#[test]
fn a_token_that_brings_its_own_key_is_forged() {
    let mut header = header();
    header.jwk = serde_json::from_value(ring(&[9]).jwks()["keys"][0].clone()).unwrap();
    assert_eq!(verify(&signed(&header, &claims(), 9)), Err(Refusal::Forged));
}

#[test]
fn a_token_of_another_type_is_forged() {
    for typ in [None, Some("JWT"), Some("rt+jwt"), Some("AT+JWT")] {
        let header = Header { typ: typ.map(str::to_owned), ..header() };
        assert_eq!(verify(&signed(&header, &claims(), 1)), Err(Refusal::Forged), "{typ:?}");
    }
    let header = Header { crit: Some(vec!["exp".to_owned()]), ..header() };
    assert_eq!(verify(&signed(&header, &claims(), 1)), Err(Refusal::Forged), "crit");
}

#[test]
fn a_token_with_a_wrong_or_missing_claim_is_forged() {
    let wrong = [
        with("iss", json!("other")),
        with("aud", json!("other")),
        with("aud", json!(["other"])),
        with("sub", json!("c_00000000000000000000000000000001")),
        with("sub", json!(7)),
        with("sid", json!("")),
        with("exp", json!("soon")),
        with("exp", json!(-1)),
        with("nbf", json!(null)),
    ];
    let missing = ["iss", "aud", "sub", "sid", "exp", "nbf"].map(without);
    for claims in wrong.into_iter().chain(missing) {
        assert_eq!(verify(&signed(&header(), &claims, 1)), Err(Refusal::Forged), "{claims}");
    }
}

#[test]
fn a_token_lives_from_nbf_to_exp_give_or_take_five_seconds() {
    let now = NOW.0 / 1000;
    for (name, at, outcome) in [
        ("exp", now - 4, true),
        ("exp", now - 5, false),
        ("nbf", now + 5, true),
        ("nbf", now + 6, false),
        ("exp", 0, false),
    ] {
        let verified = verify(&signed(&header(), &with(name, json!(at)), 1));
        assert_eq!(verified.is_ok(), outcome, "{name} {at}");
        assert!(outcome || verified == Err(Refusal::Expired));
    }
}

#[test]
fn a_token_over_4_kib_is_not_even_read() {
    let token = signed(&header(), &with("pad", json!("x".repeat(TOKEN_BYTES_MAX))), 1);
    assert_eq!(verify(&token), Err(Refusal::Forged));
}

#[test]
fn a_token_changed_anywhere_or_cut_short_is_refused() {
    let token = signed(&header(), &claims(), 1);
    for at in 0..token.len() {
        assert!(verify(&token[..at]).is_err(), "cut at {at}");
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert!(verify(&String::from_utf8(changed).unwrap()).is_err(), "changed at {at}");
    }
    for garbage in ["", ".", "..", "...", "a.b.c", "\u{0}", "🙂.🙂.🙂"] {
        assert_eq!(verify(garbage), Err(Refusal::Forged), "{garbage:?}");
    }
}

#[test]
fn a_clock_set_back_by_a_minute_locks_nobody_out() {
    let token = ring(&[1]).sign("starling", USER, SESSION, NOW, 900).unwrap();
    assert!(ring(&[1]).verify(&token, "starling", Millis(NOW.0 - 60_000)).is_ok());
    assert_eq!(ring(&[1]).verify(&token, "starling", Millis(NOW.0 - 3_600_000)), Err(Refusal::Expired));
}

#[test]
fn the_key_set_shows_public_halves_only() {
    let jwks = ring(&[1, 2]).jwks();
    for key in jwks["keys"].as_array().unwrap() {
        let mut names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x"]);
    }
}
