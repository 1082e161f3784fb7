//! More than one process: forks, copies, and two at one directory. It has a `main` of its own, since
//! only a process with one thread can be forked soundly.
//!
//! `MINTAGE_FORKS` sets how many children mint (default 100; 1,000 in `.ci/run`).
#![allow(unsafe_code, clippy::print_stdout)]

mod store_support;
mod support;

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mintage::authority::{Authority, Client, Issue, Target, TokenFormat};
use mintage::entropy::SeededEntropy;
use mintage::ids::ClientId;
use mintage::store::{DurableOptions, MemoryStore, PairPolicy, Store, StoreError};
use store_support::{Bench, TempDir, clock, durable, pair};
use support::{ISSUER, Tested, access_token, payload, refresh_token, root};

const CHILD: &str = "MINTAGE_PROCESSES_CHILD";
const TOKENS_EACH: usize = 100;
const AT_ONCE: usize = 8;

fn forks() -> usize {
    std::env::var("MINTAGE_FORKS").ok().and_then(|n| n.parse().ok()).unwrap_or(100)
}

fn main() -> Tested {
    if let Ok(role) = std::env::var(CHILD) {
        return child(&role);
    }
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    type Test = fn() -> Tested;
    let tests: [(&str, Test); 7] = [
        ("forked_children_mint_no_token_twice", forked_children_mint_no_token_twice),
        ("a_source_that_a_fork_copies_is_caught", a_source_that_a_fork_copies_is_caught),
        ("processes_mint_no_token_twice", processes_mint_no_token_twice),
        ("a_second_process_is_refused_at_once", a_second_process_is_refused_at_once),
        ("a_forked_child_writes_nothing", a_forked_child_writes_nothing),
        (
            "a_forked_child_does_not_let_the_directory_go",
            a_forked_child_does_not_let_the_directory_go,
        ),
        ("two_authorities_do_not_disturb_each_other", two_authorities_do_not_disturb_each_other),
    ];
    for (name, test) in tests {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            test()?;
            println!("test {name} ... ok");
        }
    }
    Ok(())
}

/// Forks, and runs `work` in the child, whose exit code says whether it went well.
fn fork(work: impl FnOnce() -> Tested) -> libc::pid_t {
    // SAFETY: the process has one thread here, or the child touches nothing that another may hold
    // (said where that is so); it ends with `_exit`, so that nothing of the parent's is torn down.
    match unsafe { libc::fork() } {
        0 => {
            let well = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            let code = i32::from(!matches!(well, Ok(Ok(()))));
            unsafe { libc::_exit(code) }
        }
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        child => child,
    }
}

/// The exit code of a child.
fn reap(child: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: waits for a child of this process, into a number of this frame.
    let reaped = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(reaped, child);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 }
}

/// What a child minted, 16 bytes each: a hash of every token, and of the `jti` of every JWT.
fn mint(
    authority: &Authority<MemoryStore>,
    clients: &[ClientId],
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut minted = Vec::new();
    let mut note =
        |text: &str| minted.extend_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
    for n in 0..TOKENS_EACH {
        let issued = authority.issue(Issue::to(format!("user-{n}"), &clients[n % 2])).wait()?;
        note(&access_token(&issued));
        note(&refresh_token(&issued)?);
        if n % 2 == 1 {
            let text = payload(&access_token(&issued))?.to_owned();
            let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text)?;
            let claims: serde_json::Value = serde_json::from_slice(&bytes)?;
            note(claims["jti"].as_str().ok_or("no jti")?);
        }
    }
    Ok(minted)
}

const HASHES_EACH: usize = TOKENS_EACH * 2 + TOKENS_EACH / 2;

fn in_memory(
    seeded: bool,
) -> Result<(Authority<MemoryStore>, Vec<ClientId>), Box<dyn std::error::Error>> {
    let builder = Authority::builder(ISSUER);
    let builder = if seeded { builder.entropy(SeededEntropy::new(1)) } else { builder };
    let authority = builder.in_memory(root())?;
    let mut clients = Vec::new();
    for (name, format) in [("opaque", TokenFormat::Opaque), ("jwt", TokenFormat::Jwt)] {
        let client = Client::public(name).scopes(["refresh_token"]).format(format);
        clients.push(authority.register(client).wait()?.client_id);
    }
    Ok((authority, clients))
}

