//! One key is one key on every surface, or is refused by all of them.

use super::*;

/// A key as each surface is given it.
struct Name {
    form: String,
    path: String,
    /// JSON text; `None` where JSON cannot say it.
    json: Option<String>,
}

fn name(form: &str, path: &str, json: Option<&str>) -> Name {
    Name {
        form: form.to_owned(),
        path: path.to_owned(),
        json: json.map(str::to_owned),
    }
}

/// Bytes are sent as they are written here: a client's library would take steps in paths itself.
async fn ask(node: &Fixture, method: &str, target: &str, media: &str, body: &str) -> (u16, String) {
    let reply = node
        .raw(
            format!(
                "{method} {target} HTTP/1.1\r\nHost: {NODE}\r\nConnection: close\r\nContent-Type: {media}\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
        .await;
    let status = reply.get(9..12).and_then(|code| code.parse().ok());
    let body = reply
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    (status.unwrap_or_default(), body.unwrap_or_default())
}

/// The replies of every surface about a key, in this order: written and read by each; then deleted.
async fn everywhere(node: &Fixture, key: &Name) -> Vec<(String, u16, String)> {
    let Name { form, path, json } = key;
    let list = r#"{"type":"PUT","value":["v"]}"#;
    let mut calls = vec![
        (
            "PUT",
            "/kvs".to_owned(),
            FORM,
            format!("key={form}&value=v"),
        ),
        ("GET", format!("/kvs?key={form}"), FORM, String::new()),
        ("GET", format!("/read/{path}"), FORM, String::new()),
        ("GET", format!("/nodes_for_key/{path}"), FORM, String::new()),
        ("DELETE", format!("/kvs?key={form}"), FORM, String::new()),
        (
            "PUT",
            "/kvs".to_owned(),
            FORM,
            format!("key={form}&value=v"),
        ),
        ("DELETE", "/kvs".to_owned(), FORM, format!("key={form}")),
        ("POST", format!("/keys/{path}"), JSON, list.to_owned()),
        ("GET", format!("/keys/{path}"), FORM, String::new()),
        ("DELETE", format!("/keys/{path}"), FORM, String::new()),
    ];
    if let Some(json) = json {
        let written = format!(r#"{{"key":{json},"value":"v"}}"#);
        calls.extend([
            ("PUT", "/kvs".to_owned(), JSON, written.clone()),
            ("DELETE", format!("/delete/{path}"), FORM, String::new()),
            ("POST", "/write".to_owned(), JSON, written),
            ("GET", format!("/kvs?key={form}"), FORM, String::new()),
            (
                "DELETE",
                "/kvs".to_owned(),
                JSON,
                format!(r#"{{"key":{json}}}"#),
            ),
        ]);
    } else {
        calls.push(("DELETE", format!("/delete/{path}"), FORM, String::new()));
    }
    let mut said = Vec::new();
    for (method, target, media, body) in calls {
        let (status, text) = ask(node, method, &target, media, &body).await;
        said.push((format!("{method} {target} {body}"), status, text));
    }
    said
}

#[actix_web::test]
async fn a_key_is_the_same_on_every_surface() {
    let node = Fixture::start().await;
    node.has_leader().await;
    let long = "k".repeat(1024);
    let quoted = format!("\"{long}\"");
    for key in [
        name("k", "k", Some(r#""k""#)),
        name("a%2Fb", "a%2Fb", Some(r#""a/b""#)),
        name("a/b", "a%2fb", Some(r#""a\/b""#)),
        name("%2F", "%2F", Some(r#""/""#)),
        name("a%2F..%2Fb", "a%2F..%2Fb", Some(r#""a/../b""#)),
        name("...", "...", Some(r#""...""#)),
        name(".%2F", ".%2F", Some(r#""./""#)),
        name("%00", "%00", Some(r#""\u0000""#)),
        name(
            "a%00b%0A%7F",
            "a%00b%0A%7F",
            Some("\"a\\u0000b\\n\\u007f\""),
        ),
        name("a+b", "a%20b", Some(r#""a b""#)),
        name("a%2Bb", "a+b", Some(r#""a+b""#)),
        name("%25zz", "%25zz", Some(r#""%zz""#)),
        name("%252F", "%252F", Some(r#""%2F""#)),
        name("%C3%A9", "%C3%A9", Some(r#""\u00e9""#)),
        name("%3F%23%26%3D", "%3F%23&=", Some(r#""?#&=""#)),
        name("%20", "%20", Some(r#"" ""#)),
        name("%F0%9F%90%9F", "%f0%9f%90%9f", Some(r#""\ud83d\udc1f""#)),
        name(&long, &long, Some(&quoted)),
    ] {
        let said = everywhere(&node, &key).await;
        let statuses: Vec<u16> = said.iter().map(|(_, status, _)| *status).collect();
        assert_eq!(
            statuses,
            [
                201, 200, 200, 200, 200, 201, 200, 204, 200, 204, 201, 200, 200, 200, 200
            ],
            "{said:#?}"
        );
    }
}

#[actix_web::test]
async fn what_is_no_key_is_refused_by_every_surface() {
    let node = Fixture::start().await;
    node.has_leader().await;
    let long = "k".repeat(1025);
    let quoted = format!("\"{long}\"");
    for key in [
        name("", "", Some(r#""""#)),
        name(".", ".", Some(r#"".""#)),
        name("..", "..", Some(r#""..""#)),
        name("%2E", "%2e", Some(r#""\u002e""#)),
        name("%2E%2E", ".%2E", Some(r#""\u002e.""#)),
        name("%zz", "%zz", None),
        name("a%", "a%", None),
        name("a%2", "a%2", None),
        name("%FF", "%FF", None),
        name("a%C3", "a%C3", None),
        name("%ED%A0%BD", "%ED%A0%BD", Some(r#""\ud83d""#)),
        name("%C0%AF", "%C0%AF", None),
        name(&long, &long, Some(&quoted)),
    ] {
        for (call, status, text) in everywhere(&node, &key).await {
            assert_eq!(status, 400, "{call}: {text}");
            assert!(text.contains(": "), "says what to do: {call}: {text}");
        }
    }
    // A slash in a path is one that was not encoded.
    for path in ["a/b", "/", "a/", "/a", "../b", "a/.."] {
        for (method, surface) in [
            ("GET", "keys"),
            ("GET", "read"),
            ("GET", "nodes_for_key"),
            ("DELETE", "delete"),
            ("DELETE", "keys"),
        ] {
            let target = format!("/{surface}/{path}");
            let (status, text) = ask(&node, method, &target, FORM, "").await;
            assert_eq!(status, 400, "{method} {target}: {text}");
            assert!(text.contains("%2F"), "{method} {target}: {text}");
        }
    }
}
