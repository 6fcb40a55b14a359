//! `serve`: the runs of a store in a browser. It only reads, and nothing outside the store.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path as At, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures::stream::try_unfold;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::AsyncReadExt as _;

use crate::ledger;
use crate::report::{STYLE, escape};
use crate::run::Store;

/// A file is sent in pieces of this size, bytes.
const PIECE: usize = 64 << 10;
/// What is escaped in a link, beyond what must be: nothing that has a meaning in a path.
const LINK: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'+');
/// No page may load anything or run a script, …
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// … but the one that steps through orders, whose script is its own.
const POLICY_SCRIPT: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'";
/// The page with a script.
const WITH_SCRIPT: &str = "linear.html";

/// Serves until interrupted.
///
/// # Errors
/// When the address can't be used, or the store is not there.
pub fn serve(root: &Path, listen: SocketAddr) -> anyhow::Result<()> {
    let router = router(root)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen)
            .await
            .with_context(|| format!("can't listen at {listen}; name another address with --listen"))?;
        println!("http://{}/ shows {}; Ctrl-C ends it", listener.local_addr()?, root.display());
        if !listen.ip().is_loopback() {
            println!("everybody who reaches this address can read the store");
        }
        let end = async { _ = tokio::signal::ctrl_c().await };
        axum::serve(listener, router).with_graceful_shutdown(end).await.context("can't serve")
    })
}

fn router(root: &Path) -> anyhow::Result<Router> {
    let root = root.canonicalize().with_context(|| format!("there is no store at {}", root.display()))?;
    Ok(Router::new().route("/", get(index)).route("/{*path}", get(below)).with_state(Arc::new(root)))
}

async fn index(State(root): State<Arc<PathBuf>>) -> Response {
    match runs(&root) {
        Ok(page) => with_policy(Html(page).into_response(), POLICY),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e:#}\n")).into_response(),
    }
}

/// The table of all runs, the newest first.
fn runs(root: &Path) -> anyhow::Result<String> {
    let entries = ledger::read(root)?;
    let mut page = head("Runs");
    let p = &mut page;
    let stores = Store::all(root);
    write!(
        p,
        "<h1>{} runs</h1><details><summary>Totals</summary><pre>{}</pre><a href='/ledger.jsonl'>ledger.jsonl</a></details>",
        stores.len(),
        escape(&ledger::table(&entries))
    )?;
    p.push_str("<table><tr><th>began (UTC)<th>verdict<th>workload<th>nemeses<th class=n>nodes<th class=n>time<th class=n>calls<th class=n>faults<th>version<th>files");
    for store in &stores {
        let Ok(test) = store.test() else { continue };
        let folder = store.dir().strip_prefix(root).unwrap_or(store.dir());
        let link = link(folder);
        let began = began(folder);
        let failed = || entries.iter().find(|e| Path::new(&e.folder) == folder).and_then(|e| e.failure.clone());
        let (verdict, calls, faults) = match store.results() {
            Ok(results) => {
                let name = results.verdict.name();
                let calls: u64 = results.calls.values().flat_map(|ends| ends.values()).sum();
                let faults: u64 = results.faults.values().sum();
                let verdict = format!("<a class={name} href='{link}/report.html'>{name}</a>");
                (verdict, calls.to_string(), faults.to_string())
            }
            Err(_) => match failed() {
                Some(why) => (format!("harness failure: {}", escape(&why)), String::new(), String::new()),
                None => ("under way, or interrupted".into(), String::new(), String::new()),
            },
        };
        let (workload, nemeses, version) =
            (escape(&test.workload), escape(&test.nemeses.join(", ")), escape(&test.version));
        write!(
            p,
            "<tr><td>{began}<td>{verdict}<td>{workload}<td>{nemeses}<td class=n>{}<td class=n>{} s<td class=n>{calls}<td class=n>{faults}\
             <td>{version}<td><a href='{link}'>folder</a>",
            test.nodes, test.seconds
        )?;
    }
    p.push_str("</table>");
    Ok(page)
}

/// `20261124T115738-7` → `2026-11-24 11:57:38`.
fn began(folder: &Path) -> String {
    let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let part = |range: std::ops::Range<usize>| name.get(range).unwrap_or_default();
    let [y, m, d] = [part(0..4), part(4..6), part(6..8)];
    let [h, min, s] = [part(9..11), part(11..13), part(13..15)];
    escape(&format!("{y}-{m}-{d} {h}:{min}:{s}"))
}

async fn below(State(root): State<Arc<PathBuf>>, At(path): At<String>) -> Response {
    let Some(file) = resolve(&root, &path) else {
        return (StatusCode::NOT_FOUND, "there is no such file in the store\n").into_response();
    };
    let answer = if file.is_dir() { listing(&root, &file) } else { send(&file).await };
    answer.unwrap_or_else(|e| (StatusCode::INTERNAL_SERVER_ERROR, format!("{e:#}\n")).into_response())
}