/// How many of what `children` forks minted was minted before.
fn duplicates(children: usize, seeded: bool) -> Result<usize, Box<dyn std::error::Error>> {
    let dir = TempDir::new("forks");
    std::fs::create_dir_all(dir.path())?;
    let minted = dir.path().join("minted");
    let (authority, clients) = in_memory(seeded)?;
    // Whatever is buffered is buffered by now.
    mint(&authority, &clients)?;
    File::create(&minted)?;
    let mut begun = 0;
    while begun < children {
        let batch: Vec<_> = (begun..children.min(begun + AT_ONCE))
            .map(|_| {
                fork(|| {
                    let bytes = mint(&authority, &clients)?;
                    OpenOptions::new().append(true).open(&minted)?.write_all(&bytes)?;
                    Ok(())
                })
            })
            .collect();
        begun += batch.len();
        assert!(batch.into_iter().all(|child| reap(child) == 0), "a child failed");
    }
    let bytes = std::fs::read(&minted)?;
    let all: Vec<&[u8]> = bytes.chunks(16).collect();
    assert_eq!(all.len(), children * HASHES_EACH);
    let distinct: HashSet<&[u8]> = all.iter().copied().collect();
    Ok(all.len() - distinct.len())
}

/// Children of one process, forked with its counters, keys and source of randomness as they stood.
fn forked_children_mint_no_token_twice() -> Tested {
    assert_eq!(duplicates(forks(), false)?, 0);
    Ok(())
}

/// A source whose state a fork copies gives every child the same tokens, and this test says so.
fn a_source_that_a_fork_copies_is_caught() -> Tested {
    assert!(duplicates(2, true)? > TOKENS_EACH);
    Ok(())
}

