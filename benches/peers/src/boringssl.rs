//! `jwt-simple` on BoringSSL, in a process of its own: BoringSSL and OpenSSL have the same names, so
//! that one program cannot hold both. The benchmark starts it with the name of an algorithm and says
//! how often to `sign` or `verify`; it answers with nanoseconds of the thread's CPU time.
#![allow(clippy::print_stdout)]

use std::io::BufRead as _;

use jwt_simple_15 as jwt_simple;
use mintage::codec::algorithm::Algorithm;
use peer::{Keys, time};
use support::Made;

#[path = "../benches/peers/jwt_simple.rs"]
mod on_jwt_simple;
mod peer;
#[path = "../../support/mod.rs"]
mod support;

fn main() -> Made<()> {
    let name = std::env::args().nth(1).ok_or("usage: boringssl ALGORITHM")?;
    let keys = Keys::new(Algorithm::from_name(&name).ok_or("no such algorithm")?)?;
    let mut peer = on_jwt_simple::peer("jwt-simple 0.15.0 (BoringSSL)", &keys)?;
    peer.check(&keys)?;
    println!("{}", peer.name);
    let (mut sign, mut verify) = peer.runs(&keys);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (operation, runs) = line.split_once(' ').ok_or("neither sign nor verify")?;
        let run = if operation == "sign" { &mut sign } else { &mut verify };
        println!("{}", time(run, runs.parse()?).as_nanos());
    }
    Ok(())
}