/// A file or folder of the store; `None` for everything else, also where a link leads out of it.
fn resolve(root: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    if !path.components().all(|c| matches!(c, Component::Normal(_))) {
        return None;
    }
    let real = root.join(path).canonicalize().ok()?;
    real.starts_with(root).then_some(real)
}

fn listing(root: &Path, folder: &Path) -> anyhow::Result<Response> {
    let name = folder.strip_prefix(root)?;
    let mut page = head(&name.display().to_string());
    let p = &mut page;
    write!(
        p,
        "<p><a href='/'>all runs</a></p><h1>{}</h1><table><tr><th>file<th class=n>bytes",
        escape(&name.display().to_string())
    )?;
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let data = entry.metadata()?;
        let (slash, size) = if data.is_dir() { ("/", String::new()) } else { ("", data.len().to_string()) };
        let (link, shown) = (link(&name.join(entry.file_name())), escape(&entry.file_name().display().to_string()));
        write!(p, "<tr><td><a href='{link}'>{shown}{slash}</a><td class=n>{size}")?;
    }
    p.push_str("</table>");
    Ok(with_policy(Html(page).into_response(), POLICY))
}

async fn send(path: &Path) -> anyhow::Result<Response> {
    let file = tokio::fs::File::open(path).await?;
    let length = file.metadata().await?.len();
    // As long as it was: a log may grow meanwhile.
    let pieces = try_unfold(file.take(length), |mut file| async move {
        let mut piece = Vec::with_capacity(PIECE);
        let read = (&mut file).take(PIECE as u64).read_to_end(&mut piece).await?;
        Ok::<_, std::io::Error>((read > 0).then_some((piece, file)))
    });
    let mut answer = Body::from_stream(pieces).into_response();
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(path)));
    answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    let script = path.file_name().is_some_and(|name| name == WITH_SCRIPT);
    Ok(with_policy(answer, if script { POLICY_SCRIPT } else { POLICY }))
}

fn media_type(path: &Path) -> &'static str {
    let ending = path.extension().or(path.file_name()).and_then(|e| e.to_str()).unwrap_or_default();
    match ending {
        "html" => "text/html; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" => "application/json",
        "edn" | "log" | "jsonl" | "sh" | "toml" | "txt" | "conf" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn with_policy(mut answer: Response, policy: &'static str) -> Response {
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn link(path: &Path) -> String {
    format!("/{}", utf8_percent_encode(&path.to_string_lossy(), LINK))
}

fn head(title: &str) -> String {
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>{}</title><style>{STYLE}</style>",
        escape(title)
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpStream;

    use super::*;
    use crate::run::Test;

    /// As it is: no client that tidies paths.
    async fn ask(at: SocketAddr, line: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        (said.split(' ').nth(1).unwrap().parse().unwrap(), said)
    }

    #[tokio::test]
    async fn runs_are_shown_and_nothing_outside_the_store() {
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret.txt");
        std::fs::write(&secret, "nobody's business").unwrap();
        let root = outside.path().join("store");
        let store = Store::create(&root, &Test { version: "<9>".into(), ..Test::sample() }).unwrap();
        std::fs::write(store.history(), "é".repeat(PIECE)).unwrap();
        std::os::unix::fs::symlink(&secret, store.dir().join("out.txt")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("up")).unwrap();

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let router = router(&root).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });

        let (code, page) = ask(at, "GET /").await;
        assert!(code == 200 && page.contains("1 runs") && page.contains("&lt;9&gt;"), "{page}");
        assert!(page.contains("under way") && page.contains("default-src 'none'"), "{page}");
        let folder = link(store.dir().canonicalize().unwrap().strip_prefix(root.canonicalize().unwrap()).unwrap());
        assert!(page.contains(&format!("href='{folder}'")), "{folder}: {page}");
        for inside in [folder.as_str(), "/latest", "/latest/", &format!("{folder}/test.json"), "/latest/repro.sh"] {
            assert_eq!(ask(at, &format!("GET {inside}")).await.0, 200, "{inside}");
        }
        let (_, history) = ask(at, "GET /latest/history.edn").await;
        assert!(history.ends_with(&"é".repeat(PIECE)) && history.contains("text/plain"), "longer than a piece");
        for outside in [
            "/../secret.txt",
            "/%2e%2e/secret.txt",
            "/latest/..%2f..%2f..%2fsecret.txt",
            "/latest/../../../secret.txt",
            "/latest/./../latest/test.json",
            &format!("//{}", secret.display()),
            &format!("/{}", utf8_percent_encode(&secret.to_string_lossy(), NON_ALPHANUMERIC)),
            "/latest/out.txt",
            "/up/secret.txt",
            "/up",
            "/latest/%00",
            "/nothing",
        ] {
            let (code, said) = ask(at, &format!("GET {outside}")).await;
            assert!(matches!(code, 400 | 404) && !said.contains("nobody's business"), "{outside}: {said}");
        }
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(ask(at, &format!("{method} /latest/test.json")).await.0, 405);
        }
        assert!(store.dir().join("test.json").exists());
    }
}