fn executed(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.env(CHILD, role).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn child(role: &str) -> Tested {
    if role == "mint" {
        let (authority, clients) = in_memory(false)?;
        std::io::stdout().write_all(&mint(&authority, &clients)?)?;
        return Ok(());
    }
    let (verb, path) = role.split_once(' ').ok_or("no such role")?;
    match durable(path.as_ref(), &clock()) {
        Err(StoreError::Locked { holder, .. }) => print!("{holder}"),
        Err(other) => print!("{other:?}"),
        Ok(store) if verb == "hold" => {
            Bench { store: &store, clock: &clock() }.issue(&pair("app", "held"));
            println!("open");
            // Until it is killed, or whoever began it is gone.
            std::io::stdin().read_to_end(&mut Vec::new())?;
        }
        Ok(_) => print!("open"),
    }
    Ok(())
}

/// Processes that share nothing but the root key.
fn processes_mint_no_token_twice() -> Tested {
    let mut distinct = HashSet::new();
    let (mut begun, executions) = (0, forks() / 5);
    while begun < executions {
        let batch: Vec<_> = (begun..executions.min(begun + AT_ONCE))
            .map(|_| executed("mint").spawn())
            .collect::<Result<_, _>>()?;
        begun += batch.len();
        for child in batch {
            let minted = child.wait_with_output()?.stdout;
            assert_eq!(minted.len(), HASHES_EACH * 16);
            distinct.extend(minted.chunks(16).map(<[u8]>::to_vec));
        }
    }
    assert_eq!(distinct.len(), executions * HASHES_EACH);
    Ok(())
}

/// The second fails at once and says who has it; nothing changes for the first. A holder that was
/// killed holds nothing.
fn a_second_process_is_refused_at_once() -> Tested {
    let dir = TempDir::new("second");
    let clock = clock();
    let store = durable(dir.path(), &clock)?;
    let bench = Bench { store: &store, clock: &clock };
    let role = format!("open {}", dir.path().display());
    let me = format!("process {}", std::process::id());
    for n in 0..100 {
        let begun = Instant::now();
        let answer = executed(&role).output()?;
        assert_eq!(String::from_utf8(answer.stdout)?, me, "the {n}th");
        assert!(begun.elapsed() < Duration::from_secs(10), "it waited");
        let tokens = bench.issue(&pair("app", &format!("user-{n}")));
        assert!(bench.is_live(tokens.access));
    }
    store.close()?;
    let role = format!("hold {}", dir.path().display());
    let mut holder = executed(&role).stdin(Stdio::piped()).spawn()?;
    let mut said = [0; 5];
    holder.stdout.take().ok_or("no output")?.read_exact(&mut said)?;
    let refused = durable(dir.path(), &clock).err();
    assert!(matches!(refused, Some(StoreError::Locked { .. })), "{refused:?}");
    holder.kill()?;
    holder.wait()?;
    durable(dir.path(), &clock)?.close()?;
    Ok(())
}

/// A child that was forked from a process with an open store has the files and none of the threads:
/// it can write nothing, and ending leaves the parent's store as it was.
fn a_forked_child_writes_nothing() -> Tested {
    let dir = TempDir::new("forked");
    let clock = clock();
    let store = durable(dir.path(), &clock)?;
    let bench = Bench { store: &store, clock: &clock };
    let before = bench.issue(&pair("app", "before"));
    // The store's threads sleep: none of them holds a lock that the child would wait for.
    std::thread::sleep(Duration::from_millis(300));
    for round in 0..3 {
        let child = fork(|| {
            // SAFETY: ends the child if it should hang.
            unsafe { libc::alarm(20) };
            assert!(bench.is_live(before.access));
            let issued = bench.try_issue(&pair("app", "child"), PairPolicy::Unlimited, true);
            assert!(matches!(issued, Err(StoreError::Unknown(_))), "{issued:?}");
            let again = bench.try_issue(&pair("app", "child"), PairPolicy::Unlimited, true);
            assert!(matches!(again, Err(StoreError::ReadOnly)), "{again:?}");
            assert!(matches!(store.close(), Err(StoreError::Closed)));
            Ok(())
        });
        assert_eq!(reap(child), 0);
        let tokens = bench.issue(&pair("app", &format!("after-{round}")));
        assert!(bench.is_live(tokens.access));
        std::thread::sleep(Duration::from_millis(50));
    }
    let tokens = bench.issue(&pair("app", "last"));
    store.close()?;
    std::fs::remove_dir_all(dir.path().join("sled"))?;
    let store = durable(dir.path(), &clock)?;
    let bench = Bench { store: &store, clock: &clock };
    assert!(bench.is_live(before.access) && bench.is_live(tokens.access));
    assert_eq!(store.stats().families, 5, "the child's login was written");
    store.close()?;
    Ok(())
}

/// The lock is shared with the child: it must not go when the child drops its copy of the store.
fn a_forked_child_does_not_let_the_directory_go() -> Tested {
    let dir = TempDir::new("forked-lock");
    let clock = clock();
    let store = std::cell::Cell::new(Some(durable(dir.path(), &clock)?));
    std::thread::sleep(Duration::from_millis(300));
    let child = fork(|| {
        // SAFETY: ends the child if it should hang.
        unsafe { libc::alarm(20) };
        drop(store.take());
        Ok(())
    });
    assert_eq!(reap(child), 0);
    let second = durable(dir.path(), &clock);
    assert!(matches!(second, Err(StoreError::Locked { .. })), "{second:?}");
    store.take().expect("the parent has it still").close()?;
    durable(dir.path(), &clock)?.close()?;
    Ok(())
}

fn two_authorities_do_not_disturb_each_other() -> Tested {
    let (here, there) = (TempDir::new("here"), TempDir::new("there"));
    let open = |dir: &TempDir, key: u8| {
        let options = DurableOptions::default().segment_len(1 << 20);
        let root = mintage::root_key::RootKey::from_bytes(1, [key; 32]);
        Authority::builder(ISSUER).durable(options).open(dir.path(), root)
    };
    let (one, other) = (open(&here, 1)?, open(&there, 2)?);
    let client = |authority: &Authority| {
        authority.register(Client::public("app").scopes(["refresh_token"])).wait()
    };
    let (client_here, client_there) = (client(&one)?.client_id, client(&other)?.client_id);
    assert_eq!(client_here.as_str(), client_there.as_str(), "the same name in both");
    let work = |authority: &Authority, client: &ClientId| -> Vec<String> {
        let issue = |n| authority.issue(Issue::to(format!("user-{n}"), client)).wait();
        (0..200).map(|n| access_token(&issue(n).expect("an issue"))).collect()
    };
    let (mine, theirs) = std::thread::scope(|scope| {
        let mine = scope.spawn(|| work(&one, &client_here));
        let theirs = scope.spawn(|| work(&other, &client_there));
        (mine.join().expect("a thread"), theirs.join().expect("a thread"))
    });
    let live = |authority: &Authority, tokens: &[String]| {
        tokens.iter().filter(|token| authority.verify_live(token.as_str()).wait().is_ok()).count()
    };
    assert_eq!((live(&one, &mine), live(&other, &theirs)), (200, 200));
    assert_eq!((live(&one, &theirs), live(&other, &mine)), (0, 0), "a token of the other");
    one.revoke(Target::Everything).wait()?;
    assert_eq!((live(&one, &mine), live(&other, &theirs)), (0, 200));
    one.close()?;
    assert_eq!(live(&other, &theirs), 200);
    other.issue(Issue::to("late", &client_there)).wait()?;
    other.close()?;
    let other = open(&there, 2)?;
    assert_eq!(live(&other, &theirs), 200);
    Ok(())
}
