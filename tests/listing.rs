//! Laws of the listing of logins.

mod support;

use mintage::authority::{Client, Cursor, Error, TokenFormat};
use support::{Bed, Opener, START, Tested, access_token, refresh_token};

laws![
    a_row_says_what_stands_and_no_secret,
    pages_hold_every_login_once,
    dead_logins_are_not_listed,
    a_delete_handle_ends_its_login_alone,
    what_is_no_delete_handle_is_refused,
    uses_are_counted,
    a_cursor_survives_its_text,
];

fn a_row_says_what_stands_and_no_secret(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let client = Client::public("app").name("The App").scopes(["api", "refresh_token"]);
    let (client, _) = bed.register(client)?;
    let issued = bed.issue("ann", &client)?;
    let page = bed.authority().grants().of_subject("ann").page(10).wait()?;
    assert!(page.next.is_none());
    let [row] = &page.grants[..] else { return Err("not one row".into()) };
    assert_eq!((row.grant, row.family), (issued.grant, issued.family));
    assert_eq!((row.client_id.as_str(), row.client_name.as_str()), ("app", "The App"));
    assert_eq!((row.subject.as_str(), row.scope.as_str()), ("ann", "api refresh_token"));
    assert_eq!((row.created_at.0, row.refreshable), (START, true));
    let shown = format!("{row:?}");
    assert!(!shown.contains(row.delete_handle.expose()));
    assert!(row.delete_handle.expose().starts_with("mdt_mintage_"));
    let same = bed.authority().grants().of_client(&client).page(10).wait()?;
    assert_eq!(same.grants[0].delete_handle, row.delete_handle);
    Ok(())
}

fn pages_hold_every_login_once(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, _) = bed.app("app", TokenFormat::Opaque)?;
    let mut expected = Vec::new();
    for number in 0..25 {
        expected.push(bed.issue(&format!("user-{}", number % 10), &client)?.family);
    }
    for rows in [1, 3, 7, 25, 500] {
        let mut seen = Vec::new();
        let mut cursor: Option<Cursor> = None;
        loop {
            let list = bed.authority();
            let list = list.grants().of_client(&client);
            let list = match cursor {
                Some(cursor) => list.after(cursor),
                None => list,
            };
            let page = list.page(rows).wait()?;
            assert!(page.grants.len() <= rows);
            cursor = page.next.clone();
            seen.extend(page.into_iter().map(|row| row.family));
            if cursor.is_none() {
                break;
            }
        }
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected, "{rows} rows a page");
    }
    Ok(())
}

fn dead_logins_are_not_listed(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, _) = bed.app("app", TokenFormat::Opaque)?;
    let dead = bed.issue("ann", &client)?;
    let alive = bed.issue("ann", &client)?;
    bed.authority().revoke(mintage::authority::Target::Family(dead.family)).wait()?;
    let page = bed.authority().grants().of_subject("ann").page(10).wait()?;
    assert_eq!(page.into_iter().map(|row| row.family).collect::<Vec<_>>(), [alive.family]);
    Ok(())
}

fn a_delete_handle_ends_its_login_alone(opener: impl Opener) -> Tested {
    let mut bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (client, _) = bed.app("app", TokenFormat::Jwt)?;
    let first = bed.issue("ann", &client)?;
    let second = bed.issue("ann", &client)?;
    let page = bed.authority().grants().of_subject("ann").page(10).wait()?;
    let handle = page.into_iter().find(|row| row.family == first.family);
    let handle = handle.ok_or("no row")?.delete_handle;
    bed.reopen()?;
    for _ in 0..2 {
        bed.authority().revoke_by_delete_handle(handle.expose()).wait()?;
        assert!(!bed.is_active(&access_token(&first), &auditor)?);
        assert!(!bed.is_active(&refresh_token(&first)?, &auditor)?);
        assert!(bed.is_active(&access_token(&second), &auditor)?);
    }
    // It opens nothing: it is no token.
    assert!(!bed.is_active(handle.expose(), &auditor)?);
    assert!(bed.authority().verify_live(handle.expose()).wait().is_err());
    Ok(())
}

fn what_is_no_delete_handle_is_refused(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, _) = bed.app("app", TokenFormat::Opaque)?;
    let issued = bed.issue("ann", &client)?;
    for text in ["", "mdt_mintage_AAAA", &refresh_token(&issued)?, &access_token(&issued)] {
        let refused = bed.authority().revoke_by_delete_handle(text).wait();
        assert!(matches!(refused, Err(Error::InvalidRequest(_))));
    }
    Ok(())
}

fn uses_are_counted(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let auditor = bed.auditor()?;
    let (client, caller) = bed.app("app", TokenFormat::Opaque)?;
    let issued = bed.issue("ann", &client)?;
    let row = || {
        let page = bed.authority().grants().of_subject("ann").page(10).wait()?;
        page.into_iter().next().ok_or_else(|| Box::<dyn std::error::Error>::from("no row"))
    };
    let before = row()?;
    bed.clock.advance(5);
    assert!(bed.is_active(&access_token(&issued), &auditor)?);
    let used = row()?;
    assert!(used.use_count > before.use_count);
    assert_eq!(used.last_used_at.0, START + 5);
    bed.clock.advance(5);
    bed.refresh(&refresh_token(&issued)?, &caller)?;
    let refreshed = row()?;
    assert!(refreshed.use_count > used.use_count);
    assert_eq!(refreshed.last_used_at.0, START + 10);
    Ok(())
}

fn a_cursor_survives_its_text(opener: impl Opener) -> Tested {
    let bed = Bed::new(opener)?;
    let (client, _) = bed.app("app", TokenFormat::Opaque)?;
    for _ in 0..3 {
        bed.issue("ann", &client)?;
    }
    let page = bed.authority().grants().of_subject("ann").page(2).wait()?;
    let cursor = page.next.ok_or("no next page")?;
    let read = Cursor::from_text(&cursor.to_text())?;
    assert_eq!(read, cursor);
    let rest = bed.authority().grants().of_subject("ann").after(read).page(2).wait()?;
    assert_eq!(rest.grants.len(), 1);
    assert!(Cursor::from_text("~").is_err() && Cursor::from_text(&"A".repeat(4_096)).is_err());
    let refused = bed.authority().grants().of_subject("a\n").page(1).wait();
    assert!(matches!(refused, Err(Error::InvalidRequest(_))));
    let bad = Cursor::from_text("AAAA")?;
    assert!(bed.authority().grants().of_subject("ann").after(bad).page(1).wait().is_err());
    Ok(())
}
